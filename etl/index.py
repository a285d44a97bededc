"""Company index: the bytes of `top_companies.txt` go in, the company names of the batch come out, in its order."""

import csv
import re
from dataclasses import dataclass

from etl.errors import BatchError

# A company name becomes a path, an S3 key, a column value and a line of a mail, so it is held to what is safe in all
# of them: letters and digits of any script and a few signs, beginning with a letter, digit or underscore.
_SAFE_NAME = re.compile(r"\w[\w.^=+&@~ -]*\Z")
_LONGEST_NAME = 56  # characters; the width of historical_stocks_data.company_name


@dataclass(frozen=True)
class CompanyIndex:
    """The company files of one batch.

    `names`: file names such as `wex.us.csv`, each once, in the index's order.
    `repeated`: names that the index holds more than once; each is loaded once.
    """

    names: tuple[str, ...]
    repeated: tuple[str, ...] = ()


def parse_index(content: bytes) -> CompanyIndex:
    """Read names between commas or one a line, with single, double or no quotes, with or without a BOM.

    Raises BatchError when the text is not UTF-8, names nothing, or holds a name that is unsafe as a file name.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BatchError(f"The company index is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    names: list[str] = []
    for line in re.split(r"[\r\n]+", text):
        quote = '"' if line.lstrip().startswith('"') else "'"
        cells = next(csv.reader([line], quotechar=quote, skipinitialspace=True), [])
        names += [name for cell in cells if (name := cell.strip())]
    if not names:
        raise BatchError("The company index names no company file. Write names such as 'wex.us.csv', between commas.")
    for name in names:
        if len(name) > _LONGEST_NAME or not _SAFE_NAME.match(name):
            raise BatchError(
                f"The company index holds a name that cannot be a company file: {name[:80]!r}. A name has at most "
                f"{_LONGEST_NAME} letters, digits and . _ - ^ = + & @ ~, and begins with a letter or digit."
            )
    seen: set[str] = set()
    repeated = {name: None for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
    return CompanyIndex(names=tuple(dict.fromkeys(names)), repeated=tuple(repeated))
