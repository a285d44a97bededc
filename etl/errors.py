"""Errors, sorted by what the reader does next: fix the data, fix the environment, or try again.

EtlError
├── BatchError                  the data stops the batch: fix the files or the company index (exit code 1)
│   ├── MissingFilesError       the company index names files that are not in the source
│   ├── TooManyRejectedError    more rows are rejected than the policy of the run allows
│   └── NothingUsableError      not one company file has a row to load
├── SettingsError               a setting, a name or a permission is wrong: fix the environment (exit code 2)
│   ├── FileRefusedError        S3 or the file system refuses one file; others may be readable
│   └── NothingReadableError    every company file is refused
└── ServiceError                S3, SNS or PostgreSQL failed: the same run may succeed later (exit code 3)
    ├── NoConnectionError       PostgreSQL does not answer, or went away
    ├── ShortOfMemoryError      memory or threads ran out
    └── UnexpectedError         an error that etl does not know
FileChangedError                internal: a file is no longer what was listed
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OWN_FOLDER = Path(__file__).parent
_LONGEST_TEXT = 300  # characters of an unknown error's own text
EITHER_WHOLE = "The table holds the old batch or the new one, whole."


class EtlError(Exception):
    """Root of every error that etl raises on purpose; its text is one line that says what to do."""

    exit_code = 1


class BatchError(EtlError):
    """The data stops the batch: fix the files or the company index, then put the marker again."""

    exit_code = 1


class SettingsError(EtlError):
    """A setting, a name or a permission is wrong: fix the environment. Trying again changes nothing."""

    exit_code = 2


class ServiceError(EtlError):
    """S3, SNS or PostgreSQL did not answer as it should: the same run may succeed later."""

    exit_code = 3


class MissingFilesError(BatchError):
    """The company index names company files that are not in the source."""

    def __init__(self, message: str, *, listed: int, missing: tuple[str, ...]) -> None:
        super().__init__(message)
        self.listed, self.missing = listed, missing


class TooManyRejectedError(BatchError):
    """More rows are rejected than the policy of the run allows. The outputs were written, and name each of them."""


class NothingUsableError(BatchError):
    """No company file of the batch has a row to load.

    `listed` by the company index; `quarantined` of these: name and reason; `missing` by consent: their names.
    """

    def __init__(
        self, message: str, *, listed: int, quarantined: tuple[tuple[str, str], ...], missing: tuple[str, ...]
    ) -> None:
        super().__init__(message)
        self.listed, self.quarantined, self.missing = listed, quarantined, missing


class FileRefusedError(SettingsError):
    """S3 or the file system refuses one file that is there. `reason`: why, without the file's name."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NothingReadableError(SettingsError):
    """Every company file that is there is refused; the facts are as NothingUsableError has them."""

    def __init__(
        self, message: str, *, listed: int, quarantined: tuple[tuple[str, str], ...], missing: tuple[str, ...]
    ) -> None:
        super().__init__(message)
        self.listed, self.quarantined, self.missing = listed, quarantined, missing


class NoConnectionError(ServiceError):
    """The server does not answer, or went away; whether a COMMIT took effect is to be found out when it is back."""


class ShortOfMemoryError(ServiceError):
    """Memory or threads ran out: free some, then run it again."""


class UnexpectedError(ServiceError):
    """An error that etl does not know, as one line: its class, its text and the place in etl that it came through."""


class FileChangedError(Exception):
    """A file is no longer what was listed: it was replaced or removed since."""


@contextmanager
def only_etl_errors() -> Iterator[None]:
    """Let nothing but an EtlError out of the block, or of the function that this decorates."""
    try:
        yield
    except EtlError:
        raise
    except Exception as error:
        raise as_etl_error(error) from error


def as_etl_error(error: BaseException) -> EtlError:
    """The error itself where it is an EtlError, else one that says what happened and what to do."""
    if isinstance(error, EtlError):
        return error
    if isinstance(error, MemoryError) or _is_no_memory(error):
        return ShortOfMemoryError(f"Memory ran out. {EITHER_WHOLE} Free some, or raise the limit, then run it again.")
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return ShortOfMemoryError(
            f"No thread can be started: memory or threads are short. {EITHER_WHOLE} Free some, or raise the limit, "
            "then run it again."
        )
    places = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_OWN_FOLDER)
    ]
    where = (
        f" in {Path(places[-1].filename).relative_to(_OWN_FOLDER.parent)}, line {places[-1].lineno}" if places else ""
    )
    return UnexpectedError(
        f"An error that was not expected: {type(error).__name__}{where}{_words_of(error)}. {EITHER_WHOLE} Try again; "
        "if it happens again, report this line."
    )


def _is_no_memory(error: BaseException) -> bool:
    if isinstance(error, ImportError):  # a library that does not fit
        return "cannot allocate memory" in str(error).lower() or "failed to map segment" in str(error)
    return isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN)


def _words_of(error: BaseException) -> str:
    """The first line of its text, behind a colon, without what may be a password."""
    line = str(error).strip().partition("\n")[0].rstrip(".")
    line = re.sub(r"://[^\s/]*@", "://...@", line)
    line = re.sub(r"(?i)(password|secret|token)(\s*[=:]\s*)\S+", r"\1\2...", line)
    return ": " + "".join(sign if sign.isprintable() else "?" for sign in line[:_LONGEST_TEXT]) if line else ""
