"""Process: the company files of an index go in, the combined file, the rejected rows and the manifest come out."""

from __future__ import annotations

import csv
import io
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Protocol, TypeVar

from etl import combined_file, manifest
from etl.combined_file import Slice, count_flagged, format_rows, make_slice
from etl.company_file import CompanyFile, QuarantinedFile, RejectedRow, parse_company_files
from etl.errors import BatchError
from etl.index import CompanyIndex
from etl.manifest import Manifest, Quarantined
from etl.storage import FileChanged, Listed, Storage

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

REJECTED_ROWS = "rejected_rows.csv"
_GROUP_BYTES = 3 << 17
LARGEST_FILE_BYTES = 16 << 20
"""A company file is held in memory while it is checked; a batch's files are under 1 MB, so more is a mistake."""


class Progress(Protocol):
    """Called as work goes on: `done` of `total` company files."""

    def __call__(self, *, done: int, total: int) -> object: ...


@dataclass(frozen=True)
class Batch:
    """What one run moves: the named company files, as they were listed in the source."""

    index_url: str
    index: CompanyIndex
    source: Storage
    files: dict[str, Listed]
    ignored: int


class NothingUsable(BatchError):
    """No company file of the batch has a row to load."""

    def __init__(self, message: str, *, listed: int, quarantined: tuple[Quarantined, ...]) -> None:
        super().__init__(message)
        self.listed, self.quarantined = listed, quarantined


class MissingFiles(BatchError):
    """The index names company files that are not in the source."""

    def __init__(self, message: str, *, listed: int, missing: tuple[str, ...]) -> None:
        super().__init__(message)
        self.listed, self.missing = listed, missing


def gate(index: CompanyIndex, *, index_url: str, source: Storage, grace_seconds: float = 0) -> Batch:
    """Wait until every file that the index names is listed in the source, at most `grace_seconds`.

    Lists names only, reads no file. Raises MissingFiles, naming them, when the grace is over.
    """
    deadline = time.monotonic() + grace_seconds
    while True:
        files = source.listing()
        missing = tuple(name for name in index.names if name not in files)
        left = deadline - time.monotonic()
        if not missing or left <= 0:
            break
        time.sleep(min(10.0, max(0.5, left)))
    if missing:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise MissingFiles(
            f"{len(missing)} of {len(index.names)} company files named by {index_url} are not in {source.url} "
            f"({named}). Upload them, then put the marker again.",
            listed=len(index.names),
            missing=missing,
        )
    ignored = sum(name.endswith(".csv") for name in files) - sum(name.endswith(".csv") for name in index.names)
    return Batch(index_url, index, source, {name: files[name] for name in index.names}, ignored)


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
        batch = self._batch
        slices: list[Slice] = []
        quarantined: list[Quarantined] = []
        further_columns: dict[str, list[str]] = {}
        rows_read = rows_rejected = rows_before_since = offset = 0
        with ExitStack() as stack:
            combined = stack.enter_context(self._output.write(combined_file.NAME))
            rejected = stack.enter_context(self._output.write(REJECTED_ROWS))
            rejected.write(_csv_lines([("file", "line", "column", "value", "reason")]))
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
                    rejected.write(_csv_lines(_safe_row(name, row) for row in rejected_rows))
                if not isinstance(checked, QuarantinedFile):
                    part = make_slice(checked.content, company_name=name, offset=offset, flagged=checked.flagged)
                    slices.append(part)
                    offset = part.end
                    combined.write(checked.content)
                    yield part, checked.content
                if self._progress:
                    self._progress(done=done, total=len(batch.files))
            if not any(part.rows for part in slices):
                message = _nothing_usable(quarantined, self._since, rows_before_since)
                raise NothingUsable(message, listed=len(batch.files), quarantined=tuple(quarantined))
        self.manifest = Manifest(
            source=batch.source.url,
            index=batch.index_url,
            since=self._since,
            listed=len(batch.index.names),
            rows_read=rows_read,
            rows_rejected=rows_rejected,
            rows_before_since=rows_before_since,
            slices=tuple(slices),
            quarantined=tuple(quarantined),
            notes=tuple(_notes(batch, further_columns, rows_before_since, self._since)),
        )
        with self._output.write(manifest.NAME) as file:
            file.write(self.manifest.to_json())

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
        further_columns=tuple(column for column in parsed.extra_columns if column != "OpenInt"),
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

    try:
        yield results()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _csv_lines(rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _safe_row(name: str, row: RejectedRow) -> tuple[object, ...]:
    """A line of the rejected rows; an apostrophe keeps a spreadsheet from running a value as a formula (OWASP)."""
    value = "'" + row.value if row.value.startswith(("=", "+", "-", "@", "\t", "\r")) else row.value
    return name, row.line, row.column, value, row.reason


def _notes(
    batch: Batch, further_columns: dict[str, list[str]], rows_before_since: int, since: date | None
) -> Iterator[str]:
    if since is not None:
        yield f"Only rows dated {since} or later were taken; {rows_before_since:,} older rows were left out."
    if batch.index.repeated:
        yield f"The index names {', '.join(batch.index.repeated[:5])} more than once; each is loaded once."
    if batch.ignored:
        yield f"{batch.ignored:,} CSV files in the source are not named by the index; they were left alone."
    for columns, names in further_columns.items():
        yield f"{len(names)} files have further columns, left out: {_printable(columns)} (first: {names[0]})."


def _printable(text: str) -> str:
    """Text of the batch as a note may hold it: JSON in PostgreSQL takes no NUL, and a mail no escape codes."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:200])


def _nothing_usable(quarantined: list[Quarantined], since: date | None, rows_before_since: int) -> str:
    """Why a batch without a single accepted row stops: the reasons, the most frequent first."""
    if rows_before_since:
        return (
            f"No row is dated {since} or later, {rows_before_since:,} are older. The table is unchanged. Check --since."
        )
    reasons = Counter(entry.reason for entry in quarantined).most_common(3)
    told = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    return f"No company file of the batch is usable ({told}). The table is unchanged. Mend the export, then try again."
