"""Process: the company files of an index go in, the combined file, the rejected rows and the manifest come out."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Protocol, TypeVar

from etl.batch.gate import Batch
from etl.batch.storage import FileChanged, Listed, Storage, Writer
from etl.files import combined_file, manifest
from etl.files.combined_file import Slice, count_flagged, format_rows, make_slice
from etl.files.company_file import CompanyFile, QuarantinedFile, RejectedRow, parse_company_files
from etl.files.manifest import Manifest, Quarantined
from etl.files.part import Part, check_usable, describe

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

REJECTED_ROWS = "rejected_rows.csv"
_FORMULA_SIGNS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
_GROUP_BYTES = 3 << 17
LARGEST_FILE_BYTES = 16 << 20
"""A company file is held in memory while it is checked; a batch's files are under 1 MB, so more is a mistake."""


class Progress(Protocol):
    """Called as work goes on: `done` of `total` company files."""

    def __call__(self, *, done: int, total: int) -> object: ...


class Processing:
    """One pass over a batch: iterate over it to do the work; afterwards `manifest` tells what was done.

    Yields each slice with its bytes, in the index's order, as soon as it stands in the combined file, so that a load
    can take the same bytes on their way. The outputs appear under their names when the iteration is over, the manifest
    last; an error on the way leaves the old outputs. Memory holds the files in flight, never the batch.
    """

    manifest: Manifest

    def __init__(self, batch: Batch, *, output: Storage, since: date | None, progress: Progress | None = None) -> None:
        self._batch, self._output, self._since, self._progress = batch, output, since, progress

    @property
    def companies(self) -> tuple[str, ...]:
        return self._batch.index.names

    def __iter__(self) -> Generator[tuple[Slice, bytes], None, None]:
        with write_outputs(self._output) as (combined, rejected):
            files = CheckedFiles(
                self._batch, combined=combined, rejected=rejected, since=self._since, progress=self._progress
            )
            yield from files
            check_usable(files.part, batch=self._batch, since=self._since)
        self.manifest = describe(files.part, batch=self._batch, since=self._since)
        write_manifest(self.manifest, output=self._output)


@contextmanager
def write_outputs(output: Storage) -> Iterator[tuple[Writer, Writer]]:
    """The new rejected rows and combined file, which appear in this order when the block ends well."""
    with output.write(combined_file.NAME) as combined, output.write(REJECTED_ROWS) as rejected:
        rejected.write(_csv_lines([("file", "line", "column", "value", "reason")]))
        yield combined, rejected


def write_manifest(facts: Manifest, *, output: Storage) -> None:
    """Say what the outputs hold: the last thing that processing does."""
    with output.write(manifest.NAME) as file:
        file.write(facts.to_json())


