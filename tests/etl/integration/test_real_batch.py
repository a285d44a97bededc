"""The real batch of 1000 companies, moved whole by `python -m etl run`, and held against plain pandas."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psycopg2
import pytest

from etl.table.schema import make_tables
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

ARCHIVE = os.environ.get("MBD_REAL_BATCH", "")
pytestmark = pytest.mark.skipif(
    not ARCHIVE, reason="set MBD_REAL_BATCH to the real batch: MBD_REAL_BATCH=/path/to/stocks-1000.tar.xz make test"
)
LARGEST_PEAK_KILOBYTES = 200 * 1024
EMPTY = {f"{name}.us.csv" for name in ("znwaa", "sail", "jt", "stnl", "bxg")}
# A process inherits the peak of the one that it is started from, so a small one stands between this and the measured.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
PRICES = ["Open", "High", "Low", "Close"]


@dataclass(frozen=True)
class Moved:
    """Two runs of the real batch: their receipts, peak memory in kB, and sha256 of the combined file each time."""

    url: str
    root: Path
    receipts: list[dict[str, Any]]
    peaks: list[int]
    digests: list[str]


def _run_command(root: Path, url: str) -> tuple[dict[str, Any], int]:
    """`python -m etl run` in a process of its own: its receipt, and the most memory it held, in kB."""
    places = ["--source", f"{root}/Stocks", "--index", f"{root}/CompanyNames/top_companies.txt"]
    command = [sys.executable, "-m", "etl", "run", *places, "--output", f"{root}/Output", "--json", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "MBD_DATABASE_URL": url},
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), int(done.stderr.split()[-1])


@pytest.fixture(scope="module")
def moved(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    root = tmp_path_factory.mktemp("real")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    assert (root / "Stocks").is_dir(), f"{ARCHIVE} holds no Stocks/"
    session = psycopg2.connect(postgres_server.url("postgres"))
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute("CREATE DATABASE real_batch")
    url = postgres_server.url("real_batch")
    make_tables(url)
    receipts, peaks, digests = [], [], []
    for _ in range(2):
        receipt, peak = _run_command(root, url)
        receipts.append(receipt)
        peaks.append(peak)
        digests.append(hashlib.sha256((root / "Output" / "historical_stock_data.csv").read_bytes()).hexdigest())
    yield Moved(url, root, receipts, peaks, digests)
    with session.cursor() as cursor:
        cursor.execute("DROP DATABASE real_batch WITH (FORCE)")
    session.close()
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def table(moved: Moved) -> pd.DataFrame:
    """All nine columns of all rows as text, NULL as <NA>, in the order of company and day."""
    answer = io.BytesIO()
    session = psycopg2.connect(moved.url)
    with session.cursor() as cursor:
        cursor.copy_expert("COPY historical_stocks_data TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)", answer)
    session.close()
    answer.seek(0)
    rows = pd.read_csv(answer, dtype="string", keep_default_na=False, na_values=[""])
    return rows.sort_values(["company_name", "stock_date"], ignore_index=True)


@pytest.fixture(scope="module")
def source(moved: Moved) -> pd.DataFrame:
    """The files' six columns as text and their name, as plain pandas reads them, in the order of name and day."""
    frames = []
    for path in sorted((moved.root / "Stocks").iterdir()):
        if path.stat().st_size:
            frames.append(pd.read_csv(path, dtype="string", keep_default_na=False).assign(company_name=path.name))
    return pd.concat(frames, ignore_index=True).sort_values(["company_name", "Date"], ignore_index=True)


def test_995_of_1000_files_are_accepted_and_5_quarantined_with_their_reason(moved: Moved) -> None:
    first = moved.receipts[0]
    assert first["state"] == "success"
    assert first["files"].items() >= {"listed": 1000, "accepted": 995, "quarantined": 5, "missing": 0}.items()
    assert first["quarantined"] == [
        {"file": entry["file"], "reason": "empty: 0 bytes"} for entry in first["quarantined"]
    ]
    assert {entry["file"] for entry in first["quarantined"]} == EMPTY


def test_every_row_is_accounted_for(moved: Moved) -> None:
    rows = dict(moved.receipts[0]["rows"])
    rows.pop("flagged")
    assert rows == {
        "read": 2_054_899,
        "accepted": 2_054_899,
        "rejected": 0,
        "inserted": 2_054_899,
        "deleted": 0,
        "unchanged": 0,
    }


