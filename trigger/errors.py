"""What can keep a marker from becoming a DagRun, sorted by what the reader does next.

TriggerError
├── SettingsError              mend the function's environment, or what it names
│   ├── LoginRefusedError      the user name or password is wrong
│   ├── AccessDeniedError      the login works, the token or the user's rights do not
│   ├── WrongApiError          the URL is not the root of an Airflow 3 API, or not the pinned certificate's
│   ├── SecretError            the password cannot be read
│   ├── InstanceGoneError      the instance does not exist any more
│   └── AwsRefusedError        AWS refuses what the function asks for
├── DagError                   mend the DAG in Airflow, then redrive the event
│   ├── UnknownDagError
│   ├── PausedDagError
│   └── RefusedRunError        Airflow will not make a run of this DAG from what was sent
├── ServiceError               try again; Lambda does, and a repeat is answered 409
│   ├── UnreachableError       no connection, or a broken one
│   ├── NoAnswerError          a connection, but no answer in time
│   ├── ServerFailedError      Airflow answered that it could not (5xx, 429)
│   ├── NotReadyError          the instance or Airflow was still starting when time was up
│   └── AwsFailedError         AWS could not, or did not in time
├── MarkersFailedError         several markers of one event, each with its own error from above
└── RedriveError               a kept event failed again; it stays in the queue

Lambda reports only the class and the text of what is raised, not its cause: each text says by itself what happened,
to which thing, and what to do. No text quotes a body of Airflow's: its 422 echoes the password that was sent.
"""


class TriggerError(Exception):
    """Any reason for which a marker became no DagRun."""


class SettingsError(TriggerError):
    """The function's environment has to be mended; a repeat fails in the same way."""


class LoginRefusedError(SettingsError):
    """Airflow does not know this user name with this password."""


class AccessDeniedError(SettingsError):
    """Airflow refuses the token that it gave, or the user may not do this."""


class WrongApiError(SettingsError):
    """What answers at the URL is not the Airflow 3 REST API."""


class SecretError(SettingsError):
    """The password of Airflow's user cannot be read."""


class InstanceGoneError(SettingsError):
    """The instance that Airflow runs on is terminated."""


class AwsRefusedError(SettingsError):
    """AWS refused a call; `code` is its own word for why, such as AccessDenied."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class DagError(TriggerError):
    """The DAG has to be mended in Airflow; a repeat fails in the same way until then."""


class UnknownDagError(DagError):
    """Airflow is up but has no such DAG."""


class PausedDagError(DagError):
    """Airflow would accept a run and never start it."""


class RefusedRunError(DagError):
    """Airflow looked at the run and said no."""


class ServiceError(TriggerError):
    """Airflow is not able to answer now; the same call may work later."""


class UnreachableError(ServiceError):
    """There is no connection to Airflow, or it broke."""


class NoAnswerError(ServiceError):
    """Airflow did not answer in time; a run may have been accepted all the same."""


class ServerFailedError(ServiceError):
    """Airflow answered that it could not serve the call."""


class NotReadyError(ServiceError):
    """The instance or Airflow was still starting when time was up."""


class AwsFailedError(ServiceError):
    """AWS could not answer a call, or not in time; `code` is its own word for why, where it gave one."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class MarkersFailedError(TriggerError):
    """Several markers of one event became no DagRun, for reasons that may differ."""


class RedriveError(TriggerError):
    """A kept event failed again, with the reason of that; it and those behind it stay in the queue."""
