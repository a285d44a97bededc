"""What stops a batch, sorted by what the reader does next: mend the data, mend the environment, or try again."""


class EtlError(Exception):
    """Root of every error that etl raises on purpose; its text is one line that says what to do."""

    exit_code = 1


class BatchError(EtlError):
    """The data stops the batch: mend the files or the index, then put the marker again."""

    exit_code = 1


class SettingsError(EtlError):
    """A setting, a name or a permission is wrong: mend the environment. Trying again changes nothing."""

    exit_code = 2


class ServiceError(EtlError):
    """S3, SNS or PostgreSQL did not answer as it should: the same run may succeed later."""

    exit_code = 3
