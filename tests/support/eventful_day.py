"""Changes the sample batch as a day would on which everything happens, and takes the picture of its report page.

python -m tests.support.eventful_day PICTURE.png
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import etl
from etl.table.schema import make_tables
from tests.support.batch_files import Files
from tests.support.browser import chromium
from tests.support.database import Database
from tests.support.paths import SAMPLE
from tests.support.postgres import PostgresServer

NEXT_DAY = "2017-11-13"


def change(source: Path) -> None:
    """Restate ge, correct a price of blj, cut otex off, spoil tlk and three rows of smg; most grow by one day."""
    for path in source.iterdir():
        header, *rows = path.read_text().splitlines() or [""]
        if not rows:
            continue
        if path.name == "ge.us.csv":
            rows = [_times(row, 0.97) for row in rows[:-10]] + rows[-10:]
        elif path.name == "blj.us.csv":
            day, opened, high, low, close, *rest = rows[600].split(",")
            rows[600] = ",".join([day, opened, high, low, f"{float(close) * 0.97:.5g}", *rest])
        elif path.name == "otex.us.csv":
            rows = rows[: len(rows) // 2]
        elif path.name == "tlk.us.csv":
            header = header.replace("Open,", "Opening,")
        elif path.name == "smg.us.csv":
            for number, bad in ((3, "13/11/2017"), (40, "2017-02-30"), (900, "soon")):
                rows[number] = bad + rows[number][len("2017-11-13") :]
        if path.name != "otex.us.csv" and rows[-1].startswith("2017-11-10"):
            move = 10 if path.name == "pso.us.csv" else 1 + (sum(path.name.encode()) % 41 - 20) / 500
            rows.append(NEXT_DAY + _times(rows[-1], move)[len(NEXT_DAY) :])
        path.write_text("\n".join([header, *rows]) + "\n")


def _times(row: str, factor: float) -> str:
    day, *prices, volume, interest = row.split(",")
    return ",".join([day, *(f"{float(price) * factor:.5g}" for price in prices), volume, interest])


def main(picture: str) -> None:
    """Load the sample, change it, load it again, and photograph the top of the page of that run."""
    folder = Path(tempfile.mkdtemp(prefix="eventful-"))
    folder.chmod(0o755)
    picture = str(Path(picture).resolve())
    os.chdir(folder)  # so that no place on the page names this machine's folders
    try:
        with PostgresServer(folder / "postgres", databases=("stocks",)) as server:
            files = Files(Path())
            shutil.copytree(SAMPLE / "Stocks", files.source)
            shutil.copytree(SAMPLE / "CompanyNames", files.index.parent)
            database = Database(server.url("stocks"), server, "stocks")
            make_tables(database.url)
            files.load(database)
            change(files.source)
            run_id = files.load(database).run_id
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 920, "height": 1000}, device_scale_factor=0.8)
            page.goto((files.output / "reports" / f"{run_id}.html").resolve().as_uri())
            end = page.locator("figure.plot").first.bounding_box()
            height = end["y"] + end["height"] if end else 1000
            page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": 920, "height": height})
    finally:
        shutil.rmtree(folder)
    print(f"{picture}: {Path(picture).stat().st_size:,} bytes, with version {etl.code_version()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
