"""Peer: psycopg2's `execute_values`, 1000 rows a page, of a ready combined file: the load only."""

import csv
import os
import sys
from pathlib import Path

import psycopg2
from psycopg2.extras import execute_values


def main(combined: Path) -> None:
    with psycopg2.connect(os.environ["MBD_DATABASE_URL"]) as connection, connection.cursor() as cursor:
        with combined.open(newline="") as file:
            rows = ([value or None for value in row] for row in csv.reader(file))
            execute_values(cursor, "INSERT INTO historical_stocks_data VALUES %s", rows, page_size=1000)
        connection.commit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
