"""What ends a command, sorted by what the reader does next; the exit code says which it was.

InfraError
├── RefusedError    1: asked for something that would lose or open too much, or things are not as they should be
├── SettingsError   2: mend the settings (.env, options) or the way the command is called
└── AwsError        3: AWS answered no, or not at all
    └── DeniedError     the login works, a permission is missing
"""


class InfraError(Exception):
    """Root of every error raised on purpose; its text is one line that says what to do."""

    exit_code = 1


class RefusedError(InfraError):
    """Not done, because nobody confirmed it or because something is not as it should be."""

    exit_code = 1


class SettingsError(InfraError):
    """A setting or an option is missing or unusable: trying again changes nothing."""

    exit_code = 2


class AwsError(InfraError):
    """AWS refused, failed or did not answer."""

    exit_code = 3


class DeniedError(AwsError):
    """The login works, but one of its permissions is missing."""
