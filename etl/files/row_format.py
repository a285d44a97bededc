"""Formats accepted rows as a company's slice of the combined file.

plain_rows.cpp does the same for plain files, byte for byte.
"""

from collections.abc import Iterable, Sequence
from math import inf, isfinite


def format_rows(rows: Iterable[Sequence[str]], *, company_name: str) -> bytes:
    """The slice's bytes.

    `rows`: accepted rows, each the six fields of COLUMNS as they were written. The slice: nine columns between commas,
    `\\n` line ends, no header, no quotes, UTF-8, undefined = empty. Nothing in it needs a quote or an escape: numbers
    and days were checked, and a company index refuses names that would.

    daily_percent_change is ((close - open) / open) * 100 in percent (2.5 is 2.5 %), value_change is close - open in
    USD, both in float64 and in that order of operations: docs/reading.md. The percent change is undefined
    where open is 0 or a step goes beyond float64. Both are spelled as Python's repr spells them, and so pandas' to_csv.

    """
    lines: list[str] = []
    for row in rows:
        _, open_text, _, _, close_text, _ = row
        first, last = float(open_text), float(close_text)
        change = last - first
        percent = change / first * 100 if first else inf
        written = repr(percent) if isfinite(percent) else ""
        lines.append(f"{','.join(row)},{written},{change!r},{company_name}\n")
    return "".join(lines).encode()
