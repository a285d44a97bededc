"""Combined file: a company's accepted rows go in, its slice of `historical_stock_data.csv` comes out."""

import hashlib
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from etl.arrow_values import float_scalar, string_scalar
from etl.company_file import Rows
from etl.price_change import daily_percent_change, value_change

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