def test_second_run_changes_nothing_and_says_so(moved: Moved) -> None:
    first, second = moved.receipts
    assert second["rows"] == {**first["rows"], "inserted": 0, "deleted": 0, "unchanged": 2_054_899}
    assert f"Same content as run {first['run_id']}." in second["notes"]


def test_combined_file_is_the_same_bytes_twice_and_has_no_header(moved: Moved, table: pd.DataFrame) -> None:
    assert moved.digests[0] == moved.digests[1]
    content = (moved.root / "Output" / "historical_stock_data.csv").read_bytes()
    assert content.count(b"\n") == len(table)
    assert content[:4].isdigit()
    assert b"Date" not in content
    assert b"\r" not in content


def test_peak_memory_is_at_most_200_mb(moved: Moved) -> None:
    assert max(moved.peaks) <= LARGEST_PEAK_KILOBYTES, f"peak {moved.peaks} kB"


def test_table_holds_the_facts_of_the_batch(table: pd.DataFrame) -> None:
    assert len(table) == 2_054_899
    assert table.company_name.nunique() == 995
    assert (table.stock_date.min(), table.stock_date.max()) == ("1962-01-02", "2017-11-10")
    assert int((table.stock_date >= "2007-11-10").sum()) == 1_559_432
    sizes = table.groupby("company_name").size()
    assert (sizes.min(), sizes["ccv-cl.us.csv"], sizes.max(), sizes["ge.us.csv"]) == (1, 1, 14_058, 14_058)
    opened, high, low, closed = (
        table[name].astype("float64") for name in ("open_value", "high_value", "low_value", "close_value")
    )
    assert float(table.value_change.astype("float64").sum()) == pytest.approx(-8977.026547999994, rel=1e-9)
    assert (float(opened.mean()), float(closed.mean())) == pytest.approx((24.828452685552428, 24.824084088094356))
    wrong = table[high < low]
    assert set(zip(wrong.company_name, wrong.stock_date, strict=True)) == {
        ("eix.us.csv", "2010-07-12"),
        ("wcn.us.csv", "2006-11-03"),
        ("two.us.csv", "2013-06-14"),
    }
    assert int((low == 0).sum()) == 3


def test_percent_change_is_null_in_the_one_row_with_open_0(table: pd.DataFrame) -> None:
    undefined = table[table.daily_percent_change.isna()]
    assert list(zip(undefined.company_name, undefined.stock_date, strict=True)) == [("blj.us.csv", "2008-02-07")]
    assert float(str(undefined.open_value.iloc[0])) == 0
    assert not table.drop(columns="daily_percent_change").isna().to_numpy().any()


def test_source_fields_are_stored_as_they_were_written(table: pd.DataFrame, source: pd.DataFrame) -> None:
    columns = ["stock_date", "open_value", "high_value", "low_value", "close_value", "volume_traded", "company_name"]
    for ours, theirs in zip(columns, ["Date", *PRICES, "Volume", "company_name"], strict=True):
        assert (table[ours] == source[theirs]).all(), ours


def test_every_float64_of_both_derived_columns_is_that_of_plain_pandas(
    table: pd.DataFrame, source: pd.DataFrame
) -> None:
    opened, closed = (np.array(list(map(float, source[name].tolist()))) for name in ("Open", "Close"))
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = ((closed - opened) / opened) * 100
    change = closed - opened
    percent[opened == 0] = np.nan
    loaded_percent = np.array(list(map(float, table.daily_percent_change.fillna("nan").tolist())))
    loaded_change = np.array(list(map(float, table.value_change.tolist())))
    defined = ~np.isnan(percent)
    assert (np.isnan(loaded_percent) == ~defined).all()
    assert (loaded_percent[defined].view("int64") == percent[defined].view("int64")).all()
    assert (loaded_change.view("int64") == change.view("int64")).all()


def test_view_reads_every_row(moved: Moved) -> None:
    session = psycopg2.connect(moved.url)
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT count(stock_date), count(open_value), count(volume_traded), count(daily_percent_change), "
            "count(value_change), min(stock_date)::text FROM stock_prices WHERE volume_traded >= 0 AND high_value >= 0"
        )
        answer = cursor.fetchone()
    session.close()
    assert answer == (2_054_899, 2_054_899, 2_054_899, 2_054_898, 2_054_899, "1962-01-02")
