"""Defines why a marker did not start a DAG run, sorted by what the reader does next.

TriggerError
├── SettingsError              fix the function's environment, or what it names
│   ├── LoginRefusedError
│   ├── AccessDeniedError
│   ├── WrongApiError
│   ├── SecretError
│   ├── InstanceGoneError
│   └── AwsRefusedError
├── DagError                   fix the DAG in Airflow, then redrive the event
│   ├── UnknownDagError
│   ├── PausedDagError
│   └── RefusedRunError
├── ServiceError               try again: Lambda does, and a repeat starts no second run
│   ├── UnreachableError
│   ├── NoAnswerError
│   ├── ServerFailedError
│   ├── NotReadyError
│   ├── AwsFailedError
│   └── OutOfTimeError
├── MarkersFailedError         read the error of each marker
└── RedriveError               fix the cause that it gives, then redrive again

Lambda reports only the class and the text of an error, not its cause, so each text says by itself what happened, to
which thing, and what to do. No text quotes a response body of Airflow: its 422 echoes the password that was sent.
"""


class TriggerError(Exception):
    """Base class. `code` is AWS's own word for what went wrong, such as AccessDenied, where AWS gave one."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class SettingsError(TriggerError):
    """The function's environment must be fixed; a repeat fails in the same way."""


class LoginRefusedError(SettingsError):
    """Airflow does not accept this user name with this password."""


class AccessDeniedError(SettingsError):
    """Airflow rejects the token that it issued, or the user lacks a permission."""


class WrongApiError(SettingsError):
    """The URL is not the root of an Airflow 3 API, or its certificate is not trusted."""


class SecretError(SettingsError):
    """The password of Airflow's user cannot be read."""


class InstanceGoneError(SettingsError):
    """The instance that Airflow runs on no longer exists."""


class AwsRefusedError(SettingsError):
    """AWS refused a call."""


class DagError(TriggerError):
    """The DAG must be fixed in Airflow; until then a repeat fails in the same way."""


class UnknownDagError(DagError):
    """Airflow is up but has no such DAG."""


class PausedDagError(DagError):
    """Airflow would accept a run and never start it."""


class RefusedRunError(DagError):
    """Airflow refuses to make a run of this DAG from what was sent."""


class ServiceError(TriggerError):
    """A service did not answer as it should; the same call may work later."""


class UnreachableError(ServiceError):
    """There is no connection to Airflow, or it broke."""


class NoAnswerError(ServiceError):
    """Airflow did not answer in time; it may have accepted a run nevertheless."""


class ServerFailedError(ServiceError):
    """Airflow answered that it could not serve the call (5xx, 429)."""


class NotReadyError(ServiceError):
    """The instance or Airflow was still starting when time ran out."""


class AwsFailedError(ServiceError):
    """AWS did not answer a call, or could not serve it."""


class OutOfTimeError(ServiceError):
    """A function did a part of its work before its time was up; its next call does the rest."""


class MarkersFailedError(TriggerError):
    """Several markers of one event started no run, each for its own reason."""


class RedriveError(TriggerError):
    """A redrive was refused, or a kept event failed again: it and all later events stay in the queue."""
