"""Long random sequences of batches against pandas, and a thousand changes planted behind the pipeline's back."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from etl import audit
from tests.support.journal_game import Game

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database
    from tests.support.figures import Figures

GAMES = int(os.environ.get("MBD_JOURNAL_GAMES", "60"))
PLANTED = int(os.environ.get("MBD_PLANTED_CHANGES", "1000"))
_RUNS = 25  # of a game

COLUMNS = (
    "stock_date", "open_value", "high_value", "low_value", "close_value", "volume_traded", "daily_percent_change",
    "value_change", "company_name",
)  # fmt: skip
TABLES = ("historical_stocks_data", "loaded_companies", "pipeline_runs")


@pytest.mark.parametrize("seed", range(1000, 1000 + GAMES))
@pytest.mark.usefixtures("hurried")
def test_long_random_sequence_leaves_table_past_and_journal_as_pandas_says(
    make_files: Callable[[str], Files], database: Database, figures: Figures, seed: int
) -> None:
    Game(make_files("game"), database, seed).play(_RUNS)
    figures.counts["random_runs"] += _RUNS


def plant(database: Database, dice: random.Random) -> tuple[str, str]:
    """Change something that a load wrote; gives what was done, and the name that verify must say."""
    place, name, _ = dice.choice(
        database.rows("SELECT ctid::text, company_name, count(*) OVER () FROM historical_stocks_data")
    )
    what = dice.choice(["value", "value", "value", "delete", "double", "rename", "ledger", "receipt", "no receipt"])
    if what == "value":
        column = dice.choice(COLUMNS[:-1])
        # The index by day takes nothing but days.
        values = ["NULL", "'2031-01-01'"] if column == "stock_date" else ["NULL", "'7.77'", f"{column} || '0'", "''"]
        new = dice.choice(values)
        changed = database.execute(
            f"UPDATE historical_stocks_data SET {column} = {new} WHERE ctid = %s AND {column} IS DISTINCT FROM {new}",
            place,
        )
        return f"{column} = {new}" if changed else "", name
    if what == "delete":
        database.execute("DELETE FROM historical_stocks_data WHERE ctid = %s", place)
    elif what == "double":
        database.execute(
            "INSERT INTO historical_stocks_data SELECT * FROM historical_stocks_data WHERE ctid = %s", place
        )
    elif what == "rename":
        database.execute("UPDATE historical_stocks_data SET company_name = 'x.us.csv' WHERE ctid = %s", place)
    elif what == "ledger":
        column, new = dice.choice([("sha256", "repeat('a', 64)"), ("length", "length + 1"), ("rows", "rows - 1")])
        # Of a file that is not in the order of its days, the hash of its rows by day is what can be proved.
        [(is_unsorted,)] = database.rows(
            "SELECT sha256_by_day IS NOT NULL FROM loaded_companies WHERE company_name = %s", name
        )
        if column == "sha256" and is_unsorted:
            column = "sha256_by_day"
        database.execute(f"UPDATE loaded_companies SET {column} = {new} WHERE company_name = %s", name)
    else:
        [(number, name)] = dice.sample(database.rows("SELECT number, run_id FROM pipeline_runs"), 1)
        if what == "no receipt":
            database.execute("DELETE FROM pipeline_runs WHERE number = %s", number)
            return what, "receipts"
        path = dice.choice(["{rows,read}", "{notes}", "{source}", "{state}", "{files,listed}"])
        database.execute(
            "UPDATE pipeline_runs SET receipt = jsonb_set(receipt, %s, %s) WHERE number = %s",
            path, json.dumps(["spoilt"] if path == "{notes}" else 77), number,
        )  # fmt: skip
    return what, name


@pytest.mark.usefixtures("hurried")
def test_each_of_a_thousand_planted_changes_is_found(
    make_files: Callable[[str], Files], database: Database, figures: Figures
) -> None:
    game, dice = Game(make_files("game"), database, 77), random.Random(77)
    game.play(12)
    while not game.outputs_are_loaded:
        game.play(1)
    database.execute("ALTER TABLE historical_stocks_data DISABLE TRIGGER ALL")
    for table in TABLES:
        database.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")
    output = str(game.files.output)
    found = 0
    while found < PLANTED:
        what, name = plant(database, dice)
        if not what:
            continue
        with_output = dice.random() < 0.5
        disagreements = list(audit.verify(database.url, output=output if with_output else None))
        assert disagreements, what
        assert any(name in (one.name, one.place) for one in disagreements), (what, name, disagreements)
        found += 1
        for table in TABLES:
            database.execute(f"TRUNCATE {table}")
            database.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
        assert list(audit.verify(database.url, output=output)) == []
    figures.counts["planted_changes_found"] += found
