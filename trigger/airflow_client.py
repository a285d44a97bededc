"""Starts a DagRun through Airflow 3's REST API.

What the answers mean was observed on Airflow 3.3.2: a wrong path below the root answers 405, or 200 with a web page; a
bad token 403; an unknown DAG 404 with its id in "detail".
"""

import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from trigger import errors, instance
from trigger.deadline import Deadline
from trigger.states import Outcome

DAG_ID = "moving_big_data"
TIMEOUT_SECONDS = (5.0, 15.0)  # connect, read; one run takes three calls, so the function needs more than 60 s

_DAG = f"/api/v2/dags/{DAG_ID}"
_HEALTH = "/api/v2/monitor/health"
_HEALTH_PAUSE_SECONDS = 5.0
# The HTTP library's error would quote a token that does not fit into a header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True, kw_only=True)
class Server:
    """One Airflow: its root URL, and the SHA-256 of its certificate (hex) where no authority signed it."""

    url: str
    certificate_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Access:
    """A login at one Airflow, for as long as its token is valid."""

    server: Server
    token: str = field(repr=False)


def wait_until_healthy(server: Server, *, deadline: Deadline, wake: Callable[[], object]) -> None:
    """Return once database, scheduler and dag-processor are up; `wake` is called from time to time until then.

    Raises NotReadyError if time is up first, and WrongApiError at once for an answer that no Airflow 3 gives, not even
    while it starts (429 or 5xx may come from a proxy in front of it).
    """
    looked_at = time.monotonic()
    while True:
        try:
            response = _send("GET", _HEALTH, server=server)
            unhealthy = _unhealthy_components(response)
            if not unhealthy:
                return
            found = f"answered {response.status_code}; not healthy: {', '.join(unhealthy)}"
        except (errors.UnreachableError, errors.NoAnswerError) as error:
            found = str(error)
        if not deadline.sleep(_HEALTH_PAUSE_SECONDS):
            raise errors.NotReadyError(
                f"Airflow at {server.url} was not up in time ({found}). Lambda tries again; if that does not help, run "
                "`docker compose ps` on its instance."
            )
        if time.monotonic() - looked_at >= instance.LOOK_AGAIN_SECONDS:
            wake()
            looked_at = time.monotonic()


def log_in(server: Server, *, username: str, password: str) -> Access:
    """Exchange user name and password for a token."""
    response = _send("POST", "/auth/token", server=server, json={"username": username, "password": password})
    if response.status_code == 401:
        raise errors.LoginRefusedError(
            f"Airflow at {server.url} refused the login of user {username!r} (401). "
            "Fix AIRFLOW_USERNAME or the password in its SSM parameter, then redrive the event."
        )
    if response.status_code != 201:
        raise _error(response)
    token = _fields(response).get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _wrong_api(response, lacks="a usable access_token")
    return Access(server=server, token=token)


def require_unpaused(access: Access) -> None:
    """Raise unless Airflow knows the DAG and would start a run of it: a paused DAG keeps runs queued forever."""
    response = _send("GET", _DAG, server=access.server, access=access)
    if response.status_code != 200:
        raise _error(response)
    is_paused = _fields(response).get("is_paused")
    if not isinstance(is_paused, bool):
        raise _wrong_api(response, lacks="is_paused")
    if is_paused:
        raise errors.PausedDagError(
            f"DAG {DAG_ID} is paused in Airflow at {access.server.url}: it would accept a run and never start it. "
            f"Unpause it (`airflow dags unpause {DAG_ID}`, or the switch in Airflow's UI), then redrive the event."
        )


def start_run(access: Access, *, dag_run_id: str, conf: Mapping[str, object]) -> Outcome:
    """Ask for one DagRun; returns whether this call made it (STARTED) or an earlier one with the same id did."""
    response = _send(
        "POST",
        f"{_DAG}/dagRuns",
        server=access.server,
        json={"dag_run_id": dag_run_id, "logical_date": None, "conf": conf},
        access=access,
    )
    if response.status_code == 200:
        return Outcome.STARTED
    if response.status_code == 409:
        return Outcome.ALREADY_ACCEPTED
    if response.status_code in (400, 422):
        raise errors.RefusedRunError(
            f"Airflow at {access.server.url} refused to make DagRun {dag_run_id} ({response.status_code}). Check "
            f"DAG {DAG_ID} for import errors (`airflow dags list-import-errors`) and for params that this conf does "
            "not satisfy, then redrive the event."
        )
    raise _error(response)


