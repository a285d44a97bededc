"""A Chromium that is installed on this machine, driven by playwright: nothing is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MISSING = (
    "No Chromium is installed, in which the report page is looked at. On Debian: apt install chromium; elsewhere any "
    "of chromium, chromium-browser, google-chrome on the PATH."
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The program's path."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, without a window. Raises RuntimeError where there is none."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  the lowest versions are tested without it

    program = find_chromium()  # CI runs as root, hence without its sandbox; grey letters make smaller pictures
    if program is None:
        raise RuntimeError(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-lcd-text"])
        try:
            yield browser
        finally:
            browser.close()
