"""Streams rows into a table by COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import TYPE_CHECKING

from etl.signals import defer_signals

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_COPY_BLOCK_BYTES = 1 << 18


def copy_rows(cursor: Cursor, statement: str, blocks: Iterator[bytes]) -> int:
    """Stream blocks, if there are any, through a COPY statement; returns PostgreSQL's own count of the rows."""
    first = next(blocks, None)
    if first is None:
        return 0
    with defer_signals() as hear_signals:
        source = _CopySource(chain([first], blocks), hear_signals=hear_signals)
        try:
            cursor.copy_expert(statement, source, size=_COPY_BLOCK_BYTES)  # type: ignore[arg-type]
        except Exception:
            if source.error:
                raise source.error from None
            raise
    return cursor.rowcount


class _CopySource:
    """What psycopg2 reads a COPY from; it keeps the error that stopped the source, which psycopg2 would only quote.

    Signals are handled while a block is made, which may wait for S3, and not inside psycopg2.
    """

    def __init__(self, blocks: Iterator[bytes], *, hear_signals: Callable[[], AbstractContextManager[None]]) -> None:
        self._blocks, self._hear_signals = blocks, hear_signals
        self._block = b""
        self._position = 0
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        while self._position >= len(self._block):
            try:
                with self._hear_signals():
                    following = next(self._blocks, None)
            except BaseException as error:
                self.error = error
                raise
            if following is None:
                return b""
            self._block, self._position = following, 0
        start = self._position
        self._position += size
        return self._block[start : self._position]
