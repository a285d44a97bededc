"""Random sequences of batches, held against plain pandas after each run (MBD_JOURNAL_GAMES of them)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.journal_game import Game

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.batch_files import Files
    from tests.support.database import Database

GAMES = int(os.environ.get("MBD_JOURNAL_GAMES", "6"))
_RUNS = 12  # of a game


@pytest.mark.parametrize("seed", range(GAMES))
@pytest.mark.usefixtures("hurried")
def test_table_past_and_journal_are_what_pandas_says_after_each_run_of_a_random_sequence(
    make_files: Callable[[str], Files], database: Database, seed: int
) -> None:
    Game(make_files("game"), database, seed).play(_RUNS)
