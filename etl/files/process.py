"""Turns the company files of a plan into the combined file, the rejected rows and the manifest."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from typing import Protocol, TypeVar

from etl.batch.plan import Plan
from etl.batch.storage import Listed, Storage, Writer
from etl.errors import FileChangedError
from etl.files.combined_file import CombinedFile, make_slice
from etl.files.company_file import CompanyFile, UnusableFile, check_company_file
from etl.files.manifest import Manifest, QuarantinedFile, Slice, check_usable, join
from etl.files.outputs import rejected_lines, write_manifest, write_outputs
from etl.files.rules import QuarantineReason
from etl.files.shards import write_shard

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

LARGEST_FILE_BYTES = 16 << 20
"""A company file is held in memory while it is checked; a batch's files are under 1 MB, so more is a mistake."""


class Progress(Protocol):
    """Called as work goes on: `done` of `total` company files."""

    def __call__(self, *, done: int, total: int) -> object: ...


class Processing:
    """Processes one shard of a plan: iterate over `slices` to do the work; afterwards `manifest` says what was made.

    The only shard of a plan writes the outputs themselves. Of several, each writes into the run's work folder, from
    where `combine_shards` takes them. Files appear under their names when the iteration is over, the manifest last; an
    error on the way leaves the old ones. Memory holds the files in flight, never the batch.
    """

    manifest: Manifest

    def __init__(
        self,
        plan: Plan,
        *,
        shard: int = 0,
        source: Storage,
        output: Storage,
        run_id: str,
        since: date | None,
        progress: Progress | None = None,
    ) -> None:
        self._plan, self._shard, self._since, self._progress = plan, shard, since, progress
        self._source, self._output, self._run_id = source, output, run_id
        self._work = self._process()

    @property
    def companies(self) -> tuple[str, ...]:
        return tuple(self._plan.shards[self._shard])

    def slices(self, wanted: Callable[[Slice], bool]) -> Iterator[tuple[Slice, bytes]]:  # noqa: ARG002  all pass by
        """Every slice with its bytes, whether it is `wanted` or not, as soon as it is in the combined file."""
        return self._work

    def finish(self) -> CombinedFile:
        """Do what is left to do; returns what was made."""
        for _ in self._work:
            pass
        return CombinedFile(self.manifest, self._output)

    def close(self) -> None:
        """Give up what is not finished: the old outputs stay."""
        self._work.close()

    def _process(self) -> Generator[tuple[Slice, bytes], None, None]:
        if len(self._plan.shards) == 1:
            with write_outputs(self._output) as (combined, rejected):
                yield from self._check_files(combined, rejected)
                self.manifest = join([self.manifest], plan=self._plan)
                check_usable(self.manifest)
            write_manifest(self.manifest, output=self._output)
        else:
            with write_shard(self._shard, output=self._output, run_id=self._run_id) as shard:
                yield from self._check_files(shard.combined, shard.rejected)
                shard.manifest = self.manifest

    def _check_files(self, combined: Writer, rejected: Writer) -> Generator[tuple[Slice, bytes], None, None]:
        files = self._plan.shards[self._shard]
        slices: list[Slice] = []
        quarantined: list[QuarantinedFile] = []
        extra_columns: dict[str, list[str]] = {}
        rows_read = rows_rejected = rows_before_since = rejected_bytes = 0
        with ExitStack() as stack:
            reads = _map_in_order(self._read, files.items(), concurrency=self._source.concurrency)
            read = stack.enter_context(reads)
            checks = stack.enter_context(_map_in_order(self._check, read, concurrency=os.cpu_count() or 1))
            for done, (name, checked) in enumerate(checks, start=1):
                rows_read += checked.read
                rows_rejected += len(checked.rejected)
                if checked.rejected:
                    lines = rejected_lines(name, checked.rejected)
                    rejected_bytes += len(lines)
                    rejected.write(lines)
                if isinstance(checked, UnusableFile):
                    quarantined.append(QuarantinedFile(name, checked.reason))
                else:
                    rows_before_since += checked.before_since
                    if left_out := _left_out(checked.extra_columns):
                        extra_columns.setdefault(left_out, []).append(name)
                    offset = slices[-1].end if slices else 0
                    entry = make_slice(checked.content, company_name=name, offset=offset, flagged=checked.flagged)
                    slices.append(entry)
                    combined.write(checked.content)
                    yield entry, checked.content
                if self._progress:
                    self._progress(done=done, total=len(files))
        self.manifest = Manifest(
            source=self._source.url,
            company_index=self._plan.company_index,
            since=self._since,
            listed=len(files),
            rows_read=rows_read,
            rows_rejected=rows_rejected,
            rows_before_since=rows_before_since,
            slices=tuple(slices),
            quarantined=tuple(quarantined),
            rejected_bytes=rejected_bytes,
            extra_columns=extra_columns,
        )

    def _read(self, named: tuple[str, Listed]) -> tuple[str, bytes | UnusableFile]:
        """A company file's bytes as they were listed, or as they are now, or why they are not available."""
        name, listed = named
        if listed.size_bytes > LARGEST_FILE_BYTES:
            reason = QuarantineReason.TOO_LARGE.format(size_bytes=listed.size_bytes, limit_bytes=LARGEST_FILE_BYTES)
            return name, UnusableFile(reason)
        try:
            return name, self._source.read(name, version=listed.version)
        except FileChangedError:
            pass
        try:
            return name, self._source.read(name, version=self._source.find(name).version)
        except FileChangedError:
            return name, UnusableFile(QuarantineReason.CHANGED)

    def _check(self, read: tuple[str, bytes | UnusableFile]) -> tuple[str, CompanyFile | UnusableFile]:
        name, content = read
        if isinstance(content, UnusableFile):
            return name, content
        return name, check_company_file(content, company_name=name, since=self._since)


def _left_out(extra_columns: tuple[str, ...]) -> str:
    """Columns to report: the dataset's own OpenInt is known."""
    names = (column.strip() or "(no name)" for column in extra_columns)
    return ", ".join(name for name in names if name.lower() != "openint")


@contextmanager
def _map_in_order(
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

    waits = False  # an interrupted command does not wait for a silent S3
    try:
        yield results()
        waits = True
    except Exception:
        waits = True
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)
