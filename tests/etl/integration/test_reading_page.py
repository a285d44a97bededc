"""docs/reading.md and the notebook: each example gives the output that is printed below it, to a reader's login."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support import reading
from tests.support.database import Database, emptied

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def reader(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a reader of both editions."""
    database = emptied(Database(postgres_server.url("stocks"), postgres_server, "stocks"))
    yield reading.load_editions(database, tmp_path_factory.mktemp("editions"))
    emptied(database)
    database.execute("DROP OWNED BY ada; DROP ROLE ada")


def test_examples_of_the_page_give_the_outputs_that_are_printed_there(reader: dict[str, str]) -> None:
    page = reading.PAGE.read_text(encoding="utf-8")
    assert len(re.findall("```text", page)) >= 11
    assert reading.made_page(page, reader) == page, "run: python -m tests.support.reading --write"


def test_notebook_gives_the_outputs_that_are_in_it(reader: dict[str, str]) -> None:
    text = reading.NOTEBOOK.read_text(encoding="utf-8")
    made = reading.made_notebook(text, reader)
    assert reading.without_pictures(made) == reading.without_pictures(text), (
        "run: python -m tests.support.reading --write"
    )


def test_notebook_is_small_and_names_no_place_of_a_machine() -> None:
    text = reading.NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 60_000
    assert not re.search(r"/(?:home|tmp|work|root|Users)/|127\.0\.0\.1|password", text)
    outputs = [output for cell in json.loads(text)["cells"] for output in cell.get("outputs", ())]
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data"}, "no warnings, no errors"
    assert sum("image/png" in output["data"] for output in outputs) == 1


def test_example_that_gives_something_else_is_noticed(reader: dict[str, str]) -> None:
    query = "```sql\nSELECT companies FROM stock_batch_status;\n```"
    example = f"{query}\n\n```text\n companies\n-----------\n        34\n(1 row)\n```"
    assert reading.made_page(example, reader) == example.replace("34", "35")