class CheckedFiles:
    """One pass over the company files of a batch, or of a shard of one; after the iteration `part` tells what was done.

    Yields each slice with its bytes, its offset counted from where `combined` stood, when it has been written there.
    """

    part: Part

    def __init__(
        self, batch: Batch, *, combined: Writer, rejected: Writer, since: date | None, progress: Progress | None
    ) -> None:
        self._batch, self._combined, self._rejected = batch, combined, rejected
        self._since, self._progress = since, progress

    def __iter__(self) -> Generator[tuple[Slice, bytes], None, None]:
        batch = self._batch
        slices: list[Slice] = []
        quarantined: list[Quarantined] = []
        further_columns: dict[str, list[str]] = {}
        rows_read = rows_rejected = rows_before_since = rejected_bytes = offset = 0
        with ExitStack() as stack:
            reads = _ordered(self._read, batch.files.items(), concurrency=batch.source.concurrency)
            groups = _grouped(stack.enter_context(reads))
            checks = stack.enter_context(_ordered(self._check, groups, concurrency=os.cpu_count() or 1))
            checked_files = (one for group in checks for one in group)
            for done, (name, checked) in enumerate(checked_files, start=1):
                if isinstance(checked, QuarantinedFile):
                    rejected_rows, read = checked.rejected, len(checked.rejected)
                    quarantined.append(Quarantined(name, checked.reason))
                else:
                    rejected_rows, read = checked.rejected, checked.read
                    rows_before_since += checked.before_since
                    if checked.further_columns:
                        further_columns.setdefault(", ".join(checked.further_columns), []).append(name)
                rows_read += read
                rows_rejected += len(rejected_rows)
                if rejected_rows:
                    lines = _csv_lines(_safe_row(name, row) for row in rejected_rows)
                    rejected_bytes += len(lines)
                    self._rejected.write(lines)
                if not isinstance(checked, QuarantinedFile):
                    part = make_slice(checked.content, company_name=name, offset=offset, flagged=checked.flagged)
                    slices.append(part)
                    offset = part.end
                    self._combined.write(checked.content)
                    yield part, checked.content
                if self._progress:
                    self._progress(done=done, total=len(batch.files))
        self.part = Part(
            rows_read=rows_read,
            rows_rejected=rows_rejected,
            rows_before_since=rows_before_since,
            rejected_bytes=rejected_bytes,
            slices=tuple(slices),
            quarantined=tuple(quarantined),
            further_columns={columns: tuple(names) for columns, names in further_columns.items()},
        )

    def _read(self, named: tuple[str, Listed]) -> _Read:
        """A company file's bytes as they were listed, or why they cannot be had."""
        name, listed = named
        source = self._batch.source
        if listed.size_bytes > LARGEST_FILE_BYTES:
            limit = f"{listed.size_bytes:,} bytes, over the limit of {LARGEST_FILE_BYTES:,} for one company file"
            return name, QuarantinedFile(f"too large: {limit}")
        try:
            return name, source.read(name, version=listed.version)
        except FileChanged:
            relisted = source.listing().get(name)
        try:
            if relisted:
                return name, source.read(name, version=relisted.version)
        except FileChanged:
            pass
        return name, QuarantinedFile("replaced or removed while it was read, twice")

    def _check(self, group: list[_Read]) -> list[tuple[str, _Checked | QuarantinedFile]]:
        contents = [content for _, content in group if isinstance(content, bytes)]
        parsed = iter(parse_company_files(contents, since=self._since))
        return [
            (name, _checked(next(parsed), name=name) if isinstance(content, bytes) else content)
            for name, content in group
        ]


def _checked(parsed: CompanyFile | QuarantinedFile, *, name: str) -> _Checked | QuarantinedFile:
    if isinstance(parsed, QuarantinedFile):
        return parsed
    return _Checked(
        content=format_rows(parsed.rows, company_name=name),
        read=parsed.read,
        flagged=count_flagged(parsed.rows),
        rejected=parsed.rejected,
        before_since=parsed.before_since,
        further_columns=tuple(
            column.strip() or "(no name)" for column in parsed.extra_columns if column.strip().lower() != "openint"
        ),
    )


@dataclass(frozen=True)
class _Checked:
    """What is left of an accepted company file once its slice is written: not its rows, which take much memory."""

    content: bytes
    read: int
    flagged: int
    rejected: tuple[RejectedRow, ...]
    before_since: int
    further_columns: tuple[str, ...]


_Read = tuple[str, bytes | QuarantinedFile]


def _grouped(reads: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Neighbouring files that are checked together, because a call of Arrow costs as much as some hundred rows."""
    group: list[_Read] = []
    size = 0
    for name, content in reads:
        group.append((name, content))
        size += len(content) if isinstance(content, bytes) else 0
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


@contextmanager
def _ordered(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, concurrency: int
) -> Iterator[Iterator[_Result]]:
    """Results of `work` in the order of the items, so many at once; what is not begun is given up on leaving."""
    if concurrency == 1:
        yield map(work, items)
        return
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="company-file")

    def results() -> Iterator[_Result]:
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > concurrency + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    waits = False  # who is told to end does not wait for a silent S3
    try:
        yield results()
        waits = True
    except Exception:
        waits = True
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)


def _csv_lines(rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _safe_row(name: str, row: RejectedRow) -> tuple[object, ...]:
    """A line of the rejected rows; an apostrophe keeps a spreadsheet from running a value as a formula (OWASP).

    A semicolon or tab begins a cell too, in the spreadsheets of countries that write numbers with a comma.
    """
    value = "".join(map(_safe_cell, re.split("([;\t])", row.value)))
    return name, row.line, row.column, "'" + value if value.startswith(("\t", "\r")) else value, row.reason


def _safe_cell(text: str) -> str:
    """Signs count in full width too, and behind blanks and what is not seen, which some spreadsheets drop."""
    first = next((sign for sign in text if sign.isprintable() and not sign.isspace()), None)
    return "'" + text if first in _FORMULA_SIGNS else text
