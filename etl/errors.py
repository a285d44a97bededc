"""Errors, sorted by what the reader does next: fix the data, fix the environment, or try again.

EtlError
├── BatchError                  the data stops the batch: fix the files or the company index (exit code 1)
│   ├── MissingFilesError       the company index names files that are not in the source
│   ├── TooManyRejectedError    more rows are rejected than the policy of the run allows
│   └── NothingUsableError      not one company file has a row to load
├── SettingsError               a setting, a name or a permission is wrong: fix the environment (exit code 2)
└── ServiceError                S3, SNS or PostgreSQL failed: the same run may succeed later (exit code 3)
    └── NoConnectionError       PostgreSQL does not answer, or went away
FileChangedError                internal: a file is no longer what was listed
"""


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
    """No company file of the batch has a row to load. `quarantined`: name and reason of each of the `listed` files."""

    def __init__(self, message: str, *, listed: int, quarantined: tuple[tuple[str, str], ...]) -> None:
        super().__init__(message)
        self.listed, self.quarantined = listed, quarantined


class NoConnectionError(ServiceError):
    """The server does not answer, or went away; whether a COMMIT took effect is to be found out when it is back."""


class FileChangedError(Exception):
    """A file is no longer what was listed: it was replaced or removed since."""
