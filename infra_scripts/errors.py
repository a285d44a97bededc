"""The errors that end a command, sorted by what the reader does next, with their exit codes.

InfraError
├── RefusedError    1: not confirmed, or something in the account is not as it should be
├── SettingsError   2: fix the settings (.env, options) or the command line
└── AwsError        3: AWS refused, failed or did not answer
    └── DeniedError    the login works, but a permission is missing
"""


class InfraError(Exception):
    """The root of all errors raised on purpose; the text is one line that says what to do."""

    exit_code = 1


class RefusedError(InfraError):
    """Not done, because nobody confirmed it or because something in the account is not as it should be."""

    exit_code = 1


class SettingsError(InfraError):
    """A setting or an option is missing or unusable; trying again does not help."""

    exit_code = 2


class AwsError(InfraError):
    """AWS refused, failed or did not answer."""

    exit_code = 3


class DeniedError(AwsError):
    """The login works, but one of its permissions is missing."""
