"""What init-db makes, as the database itself tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.table.schema import make_tables
from tests.support.brief import BRIEF

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database


def test_table_has_exactly_the_nine_columns_of_the_brief_in_their_order(database: Database) -> None:
    table = BRIEF["table"]
    columns = database.rows(
        "SELECT column_name, data_type || '(' || character_maximum_length || ')', is_nullable, column_default "
        f"FROM information_schema.columns WHERE table_name = '{table['name']}' ORDER BY ordinal_position"
    )
    assert columns == [(name, table["type"], "YES" if table["nullable"] else "NO", None) for name in table["columns"]]


def test_table_has_no_index_or_constraint_that_a_copy_would_pay_for(database: Database) -> None:
    assert database.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'historical_stocks_data'") == []
    assert database.rows("SELECT conname FROM pg_constraint WHERE conrelid = 'historical_stocks_data'::regclass") == []


def test_init_db_twice_keeps_the_rows(database: Database, three: Files, command: Command) -> None:
    three.load(database)
    table, ledger = database.table(), database.ledger()
    assert command("init-db", "--database-url", database.url).code == 0
    assert (database.table(), database.ledger(), database.states()) == (table, ledger, ["success"])


def test_init_db_fills_an_empty_database(empty_database: Database, command: Command) -> None:
    answer = command("init-db", "--database-url", empty_database.url)
    assert (answer.code, answer.err) == (0, "")
    assert empty_database.count() == 0
    tables = empty_database.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    assert sorted(name for (name,) in tables) == [
        "changes_by_hand",
        "flag_changes",
        "flagged_rows",
        "historical_stocks_data",
        "ledger_changes",
        "loaded_companies",
        "loads",
        "pipeline_runs",
        "price_changes",
        "quarantined_files",
        "rejected_rows",
        "restatements",
        "stock_batch_status",
        "stock_data_status",
        "stock_freshness_rules",
        "stock_latest_prices",
        "stock_price_changes",
        "stock_price_flag_changes",
        "stock_price_flags",
        "stock_price_loads",
        "stock_prices",
        "stock_prices_as_written",
        "stock_prices_unflagged",
        "stock_returns",
    ]


def test_view_is_typed_and_named_as_the_table(database: Database) -> None:
    columns = database.rows(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_name = 'stock_prices' ORDER BY ordinal_position"
    )
    assert columns == [
        ("stock_date", "date"),
        *((name, "numeric") for name in BRIEF["table"]["columns"][1:5]),
        ("volume_traded", "bigint"),
        *((name, "numeric") for name in BRIEF["table"]["columns"][6:8]),
        ("company_name", "character varying"),
    ]


def test_tables_view_and_every_column_of_the_view_have_a_comment(database: Database) -> None:
    relations = (
        *("historical_stocks_data", "loaded_companies", "pipeline_runs", "loads", "price_changes", "restatements"),
        *("ledger_changes", "stock_prices", "stock_price_changes", "stock_price_loads", "stock_prices_unflagged"),
        *("rejected_rows", "quarantined_files", "flagged_rows", "flag_changes", "stock_price_flags"),
        "stock_price_flag_changes",
    )
    comments = database.rows("SELECT obj_description(name::regclass) FROM unnest(%s) AS name", list(relations))
    assert all(comment for (comment,) in comments)
    on_columns = database.rows(
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = 'stock_prices'::regclass AND attnum > 0"
    )
    assert [name for name, comment in on_columns if not comment] == []
    assert len(on_columns) == 9


def test_view_is_there_again_after_somebody_dropped_it(database: Database) -> None:
    database.execute("DROP VIEW stock_prices CASCADE")
    make_tables(database.url)
    assert database.rows("SELECT * FROM stock_prices") == []
