"""A run that was disturbed goes in; it has ended well, or with exactly one mail and the table as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import psycopg2
import pytest

from tests.support.compose_system import ComposeSystem
from tests.support.paths import SAMPLE
from tests.support.process import StackError

SUBJECTS = {"success": "Ada_Lovelace_Pipeline_Success", "failed": "Ada_Lovelace_Pipeline_Failure"}


def upload_sample(system: ComposeSystem) -> None:
    files = {path.name: path for path in (SAMPLE / "Stocks").iterdir()}
    *_, uploaded = system.upload(files, index=(SAMPLE / "CompanyNames" / "top_companies.txt").read_bytes())
    assert uploaded == len(files)


def rows_of_sample() -> int:
    return sum(len(pd.read_csv(path)) for path in (SAMPLE / "Stocks").iterdir() if path.stat().st_size)


def rows_in_table(system: ComposeSystem) -> int:
    with psycopg2.connect(system.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM historical_stocks_data")
        [count] = cursor.fetchone() or (0,)
    return int(count)


def begin_anew(system: ComposeSystem) -> None:
    """The sample is in S3, the table is empty, and no mail of another run waits."""
    upload_sample(system)
    system.forget_mails()
    empty_table(system)


def empty_table(system: ComposeSystem) -> None:
    with psycopg2.connect(system.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")


@contextmanager
def loads_held_up(system: ComposeSystem) -> Iterator[None]:
    """No load gets beyond its first statement: we hold the lock that it waits for."""
    connection = psycopg2.connect(system.database_url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('historical_stocks_data'))")
        yield
    finally:
        connection.close()


def expect_one_mail(system: ComposeSystem, run_id: str) -> str:
    """The run's state, once it has ended, told by one mail, and left the table as it was (empty) or as it should be."""
    state = system.finish(run_id)
    mail = system.receive_mail(seconds=120)
    assert mail.subject == SUBJECTS[state]
    with pytest.raises(StackError, match="Nothing came"):
        system.receive_mail(seconds=5)
    rows = rows_in_table(system)
    assert rows in ({rows_of_sample()} if state == "success" else {0, rows_of_sample()})
    return state
