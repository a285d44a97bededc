"""Writes and reads the combined file, `historical_stock_data.csv`: a slice for each company."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from etl.batch.storage import Storage
from etl.errors import BatchError, FileChangedError
from etl.files.manifest import Manifest, Slice
from etl.files.native import count_lines

NAME = "historical_stock_data.csv"


def make_slice(
    content: bytes, *, company_name: str, offset: int, flagged: int, in_day_order: bool | None = None
) -> Slice:
    """Describe a slice by its bytes; rows are counted in what was written, apart from how they were made."""
    digest = hashlib.sha256(content).hexdigest()
    return Slice(company_name, offset, len(content), digest, count_lines(content), flagged, in_day_order)


@dataclass(frozen=True)
class CombinedFile:
    """A combined file that is finished, in `output`, as its manifest describes it."""

    manifest: Manifest
    output: Storage

    @property
    def companies(self) -> tuple[str, ...]:
        return self.manifest.companies

    def slices(self, wanted: Callable[[Slice], bool]) -> Iterator[tuple[Slice, bytes]]:
        """Each slice that is `wanted`, with its bytes, neighbours in one read.

        Raises BatchError when the bytes are not those that the slice describes.
        """
        run: list[Slice] = []
        for entry in filter(wanted, self.manifest.slices):
            if run and entry.offset != run[-1].end:
                yield from self._read(run)
                run = []
            run.append(entry)
        if run:
            yield from self._read(run)

    def finish(self) -> CombinedFile:
        return self

    def _read(self, neighbours: Sequence[Slice]) -> Iterator[tuple[Slice, bytes]]:
        unfit = BatchError(
            "The combined file is not the one that the manifest describes. Run process again with --reread (reread in "
            "the DAG's form), then load."
        )
        start = neighbours[0].offset
        blocks = self.output.read_range(NAME, start=start, length=neighbours[-1].end - start)
        buffer = bytearray()
        try:
            for entry in neighbours:
                while len(buffer) < entry.length:
                    buffer += next(blocks)
                content = bytes(buffer[: entry.length])
                del buffer[: entry.length]
                if hashlib.sha256(content).hexdigest() != entry.sha256:
                    raise unfit
                yield entry, content
        except (FileChangedError, StopIteration) as error:
            raise unfit from error