def _send(
    method: str, path: str, *, server: Server, json: Mapping[str, object] | None = None, access: Access | None = None
) -> requests.Response:
    """Make one call, once. No redirect is followed, as it would get the password or the token too."""
    url = server.url + path
    auth = _bearer(access.token) if access else None
    try:
        with requests.Session() as session:
            if server.certificate_sha256:
                session.mount("https://", _Pinned(server.certificate_sha256))
            verify = not server.certificate_sha256  # else the pin decides
            return session.request(
                method, url, json=json, auth=auth, timeout=TIMEOUT_SECONDS, allow_redirects=False, verify=verify
            )
    except requests.exceptions.SSLError as error:
        if not _is_untrusted(error):
            raise errors.UnreachableError(
                f"{method} {url}: the TLS handshake did not succeed. Airflow, or a proxy in front of it, may still be "
                "starting; otherwise check that AIRFLOW_URL has the right scheme, host and port."
            ) from error
        raise errors.WrongApiError(
            f"{method} {url}: the server's certificate is not trusted"
            + (" (it is not the pinned one)" if server.certificate_sha256 else "")
            + ". Nothing was sent to it. Set AIRFLOW_CERTIFICATE_SHA256 to the fingerprint that `make up` prints, or "
            "give Airflow a certificate signed by an authority; deploy, then redrive the event."
        ) from error
    except requests.ReadTimeout as error:
        raise errors.NoAnswerError(
            f"{method} {url} got no answer within {TIMEOUT_SECONDS[1]:g} s. Airflow may be overloaded: see the log of "
            "its api-server. A repeat is safe: it starts no second run."
        ) from error
    except requests.ConnectTimeout as error:
        raise errors.UnreachableError(
            f"{method} {url} found no connection within {TIMEOUT_SECONDS[0]:g} s. Check that the instance is running "
            "and that its security group lets this function in."
        ) from error
    except requests.RequestException as error:
        raise errors.UnreachableError(
            f"{method} {url} found no working connection ({type(error).__name__}). Check that AIRFLOW_URL has the "
            "right scheme, host and port, that the instance is running and that Airflow's api-server is up."
        ) from error


def _is_untrusted(error: BaseException) -> bool:
    """Whether the certificate was refused, and not only the handshake broken off.

    A pin that does not match is urllib3's own error, without one of `ssl` below it.
    """
    below: list[BaseException] = []
    cause: object = error
    while isinstance(cause, BaseException) and cause not in below:
        below.append(cause)
        cause = getattr(cause, "reason", None) or next((one for one in cause.args if isinstance(one, Exception)), None)
    by_ssl = [one for one in below if isinstance(one, ssl.SSLError)]
    return not by_ssl or any(isinstance(one, ssl.SSLCertVerificationError) for one in by_ssl)


class _Pinned(HTTPAdapter):
    """Talks only to the server that has the private key of one certificate, whoever signed that."""

    def __init__(self, certificate_sha256: str) -> None:
        self._sha256 = certificate_sha256
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: object) -> None:
        super().init_poolmanager(connections, maxsize, block, assert_fingerprint=self._sha256)

    def proxy_manager_for(self, proxy: str, **arguments: Any) -> Any:  # noqa: ANN401
        """The same through HTTPS_PROXY, which has its own connections."""
        return super().proxy_manager_for(proxy, assert_fingerprint=self._sha256, **arguments)


def _unhealthy_components(response: requests.Response) -> list[str]:
    """What is not up, as Airflow's health, or a proxy in front of it, reports."""
    if response.status_code == 429 or response.status_code >= 500:
        return ["the server"]
    fields = _fields(response)
    if response.status_code != 200:
        raise _wrong_api(response)
    if "metadatabase" not in fields:
        raise _wrong_api(response, lacks="Airflow's health")
    components = ("metadatabase", "scheduler", "dag_processor")
    return [name for name in components if not _is_healthy(fields.get(name))]


def _is_healthy(component: object) -> bool:
    return isinstance(component, dict) and component.get("status") == "healthy"


def _bearer(token: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Set the token last: an entry in a .netrc file would override a plain header."""

    def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorise


def _fields(response: requests.Response) -> dict[str, object]:
    """The answer's JSON object; empty if it is anything else, such as a web page."""
    try:
        body = response.json()
    except requests.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _error(response: requests.Response) -> errors.TriggerError:
    """The error for an answer that means the same whatever was called."""
    status = response.status_code
    call = f"{response.request.method} {response.url}"
    if status == 404 and DAG_ID in str(_fields(response).get("detail")):
        return errors.UnknownDagError(
            f"Airflow has no DAG {DAG_ID} ({call} answered 404). Check that {DAG_ID}.py is in its DAG folder and has "
            "no import errors (`airflow dags list-import-errors`), then redrive the event."
        )
    if status in (401, 403):
        return errors.AccessDeniedError(
            f"{call} answered {status}. Give the user in AIRFLOW_USERNAME a role that may read and start DAG {DAG_ID}; "
            "if it has one, check that all of Airflow's containers share one API_AUTH__JWT_SECRET."
        )
    if status == 429 or status >= 500:
        return errors.ServerFailedError(f"{call} answered {status}. See the api-server's log; a repeat is safe.")
    return _wrong_api(response)


def _wrong_api(response: requests.Response, *, lacks: str | None = None) -> errors.WrongApiError:
    answer = f"{response.status_code} without {lacks}" if lacks else str(response.status_code)
    return errors.WrongApiError(
        f"{response.request.method} {response.url} answered {answer}, which Airflow 3 never does. Set AIRFLOW_URL to "
        "the root of Airflow 3 (no /api/v1 or /api/v2; http or https, as Airflow serves it), deploy, then redrive the "
        "event."
    )
