"""Triggers and rules of somebody else on the table: what each way to load does, and that nothing is there twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import etl

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

Days = Callable[..., list[str]]
_FUNCTION = "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$; "
_TRIGGER = "CREATE TRIGGER meddle BEFORE {} ON historical_stocks_data FOR EACH ROW EXECUTE FUNCTION meddle()"
# What somebody put on the table, and what of it the way to load meets: a DELETE, an INSERT, a COPY.
MEDDLERS = {
    "trigger that keeps rows": (_FUNCTION.format("RETURN NULL;") + _TRIGGER.format("DELETE"), {"delete"}),
    "trigger that takes no rows": (_FUNCTION.format("RETURN NULL;") + _TRIGGER.format("INSERT"), {"insert", "copy"}),
    "trigger that takes some rows": (
        _FUNCTION.format("IF NEW.stock_date > '2001-01-03' THEN RETURN NULL; END IF; RETURN NEW;")
        + _TRIGGER.format("INSERT"),
        {"insert", "copy"},
    ),
    "trigger that freezes the table": (
        _FUNCTION.format("RETURN NULL;") + _TRIGGER.format("INSERT OR DELETE"), {"delete", "insert", "copy"},
    ),
    "rule against DELETE": (
        "CREATE RULE meddle AS ON DELETE TO historical_stocks_data DO INSTEAD NOTHING", {"delete"},
    ),
    "rule against INSERT": (
        "CREATE RULE meddle AS ON INSERT TO historical_stocks_data DO INSTEAD NOTHING", {"insert"},
    ),
    "rules that freeze the table": (
        "CREATE RULE meddle AS ON DELETE TO historical_stocks_data DO INSTEAD NOTHING; "
        "CREATE RULE meddle_too AS ON INSERT TO historical_stocks_data DO INSTEAD NOTHING", {"delete", "insert"},
    ),
    "trigger that renames": (
        _FUNCTION.format("NEW.company_name := upper(NEW.company_name); RETURN NEW;") + _TRIGGER.format("INSERT"),
        {"insert", "copy"},
    ),
    "trigger that renames to a neighbour": (
        _FUNCTION.format("NEW.company_name := 'bb.us.csv'; RETURN NEW;") + _TRIGGER.format("INSERT"),
        {"insert", "copy"},
    ),
    "trigger that changes every other name": (
        _FUNCTION.format("IF NEW.stock_date > '2001-01-03' THEN NEW.company_name := 'x'; END IF; RETURN NEW;")
        + _TRIGGER.format("INSERT"),
        {"insert", "copy"},
    ),
}  # fmt: skip

REMOVE = (
    "DROP TRIGGER IF EXISTS meddle ON historical_stocks_data; DROP FUNCTION IF EXISTS meddle; "
    "DROP RULE IF EXISTS meddle ON historical_stocks_data; DROP RULE IF EXISTS meddle_too ON historical_stocks_data"
)


def _first_load(files: Files, database: Database, _: Days) -> Callable[[], object]:
    return lambda: files.load(database)


def _tail(files: Files, database: Database, days: Days) -> Callable[[], object]:
    files.load(database)
    files.put("cc.us.csv", days(24, price=30))
    return lambda: files.load(database)


def _difference(files: Files, database: Database, days: Days) -> Callable[[], object]:
    files.load(database)
    files.put("cc.us.csv", days(20, price=31))
    return lambda: files.load(database)


def _whole(files: Files, database: Database, days: Days) -> Callable[[], object]:
    """Every row of a company times one factor, which is not looked for row by row where the table is ours alone."""
    files.load(database)
    halved = [row.split(",") for row in days(20, price=30)]
    files.put(
        "cc.us.csv", [",".join([row[0], *(str(float(cell) / 2) for cell in row[1:5]), *row[5:]]) for row in halved]
    )
    return lambda: files.load(database)


def _undo(files: Files, database: Database, days: Days) -> Callable[[], object]:
    _difference(files, database, days)()
    return lambda: etl_undo(database)


def _reload(files: Files, database: Database, _: Days) -> Callable[[], object]:
    """After somebody doubled one company's rows and changed another's."""
    files.load(database)
    database.execute(
        "INSERT INTO historical_stocks_data SELECT * FROM historical_stocks_data WHERE company_name = 'aa.us.csv'"
    )
    database.execute("UPDATE historical_stocks_data SET open_value = '77' WHERE company_name = 'cc.us.csv'")
    return lambda: files.load(database, reload=True)


def _reload_of_doubled_rows(files: Files, database: Database, _: Days) -> Callable[[], object]:
    files.load(database)
    database.execute("INSERT INTO historical_stocks_data SELECT * FROM historical_stocks_data")
    return lambda: files.load(database, reload=True)


def etl_undo(database: Database) -> etl.Receipt:
    from etl.audit import undo  # noqa: PLC0415

    return undo(database.url, run=etl.Run.begin("test"))


WAYS = {
    "first load": (_first_load, {"copy"}),
    "tail": (_tail, {"copy"}),
    "difference": (_difference, {"delete", "insert"}),
    "whole": (_whole, {"delete", "insert"}),
    "undo": (_undo, {"delete", "insert"}),
    "reload": (_reload, {"delete", "insert"}),
    "reload of doubled rows": (_reload_of_doubled_rows, {"delete"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_load_that_foreign_code_meddles_with_fails_and_leaves_all_as_it_was(
    three: Files, database: Database, days: Days, way: str
) -> None:
    prepare, does = WAYS[way]
    act = prepare(three, database, days)
    before = _all_of(database)
    for name, (statements, meets) in MEDDLERS.items():
        if does & meets:
            database.execute(statements)
            with pytest.raises(etl.SettingsError, match=r"Nothing was loaded\. Look for a trigger"):
                act()
            assert _all_of(database) == before, name
            database.execute(REMOVE)
    for name, (statements, meets) in MEDDLERS.items():
        if not does & meets:  # it is on the table, and in nobody's way
            database.execute(statements)
            act()
            counts = {"aa.us.csv": 5, "bb.us.csv": 10, "cc.us.csv": 24 if way == "tail" else 20}
            assert database.companies() == counts, name
            return


@pytest.mark.parametrize(("event", "done"), [("DELETE", 20), ("INSERT OR DELETE", 0)])
def test_error_says_how_many_deletions_and_insertions_the_table_took(
    three: Files, database: Database, days: Days, event: str, done: int
) -> None:
    act = _difference(three, database, days)
    database.execute(_FUNCTION.format("RETURN NULL;") + _TRIGGER.format(event))
    with pytest.raises(etl.SettingsError, match=f"it took {done} of 40 deletions and insertions"):
        act()


def test_company_of_one_row_that_the_table_did_not_take_is_named_with_its_counts(
    three: Files, database: Database, days: Days
) -> None:
    three.put("aa.us.csv", days(1))
    three.name("aa.us.csv")
    database.execute(_FUNCTION.format("RETURN NULL;") + _TRIGGER.format("INSERT"))
    with pytest.raises(etl.SettingsError, match=r"of 1 companies \(aa\.us\.csv: 0 rows, 1 given\)"):
        three.load(database)


def _all_of(database: Database) -> tuple[object, ...]:
    return database.table(), database.ledger(), database.rows("SELECT * FROM price_changes ORDER BY 1, 4, 5")
