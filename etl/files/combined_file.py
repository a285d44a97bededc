"""Combined file: a company's accepted rows go in, its slice of `historical_stock_data.csv` comes out."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from etl.batch.storage import FileChanged, Storage
from etl.errors import BatchError
from etl.files.arrow_values import float_scalar, string_scalar
from etl.files.company_file import Rows
from etl.files.price_change import daily_percent_change, value_change

NAME = "historical_stock_data.csv"
_ZERO = float_scalar(0.0)
_NO_HEADER = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")


@dataclass(frozen=True)
class Slice:
    """One company's consecutive rows in the combined file; `offset` and `length` in bytes."""

    company_name: str
    offset: int
    length: int
    sha256: str
    rows: int
    flagged: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def format_rows(rows: Rows, *, company_name: str) -> bytes:
    """The slice's bytes: nine columns between commas, `\\n` line ends, no header, no quotes, UTF-8, null = empty.

    Nothing in it needs a quote or an escape: numbers and days were checked, and an index refuses names that would.
    The derived columns are spelled as the shortest decimal that reads back as the same float64.
    """
    percent = daily_percent_change(rows.open, rows.close).cast(pa.string())
    change = value_change(rows.open, rows.close).cast(pa.string())
    columns = [*rows.text, percent, change, pa.repeat(string_scalar(company_name), len(change))]
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(columns, names=list("abcdefghi")), sink, _NO_HEADER)
    return sink.getvalue().to_pybytes()


def make_slice(content: bytes, *, company_name: str, offset: int, flagged: int) -> Slice:
    """Describe a slice by its bytes; rows are counted in what was written, apart from how they were made."""
    digest = hashlib.sha256(content).hexdigest()
    return Slice(company_name, offset, len(content), digest, content.count(b"\n"), flagged)


def count_flagged(rows: Rows) -> int:
    """Rows that are kept but look wrong: high below low, close outside low..high, a price of 0.

    An open of 0 is among them, so every row with a null percent change is flagged, save for overflow.
    """
    least = pc.min_element_wise(rows.open, rows.high, rows.low, rows.close)
    outside = pc.or_(pc.less(rows.close, rows.low), pc.greater(rows.close, rows.high))
    flagged = pc.or_(pc.or_(outside, pc.less(rows.high, rows.low)), pc.equal(least, _ZERO))
    return int(pc.sum(flagged).as_py() or 0)


def read_slices(combined: Storage, slices: Sequence[Slice]) -> Iterator[tuple[Slice, bytes]]:
    """Each slice with its bytes out of the combined file in `combined`, neighbours in one read.

    Raises BatchError when the bytes are not those that the slice describes.
    """
    start = 0
    while start < len(slices):
        stop = start + 1
        while stop < len(slices) and slices[stop].offset == slices[stop - 1].end:
            stop += 1
        yield from _read_neighbours(combined, slices[start:stop])
        start = stop


def _read_neighbours(combined: Storage, slices: Sequence[Slice]) -> Iterator[tuple[Slice, bytes]]:
    unfit = BatchError("The combined file is not the one that the manifest describes. Run process again, then load.")
    blocks = combined.read_range(NAME, start=slices[0].offset, length=slices[-1].end - slices[0].offset)
    buffer = bytearray()
    try:
        for part in slices:
            while len(buffer) < part.length:
                buffer += next(blocks)
            content = bytes(buffer[: part.length])
            del buffer[: part.length]
            if hashlib.sha256(content).hexdigest() != part.sha256:
                raise unfit
            yield part, content
    except (FileChanged, StopIteration) as error:
        raise unfit from error
