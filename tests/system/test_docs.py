"""README, docs and the other texts against the repository: links, length, generated parts, and the words we use."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from tests.support import docs
from tests.support.paths import ROOT

MARKDOWN = [path for path in docs.TEXTS if path.suffix == ".md"]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_no_line_is_too_long_to_read_and_the_readme_is_no_manual() -> None:
    assert docs.long_lines() == []


@pytest.mark.parametrize("page", MARKDOWN, ids=_name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_index_of_docs_names_every_page_once() -> None:
    index = ROOT / "docs" / "README.md"
    rows = re.findall(r"^\| \[([^\]]+)\]\(([^)]+)\)", index.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(link for _, link in rows) == sorted(page.name for page in docs.PAGES if page != index)
    assert all(text == link for text, link in rows)


def test_generated_parts_are_up_to_date() -> None:
    assert [_name(page) for page in docs.stale_pages()] == [], "run: python -m tests.support.docs --write"


def test_every_generated_part_is_on_exactly_one_page() -> None:
    named = docs.block_names()
    assert sorted(named) == sorted(set(named))
    assert set(docs.blocks()) <= set(named)
    assert set(named) <= set(docs.blocks())


class Sample(StrEnum):
    """An enumeration as product code has them."""

    EMPTY = "empty"
    """The file has 0 bytes,
    or nothing but blanks."""
    PIPE = "a|b"
    """Two texts."""


def test_enumeration_becomes_a_table_of_its_texts_and_what_they_mean() -> None:
    assert docs.enumeration(Sample).splitlines()[3:5] == [
        "| `empty` | The file has 0 bytes, or nothing but blanks. |",
        r"| `a\|b` | Two texts. |",
    ]


def test_every_setting_of_product_code_is_in_the_one_list() -> None:
    listed = {name for rows in docs.env_sections().values() for names, _, _ in rows for name in names}
    read = set(docs.variables_of_product_code())
    assert read - listed - docs.NOT_IN_ENV_FILE == set(), "add it to .env.example"
    assert listed - read == set(), "nothing reads it"
    assert read >= docs.NOT_IN_ENV_FILE, "product code does not know it any more"


def test_every_variable_of_the_tests_is_in_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in sorted(docs.variables_of_tests()) if f"`{name}`" not in text] == []


def test_texts_use_the_words_of_the_list() -> None:
    assert docs.find_words(docs.TEXTS) == []


def test_product_files_use_the_words_of_the_list() -> None:
    assert docs.find_words(docs.product_files()) == []


def test_a_word_of_the_list_is_found_whatever_its_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("All is well.\nMend it, it is beside the mended_table.\n")
    assert docs.find_words([page]) == ["page.md:2: Mend -> fix", "page.md:2: beside -> next to, in addition to"]
