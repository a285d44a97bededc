"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 2.0


class CompanyFileProgress:
    """Shows `done` of `total` company files on stderr, or to `say` in lines, while its `with` block lasts."""

    def __init__(self, *, quiet: bool = False, say: Callable[[str], object] | None = None) -> None:
        self._quiet, self._say = quiet, say
        self._bar: tqdm[NoReturn] | None = None
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def __enter__(self) -> Self:
        return self

    def __call__(self, *, done: int, total: int) -> None:
        if not self._quiet:
            with suppress(OSError, ValueError):  # that nobody reads it stops no work
                self._show(done=done, total=total)

    def _show(self, *, done: int, total: int) -> None:
        if self._say is None and sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm  # noqa: PLC0415  only a terminal needs it

                self._bar = tqdm(total=total, unit="file", desc="company files", leave=False)
            self._bar.update(done - self._bar.n)
        elif done == total or time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            line = f"company files: {done:,} of {total:,}"
            self._say(line) if self._say else print(line, file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
