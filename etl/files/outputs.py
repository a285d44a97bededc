"""Writes a file of the output: of new bytes, and of ranges of its last version."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from etl.batch.storage import Storage, Writer


@dataclass(frozen=True, slots=True)
class LastFile:
    """The last version of an output, which can be trusted: its name, length and version."""

    name: str
    length: int
    version: str


class OutputFile:
    """An output made of new bytes and of ranges of its last version. While it only repeats that, nothing is written.

    `last`: the last version, where that can be trusted. `may_stay`: whether it is the file itself, so that nothing has
    to be written where nothing changed. Raises FileChangedError when the last version is not there any more.
    """

    def __init__(
        self, name: str, *, output: Storage, stack: ExitStack, last: LastFile | None, may_stay: bool = True
    ) -> None:
        self.name, self._output, self._stack, self._last = name, output, stack, last
        self._repeats = last is not None and may_stay
        self._writer: Writer | None = None
        self._waiting = (0, 0)  # start and length of the range that is to be copied next
        self.length = 0

    @property
    def version(self) -> str:
        """As it was written, or as it stays; known when the stack is left."""
        one = self._writer or self._last
        return one.version if one else ""

    def write(self, content: bytes) -> None:
        """Add new bytes."""
        writer = self._begin()
        self._copy_waiting(writer)
        writer.write(content)
        self.length += len(content)

    def repeat(self, *, start: int, length: int) -> None:
        """Add a range of the last version; neighbours are copied as one."""
        if not (self._repeats and start == self.length):
            writer = self._begin()
            waiting_start, waiting_length = self._waiting
            if waiting_start + waiting_length != start:
                self._copy_waiting(writer)
                waiting_start, waiting_length = start, 0
            self._waiting = waiting_start, waiting_length + length
        self.length += length

    def append(self, name: str, *, length: int) -> None:
        """Add another file of the same storage."""
        writer = self._begin()
        self._copy_waiting(writer)
        writer.append(name, length=length)
        self.length += length

    def finish(self) -> None:
        """Copy what waits; the file appears when the stack is left."""
        if not (self._repeats and self._last and self._last.length == self.length):
            self._copy_waiting(self._begin())

    def _begin(self) -> Writer:
        if self._writer is None:
            self._writer = self._stack.enter_context(self._output.write(self.name))
            self._waiting = (0, self.length if self._repeats else 0)
            self._repeats = False
        return self._writer

    def _copy_waiting(self, writer: Writer) -> None:
        start, length = self._waiting
        if length and self._last:
            writer.append(self._last.name, start=start, length=length, version=self._last.version)
        self._waiting = (0, 0)
