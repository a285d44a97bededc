"""The cases of tests/data/cases that are about company files, each with a good company next to the bad one."""

from __future__ import annotations

import csv
import os
import shutil
import tomllib
from collections import Counter
from pathlib import Path

from tests.proof.dirt.judge import Row, comparable
from tests.support.case_folder import Case, loadable
from tests.support.paths import CASES

CONTESTABLE = Path(__file__).with_name("contestable.toml")
_ABOUT_THE_INDEX = {  # topics; the peers know no company index
    "a name in the index with `../`, an absolute path, a newline, a quote, `;`, `%s`",
    "file in `Stocks/` that the index does not name",
    "index names a missing file; names a file twice; blank, BOM, newline-separated, trailing comma",
}
_GOOD = "good.us.csv"  # nearly every case has it


def dirty_cases() -> list[Case]:
    """Without those whose batch fails: nothing is expected of their rows."""
    return [case for case in loadable() if case.expected["topic"] not in _ABOUT_THE_INDEX]


def contestable() -> dict[str, str]:
    """The cases of which a reasonable operator may expect other rows, and why."""
    reasons: dict[str, str] = tomllib.loads(CONTESTABLE.read_text(encoding="utf-8"))
    return reasons


def lay_out(case: Case, root: Path) -> tuple[Path, Path, Counter[Row]]:
    """The folder of exactly the files that the index names, an index of them, and the rows that are expected."""
    folder, index = root / "Stocks", root / "index.txt"
    folder.mkdir(parents=True)
    files = case.files()
    for file in files.values():
        shutil.copy(file, folder / file.name)
    sparse = case.expected.get("sparse", {})
    for name, size in sparse.items():
        with (folder / name).open("wb") as file_of_zeros:
            os.truncate(file_of_zeros.fileno(), size)
    names = [*files, *sparse]
    expected = expected_rows(case)
    if _GOOD not in names:
        shutil.copy(CASES / "crlf" / "Stocks" / _GOOD, folder / _GOOD)
        names.append(_GOOD)
        with (folder / _GOOD).open(newline="") as good:
            expected.update(comparable([*fields[:6], _GOOD]) for fields in list(csv.reader(good))[1:])
    index.write_text(", ".join(f"'{name}'" for name in names), encoding="utf-8")
    return folder, index, expected


def expected_rows(case: Case) -> Counter[Row]:
    rows = csv.reader(case.combined.decode().splitlines())
    return Counter(comparable([*fields[:6], fields[8]]) for fields in rows)
