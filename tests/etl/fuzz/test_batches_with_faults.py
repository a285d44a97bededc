"""Whole batches of several files with faults put in by chance: what was put in is what comes out, and no more.

The other way round than an oracle that reads the file: each line and each file is made together with its fate, so that
line numbers, counts and reasons are known before anything is read. Values are compared with those of plain pandas.
"""

from __future__ import annotations

import csv
import gzip
import io
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etl
from tests.support.batch_files import process

COLUMNS = ["Date", "Open", "High", "Low", "Close", "Volume", "OpenInt"]
SPELLINGS: list[Callable[[str], str]] = [str, str.lower, str.upper, " {} ".format]


@dataclass(frozen=True)
class Made:
    """A company file with its fate: why it is quarantined, or its rows, and the line and column of each rejection."""

    content: bytes
    quarantine: str | None = None
    accepted: list[list[str]] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)


price = st.sampled_from(["1", "2.50", "0", "1e2", "0.1", "11.25", ".5", "5.", "+3", "-0", "12345.678901234567", "1e-7"])
volume = st.sampled_from(["0", "100", "2500", "1e3", "7.0", str(2**63 - 1)])
broken_cells = [
    *(
        (column, value)
        for column in (1, 2, 3, 4)
        for value in ("", "NaN", "-1", "1e400", "1_0", "=1+1", "x" * 60, "\x00")
    ),
    *((5, value) for value in ("", "1.5", "-7", str(2**63), "inf", "\uff11")),
    *((0, value) for value in ("2020-02-30", "1/2/2020", "20200102", "", "@x")),
]


@st.composite
def company_files(draw: st.DrawFn) -> Made:
    fault = draw(st.sampled_from([None] * 12 + ["0 bytes", "header only", "no header", "column", "latin-1", "gzip"]))
    order = draw(st.permutations(range(7))) if draw(st.booleans()) else list(range(7))
    has_more = draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    spell = draw(st.sampled_from(SPELLINGS))

    def written(cells: list[str]) -> str:
        moved = [cells[column] for column in order] + (["more"] if has_more else [])
        text = ",".join(moved)
        return f'"{text.replace(",", chr(34) + "," + chr(34))}"' if draw(st.integers(0, 9)) == 0 else text

    lines = [""] * draw(st.integers(0, 2))
    lines.append(written([spell(name) for name in COLUMNS]))
    accepted: list[list[str]] = []
    rejected: list[tuple[int, str]] = []
    day = date(2019, 12, 30)
    for _ in range(draw(st.integers(1, 12))):
        day += timedelta(days=draw(st.integers(1, 3)))
        cells = [day.isoformat(), draw(price), draw(price), draw(price), draw(price), draw(volume), "0"]
        match draw(
            st.sampled_from(["good"] * 6 + ["cell", "cell", "short", "long", "quote", "again", "conflict", "blank"])
        ):
            case "good":
                lines.append(written(cells))
                accepted.append(cells)
            case "cell":
                column, value = draw(st.sampled_from(broken_cells))
                lines.append(written([*cells[:column], value, *cells[column + 1 :]]))
                rejected.append((len(lines), COLUMNS[column]))
            case "short":
                lines.append(",".join(cells[: draw(st.integers(1, 6))]))
                rejected.append((len(lines), ""))
            case "long":
                lines.append(",".join([*cells, "a", "b"]))
                rejected.append((len(lines), ""))
            case "quote":
                lines.append('"' + ",".join(cells))
                rejected.append((len(lines), ""))
            case "again":
                for number in range(draw(st.integers(2, 4))):
                    lines.append(written(cells))
                    if number:
                        rejected.append((len(lines), "Date"))
                accepted.append(cells)
            case "conflict":
                for number in range(draw(st.integers(2, 4))):
                    lines.append(written([*cells[:5], str(number), "0"]))
                    rejected.append((len(lines), "Date"))
            case "blank":
                lines.append(draw(st.sampled_from(["", " ", "\t "])))
    text = end.join(lines) + (end if draw(st.booleans()) else "")
    content = (("\ufeff" if draw(st.booleans()) else "") + text).encode()
    match fault:
        case "0 bytes":
            return Made(b"", "empty")
        case "header only":
            return Made(written(COLUMNS).encode(), "no rows")
        case "no header":
            return Made(b"2020-01-02,1,2,1,1,100,0\n" + content, "no header")
        case "column":
            return Made(",".join(name for name in COLUMNS if name != "Low").encode() + b"\n1,2\n", "missing column Low")
        case "latin-1":
            return Made(content.rstrip() + end.encode() + b"\xe9", "not UTF-8 text")
        case "gzip":
            content = gzip.compress(content)
    if not accepted:
        return Made(content, "no usable row" if rejected else "no rows", [], rejected)
    return Made(content, None, accepted, rejected)


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


def of_pandas(rows: list[list[str]]) -> list[tuple[bytes | None, bytes]]:
    """Percent change (None where undefined) and value change as plain pandas computes them from the same text."""
    text = "\n".join(",".join(row[:6]) for row in rows)
    frame = pd.read_csv(io.StringIO(text), header=None, names=COLUMNS[:6], dtype=str)
    opened, closed = (frame[name].map(float) for name in ("Open", "Close"))
    change = closed - opened
    percent = (change / opened) * 100
    return [
        (None if pd.isna(one) or abs(one) == float("inf") else bits(one), bits(other))
        for one, other in zip(percent, change, strict=True)
    ]


@given(st.lists(company_files(), min_size=1, max_size=5))
@settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_faults_that_were_put_into_a_batch_are_what_its_receipt_and_outputs_tell(made: list[Made]) -> None:
    files = {f"{number}.csv": one for number, one in enumerate([*made, GOOD])}
    with tempfile.TemporaryDirectory() as folder:
        source, index, output = (Path(folder, name) for name in ("Stocks", "index.txt", "Output"))
        source.mkdir()
        for name, one in files.items():
            (source / name).write_bytes(one.content)
        index.write_text("\n".join(files))
        receipt = process(etl.Job(str(source), str(index), str(output)), run=etl.Run.begin("test"))
        combined = (output / "historical_stock_data.csv").read_text(encoding="utf-8").splitlines()
        with (output / "rejected_rows.csv").open(newline="", encoding="utf-8") as file:
            rejected = [(row["file"], int(row["line"]), row["column"]) for row in csv.DictReader(file)]

    receipt.check_balance()
    bad = {name: one.quarantine for name, one in files.items() if one.quarantine}
    assert [entry.file for entry in receipt.quarantined] == list(bad)
    assert all(entry.reason.startswith(bad[entry.file] or "") for entry in receipt.quarantined)
    accepted = [(row, name) for name, one in files.items() for row in one.accepted]
    assert rejected == [(name, *where) for name, one in files.items() for where in sorted(one.rejected)]
    assert (receipt.rows.read, receipt.rows.accepted) == (len(accepted) + len(rejected), len(accepted))
    told = [line.split(",") for line in combined]
    assert [(cells[:6], cells[8]) for cells in told] == [(row[:6], name) for row, name in accepted]
    numbers = [(bits(float(cells[6])) if cells[6] else None, bits(float(cells[7]))) for cells in told]
    assert numbers == of_pandas([row for row, _ in accepted])


GOOD = Made(
    b"Date,Open,High,Low,Close,Volume\n2020-01-02,10,12,9,11,1000\n",
    accepted=[["2020-01-02", "10", "12", "9", "11", "1000", ""]],
)
"""Closes every batch, so that none fails for want of a usable file."""
