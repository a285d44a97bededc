"""Reads the company index, `top_companies.txt`: the company names of the batch, in its order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from unicodedata import category, normalize

from etl.errors import BatchError

# A company name becomes a path, an S3 key, a column value and a line of a mail, so it is held to what is safe in all
# of them: letters and digits of any script and a few signs, beginning with a letter, digit or underscore. Marks, which
# many scripts write vowels and accents with, are taken behind a letter or digit (_is_safe_name).
_SAFE_NAME = re.compile(r"\w[\w.^=+&@~ -]*\Z")
_PACKED = re.compile(r"\.(gz|zst)\Z", re.IGNORECASE)
_LONGEST_NAME = 56  # characters; the width of historical_stocks_data.company_name


@dataclass(frozen=True)
class CompanyIndex:
    """The company files of one batch.

    `names`: company names such as `wex.us.csv`, each once, in the index's order.
    `repeated`: names that the index holds more than once; each is loaded once.
    `packed`: how the index writes those names that it writes as packed files', such as `wex.us.csv.gz`.
    """

    names: tuple[str, ...]
    repeated: tuple[str, ...] = ()
    packed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> CompanyIndex:
        """Raises BatchError when there is no name, or one that is unsafe as a file name."""
        written: dict[str, str] = {}
        counted = Counter[str]()
        for name in names:
            counted[company_name(name)] += 1
            written.setdefault(company_name(name), composed(name))
        if not counted:
            raise BatchError(
                "The company index names no company file. Write names such as 'wex.us.csv', between commas."
            )
        for name in counted:
            if len(name) > _LONGEST_NAME or name != name.strip() or not _is_safe_name(name):
                raise _unsafe(written[name])
        return cls(
            names=tuple(counted),
            repeated=tuple(name for name, count in counted.items() if count > 1),
            packed={name: spelled for name, spelled in written.items() if name != spelled},
        )


def company_name(file_name: str) -> str:
    """The name of the company whose file this is: composed (Unicode NFC), and without `.gz` or `.zst`.

    A Mac and Linux may write one name as different code points, and a packed file is the same company's.
    """
    return _PACKED.sub("", composed(file_name))


def read_names(text: str) -> tuple[str, ...]:
    """Company names as a person writes them: between commas, or else between blanks, or one that has blanks in it."""
    names = text.split(",") if "," in text else [*text.split(), text]
    return tuple(filter(None, dict.fromkeys(map(str.strip, names))))


def composed(name: str) -> str:
    """The name in the one form that names are compared in: Unicode NFC."""
    return normalize("NFC", name)


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
        if line.count(quote) % 2:
            raise BatchError(
                "The company index holds a name that cannot be a company file, because its quote is not closed: "
                f"{line[-80:]!r}. Is the index cut off? Write it again."
            )
        names += [name for cell in line.split(",") if (name := _unquoted(cell))]
    return CompanyIndex.of(names)


def _unquoted(cell: str) -> str:
    """A name holds no quote and no comma, so quotes that are not around all of it are left: they are refused."""
    cell = cell.strip()
    is_quoted = len(cell) > 1 and cell[0] in "'\"" and cell[0] == cell[-1]
    return cell[1:-1].strip() if is_quoted else cell


def _is_safe_name(name: str) -> bool:
    without_marks = []
    before = ""
    for sign in name:
        if category(sign)[0] == "M" and before.isalnum():
            continue  # of the letter before it, as are further marks
        before = sign
        without_marks.append(sign)
    return _SAFE_NAME.match("".join(without_marks)) is not None


def _unsafe(name: str) -> BatchError:
    return BatchError(
        f"The company index holds a name that cannot be a company file: {name[:80]!r}. A name has at most "
        f"{_LONGEST_NAME} letters, digits and . _ - ^ = + & @ ~, and begins with a letter or digit."
    )
