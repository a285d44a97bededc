"""The company files of all cases, good and bad, in one batch: the table holds what the cases say, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.proof.dirt.judge import Outcome, Ran, comparable, judge
from tests.support.case_folder import loadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.batch_files import Files
    from tests.support.database import Database


def test_company_files_of_all_cases_are_loaded_as_each_case_says(
    make_files: Callable[[str], Files], database: Database
) -> None:
    files = make_files("cases")
    names: list[str] = []
    expected: list[tuple[str | None, ...]] = []
    quarantined = rejected = flagged = 0
    for case in loadable():
        accepted = {line.rsplit(",", 1)[1] for line in case.combined.decode().splitlines()}
        refused = {entry["file"] for entry in case.expected["quarantined"]} - case.expected.get("sparse", {}).keys()
        moved = {name: f"{len(names) + number:03}.csv" for number, name in enumerate(sorted(accepted | refused))}
        for name, new in moved.items():
            (files.source / new).write_bytes(case.files()[name].read_bytes())
        names += moved.values()
        for line in case.combined.decode().splitlines():
            *fields, company = line.split(",")
            expected.append((*(field or None for field in fields), moved[company]))
        quarantined += len(refused)
        rejected += case.expected["rows"]["rejected"]
        flagged += case.expected["rows"]["flagged"]
    files.name(*names)

    receipt = files.load(database)

    assert database.table() == sorted(expected, key=lambda row: (row[8], row[0]))
    # by the judge of `make compare-dirt` too, which compares what other tools make of the same files
    found, wanted = (Counter(comparable([*row[:6], row[8]]) for row in rows) for rows in (database.table(), expected))
    assert judge(Ran(), found=found, expected=wanted) is Outcome.RIGHT
    assert (receipt.files.listed, receipt.files.quarantined) == (len(names), quarantined)
    assert (receipt.rows.inserted, receipt.rows.rejected) == (len(expected), rejected)
    assert receipt.rows.flagged == flagged
    # every cast of the view is done: one text that PostgreSQL refuses would fail the traders' every query
    [(rows, *_)] = database.rows(
        "SELECT count(*), count(stock_date), sum(open_value), sum(high_value), sum(low_value), sum(close_value), "
        "sum(volume_traded), sum(daily_percent_change), sum(value_change) FROM stock_prices"
    )
    assert rows == len(expected)
    again = files.load(database)
    assert (again.rows.inserted, again.rows.unchanged) == (0, len(expected))
