"""The report page in a real browser: nothing is requested or complained about, and anybody can read it anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import etl
from etl.table.schema import make_tables
from tests.support import eventful_day
from tests.support.batch_files import Files
from tests.support.browser import MISSING, chromium, find_chromium
from tests.support.database import Database, emptied
from tests.support.paths import SAMPLE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.support.postgres import PostgresServer

pytest.importorskip("playwright", reason="playwright is in the group dev")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is in the group dev")
pytestmark = pytest.mark.skipif(find_chromium() is None, reason=MISSING)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@contextmanager
def shown(browser: Browser, path: Path, *, width: int = 1280, scheme: str = "light", **options: bool) -> Iterator[Page]:
    """The page in a context of its own. Nothing but the page itself was asked for, and the console is empty."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)  # type: ignore[arg-type]
    page = context.new_page()
    requests: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    yield page
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert said == []
    context.close()


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A copy of the sample, whose runs the pages below are of."""
    files = Files(tmp_path_factory.mktemp("pages"))
    shutil.copytree(SAMPLE / "Stocks", files.source)
    shutil.copytree(SAMPLE / "CompanyNames", files.index.parent)
    return files


@pytest.fixture(scope="module")
def pages(batch: Files, postgres_server: PostgresServer) -> dict[str, Path]:
    """Pages of a first load, of a day on which everything happened, and of a run that failed at the gate."""
    database = emptied(Database(postgres_server.url("stocks"), postgres_server, "stocks"))
    make_tables(database.url)
    first = batch.load(database)
    eventful_day.change(batch.source)
    second = batch.load(database)
    (batch.source / "ge.us.csv").unlink()
    with pytest.raises(etl.BatchError) as failed:
        etl.gate(batch.job(), run=(third := etl.Run.begin("test")))
    etl.record_failure(failed.value, job=batch.job(), target=etl.Target(database.url), run=third)
    runs = {"first load": first.run_id, "day after": second.run_id, "failed": third.run_id}
    return {name: batch.output / "reports" / f"{run_id}.html" for name, run_id in runs.items()}


def test_no_page_is_wider_than_its_screen(browser: Browser, pages: dict[str, Path]) -> None:
    for name, path in pages.items():
        for width in (390, 1280):
            with shown(browser, path, width=width) as page:
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} px wide in {width} px"


def test_page_reads_well_for_everybody(browser: Browser, pages: dict[str, Path]) -> None:
    for path in pages.values():
        for width, scheme in ((390, "dark"), (1280, "light")):
            with shown(browser, path, width=width, scheme=scheme, bypass_csp=True) as page:
                page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                found = axe.Axe().run(page)
                assert found.response["violations"] == [], found.generate_report()
                assert len(found.response["passes"]) > 20


def test_dark_scheme_is_dark_and_light_is_light(browser: Browser, pages: dict[str, Path]) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with shown(browser, pages["day after"], scheme="dark") as page:
        assert page.evaluate(paper) == "rgb(18, 22, 27)"
    with shown(browser, pages["day after"]) as page:
        assert page.evaluate(paper) == "rgb(255, 255, 255)"


def test_numbers_that_a_reader_sees_are_those_of_the_receipt(
    browser: Browser, pages: dict[str, Path], batch: Files
) -> None:
    receipts = batch.receipts()
    for name, path in pages.items():
        facts = receipts[path.stem]
        with shown(browser, path) as page:
            for part in ("files", "rows"):
                for key, count in facts[part].items():
                    if (part, key) not in (("files", "read"), ("files", "taken_over")):
                        assert page.locator(f"#{part}-{key}").inner_text() == f"{count:,}", (name, part, key)


def test_pictures_are_drawn_and_have_a_name(browser: Browser, pages: dict[str, Path]) -> None:
    with shown(browser, pages["day after"]) as page:
        for label in ("ge.us.csv, close from", "companies by", "Seconds and rows written"):
            picture = page.locator(f"svg[aria-label*='{label}']")
            box = picture.bounding_box()
            assert box is not None, label
            assert box["height"] > 50, label
            assert picture.locator("path").first.evaluate("one => one.getTotalLength()") > 10


def test_buttons_copy_and_keys_reach_everything(browser: Browser, pages: dict[str, Path]) -> None:
    with shown(browser, pages["day after"], accept_downloads=False) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        for name in ("sql", "pandas", "excel"):
            button = page.locator(f"button[data-copies={name}-text]")
            button.focus()
            page.keyboard.press("Enter")
            page.wait_for_function("one => one.textContent === 'Copied'", arg=button.element_handle())
            assert page.evaluate("navigator.clipboard.readText()") == page.locator(f"#{name}-text").text_content()
        scrolled = page.locator(".scroll")
        assert scrolled.count() == page.locator(".scroll[tabindex='0'][role=region][aria-label]").count() > 3


def test_page_prints_all_that_is_folded(browser: Browser, pages: dict[str, Path]) -> None:
    with shown(browser, pages["first load"]) as page:
        assert page.locator("details:not([open])").count() > 0
        printed = page.pdf()
        assert printed.startswith(b"%PDF")
        assert page.locator("details:not([open])").count() == 0
