"""Turns the company files of a plan into the combined file, the lists of rows and the manifest."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Protocol

from etl.batch.plan import Plan, Shard
from etl.batch.storage import Listed, Storage
from etl.errors import FileChangedError, FileRefusedError, ServiceError
from etl.files.combined_file import CombinedFile, make_slice
from etl.files.company_file import CompanyFile, UnusableFile, check_company_file
from etl.files.header import parse_aliases
from etl.files.last_outputs import LastOutputs, TakenOver
from etl.files.manifest import FileRecord, Manifest, QuarantinedFile, Slice, join
from etl.files.row_lists import list_entries
from etl.files.rules import LARGEST_FILE_BYTES, QuarantineReason
from etl.files.shards import Outputs, write_outputs, write_shard
from etl.threads import Pool


class Progress(Protocol):
    """Called as work goes on: `done` of `total` company files."""

    def __call__(self, *, done: int, total: int) -> object: ...


class Processing:
    """Processes one shard of a plan: iterate over `slices` to do the work; afterwards `manifest` says what was made.

    A company file whose version the last outputs know is not read: what was made of it is taken over. The only shard
    of a plan writes the outputs themselves, or at most the manifest where nothing changed. Of several, each writes
    into the run's work folder, from where `combine_shards` takes them. Files appear under their names when the
    iteration is over, the manifest last; an error on the way leaves the old ones. Memory holds the files in flight,
    never the batch.
    """

    manifest: Manifest

    def __init__(
        self,
        plan: Plan,
        *,
        shard: int,
        source: Storage,
        output: Storage,
        run_id: str,
        since: date | None,
        column_aliases: str,
        reread: bool,
        progress: Progress | None,
    ) -> None:
        """Raises SettingsError where `column_aliases` (as `parse_aliases` reads them) are none."""
        self._column_aliases, self._aliases = column_aliases.strip(), parse_aliases(column_aliases)
        self._plan, self._shard, self._since, self._progress = plan, shard, since, progress
        self._source, self._output, self._run_id, self._reread = source, output, run_id, reread
        self._work = self._process()

    @property
    def is_whole(self) -> bool:
        """Whether the plan has no other shard, so that the manifest describes the whole batch."""
        return len(self._plan.shards) == 1

    @property
    def companies(self) -> tuple[str, ...]:
        return tuple(self._plan.shards[self._shard])

    def slices(self, wanted: Callable[[Slice], bool]) -> Iterator[tuple[Slice, bytes]]:  # noqa: ARG002  all pass by
        """The slices of the files that are read, `wanted` or not, each with its bytes as soon as it is made."""
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
        self._last = LastOutputs(
            self._output,
            source=self._source,
            since=self._since,
            column_aliases=self._column_aliases,
            reread=self._reread,
        )
        try:
            yield from self._write()
        except FileChangedError as error:
            raise ServiceError(
                f"Another run has replaced outputs in {self._output.url} while they were taken over. The table is "
                "unchanged. Run process again when that run is done."
            ) from error

    def _write(self) -> Generator[tuple[Slice, bytes], None, None]:
        if len(self._plan.shards) > 1:
            with write_shard(self._shard, output=self._output, last=self._last, run_id=self._run_id) as shard:
                yield from self._check_files(shard)
                shard.manifest = self.manifest
            return
        with write_outputs(self._output, last=self._last) as outputs:
            yield from self._check_files(outputs)
            outputs.manifest = join([self.manifest], plan=self._plan)
        self.manifest = outputs.manifest

    def _check_files(self, outputs: Outputs) -> Generator[tuple[Slice, bytes], None, None]:
        combined = outputs.combined
        files = self._plan.shards[self._shard]
        slices: list[Slice] = []
        quarantined: list[QuarantinedFile] = []
        records: dict[str, FileRecord] = {}
        taken_over = 0
        with self._checked(files) as checked_files:
            for done, (name, listed, checked, made) in enumerate(checked_files, start=1):
                offset = slices[-1].end if slices else 0
                if isinstance(checked, TakenOver):
                    taken_over += 1
                    records[name] = checked.record
                    outputs.repeat_lines(checked.list_starts, checked.record.list_bytes)
                    if checked.slice:
                        combined.repeat(start=checked.slice.offset, length=checked.slice.length)
                        slices.append(replace(checked.slice, offset=offset))
                    else:
                        quarantined.append(QuarantinedFile(name, checked.reason))
                else:
                    entries = list_entries(name, checked)
                    records[name] = _record(checked, listed=listed, list_bytes=tuple(map(len, entries)))
                    outputs.write_lines(entries)
                    if isinstance(checked, UnusableFile):
                        quarantined.append(QuarantinedFile(name, checked.reason))
                    elif made:
                        entry = replace(made, offset=offset)
                        slices.append(entry)
                        last = self._last.slice_of(name)
                        if last and last.sha256 == entry.sha256:  # the file is new, its rows are not
                            combined.repeat(start=last.offset, length=last.length)
                        else:
                            combined.write(checked.content)
                        yield entry, checked.content
                if self._progress:
                    self._progress(done=done, total=len(files))
        self.manifest = Manifest(
            source=self._source.url,
            company_index=self._plan.company_index,
            since=self._since,
            listed=len(files),
            rows_read=sum(record.read for record in records.values()),
            rows_rejected=sum(record.rejected for record in records.values()),
            rows_before_since=sum(record.before_since for record in records.values()),
            slices=tuple(slices),
            quarantined=tuple(quarantined),
            files=records,
            files_read=len(files) - taken_over,
            files_taken_over=taken_over,
            column_aliases=self._column_aliases,
        )

    @contextmanager
    def _checked(self, files: Shard) -> Iterator[Iterator[_Checked]]:
        """What is known of each company file, or what reading and checking it gave, in order, with its version.

        So many files at once as the source likes; what is not begun is given up on leaving.
        """
        at_once = max(self._source.concurrency, os.cpu_count() or 1)
        pools: list[Pool] = []

        def pool() -> Pool:
            if not pools:  # where nothing changed, no file is read
                pools.append(Pool(at_once, name="company-file"))
            return pools[0]

        def results() -> Iterator[_Checked]:
            waiting: deque[Future[_Checked]] = deque()
            for name, listed in files.items():
                known = self._last.find(name, listed)
                if known is None:
                    waiting.append(pool().submit(self._read_and_check, name, listed))
                while waiting and (known or len(waiting) > at_once + 1):
                    yield pool().result_of(waiting.popleft())
                if known:
                    yield name, listed, known, None
            while waiting:
                yield pool().result_of(waiting.popleft())

        waits = False  # an interrupted command does not wait for a silent S3
        try:
            yield results()
            waits = True
        except Exception:
            waits = True
            raise
        finally:
            for begun in pools:
                begun.shutdown(wait=waits, cancel_futures=True)

    def _read_and_check(self, name: str, listed: Listed) -> _Checked:
        """A company file, and its slice at offset 0: hashed here, so that who feeds the COPY does not wait."""
        listed, checked = self._read(name, listed)
        if isinstance(checked, UnusableFile):
            return name, listed, checked, None
        flagged, in_day_order = checked.flagged, checked.in_day_order
        made = make_slice(checked.content, company_name=name, offset=0, flagged=flagged, in_day_order=in_day_order)
        return name, listed, checked, made

    def _read(self, name: str, listed: Listed) -> tuple[Listed, CompanyFile | UnusableFile]:
        """A company file as listed, or as it is now; its version is empty where it is not sure which was read."""
        try:
            listed, content = self._read_version(listed.stored_as or name, listed)
        except FileChangedError:
            return replace(listed, version=""), UnusableFile(QuarantineReason.CHANGED)
        except FileRefusedError as error:  # its version stays the same when it becomes readable
            return replace(listed, version=""), UnusableFile(QuarantineReason.UNREADABLE.format(reason=error.reason))
        if isinstance(content, UnusableFile):
            return listed, content
        return listed, check_company_file(content, company_name=name, since=self._since, aliases=self._aliases)

    def _read_version(self, file: str, listed: Listed) -> tuple[Listed, bytes | UnusableFile]:
        try:
            return listed, self._content(file, listed)
        except FileChangedError:
            found = self._source.find(file)
            return found, self._content(file, found)

    def _content(self, file: str, listed: Listed) -> bytes | UnusableFile:
        if listed.size_bytes > LARGEST_FILE_BYTES:
            reason = QuarantineReason.TOO_LARGE.format(size_bytes=listed.size_bytes, limit_bytes=LARGEST_FILE_BYTES)
            return UnusableFile(reason)
        return self._source.read(file, version=listed.version)


_Checked = tuple[str, Listed, CompanyFile | UnusableFile | TakenOver, Slice | None]


def _record(checked: CompanyFile | UnusableFile, *, listed: Listed, list_bytes: tuple[int, ...]) -> FileRecord:
    before_since, extra_columns = 0, ""
    if isinstance(checked, CompanyFile):
        before_since, extra_columns = checked.before_since, _left_out(checked.extra_columns)
    rejected_bytes, lines_bytes, flagged_bytes = list_bytes
    first = checked.rejected[0] if checked.rejected else None
    return FileRecord(
        version=listed.version,
        size_bytes=listed.size_bytes,
        read=checked.read,
        rejected=len(checked.rejected),
        rejected_bytes=rejected_bytes,
        before_since=before_since,
        extra_columns=extra_columns,
        lines_bytes=lines_bytes,
        flagged_bytes=flagged_bytes,
        first_line=first.line if first else 0,
        first_column=first.column if first else "",
        first_reason=first.reason if first else "",
    )


def _left_out(extra_columns: tuple[str, ...]) -> str:
    """Columns to report: the dataset's own OpenInt is known."""
    names = (column.strip() or "(no name)" for column in extra_columns)
    return ", ".join(name for name in names if name.lower() != "openint")
