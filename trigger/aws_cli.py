"""Calls AWS through the CLI in the function's layer: the course's brief asks for that layer, though Lambda has boto3.

Parameters travel as a JSON file, so no object key, mail or error text is ever read as an option, a file name or a
shell's word, and none is too long for a command line. The CLI does its own retries.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from trigger.deadline import Deadline
from trigger.errors import AwsFailedError, AwsRefusedError

_CLI_ERROR = re.compile(
    r"An error occurred \((?P<code>[\w.]+)\) when calling the (?P<operation>\w+) operation"
    r"(?: \([^)]*\))?: ?(?P<text>.*)"
)
# Errors of AWS itself; every other error of a service is about what was asked or about who asked.
_TRANSIENT = re.compile(
    r"Throttl|TooManyRequests|LimitExceeded|SlowDown|Internal|^5\d\d$|Unavailable|Capacity|RequestTimeout"
)


def call(
    service: str, operation: str, parameters: Mapping[str, object], *, deadline: Deadline, options: Sequence[str] = ()
) -> dict[str, object]:
    """Run `aws {service} {operation}` with these API parameters and options of the CLI itself.

    Returns its JSON object, empty if it prints none.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(parameters))
        file.flush()
        command = [service, operation, "--cli-input-json", f"file://{file.name}", "--output", "json", *options]
        answer = run(command, deadline=deadline)
    return json.loads(answer) if answer.strip() else {}


def run(command: Sequence[str], *, deadline: Deadline, given: bytes | None = None) -> bytes:
    """Run `aws {command}`, with `given` as its standard input; returns what it printed.

    Raises AwsRefusedError for what must be fixed and AwsFailedError for what may pass, each with the error's code.
    """
    name = "aws " + " ".join(command[:2])
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and every part is an argument
            [sys.executable, "-m", "awscli", *_endpoint(), *command],
            env=_environment(),
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            timeout=deadline.seconds_left(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AwsFailedError(f"{name} had no answer before the function's time was up.", code="Timeout") from error
    if done.returncode == 0:
        return done.stdout
    message = done.stderr.decode(errors="replace").strip()
    found = _CLI_ERROR.search(message)
    if found is None:
        last_line = message.splitlines()[-1] if message else f"exit code {done.returncode}"
        raise AwsFailedError(f"{name} failed: {last_line}")
    code, detail = found["code"], found["text"].strip().rstrip(".")  # SSM gives none for a missing parameter
    text = f"{name} failed with {code}: {detail}." if detail else f"{name} failed with {code}."
    if _TRANSIENT.search(code):
        raise AwsFailedError(text, code=code)
    if re.search("AccessDenied|Unauthorized|AuthorizationError|^403$", code):  # HEAD has only a status
        text += f" Allow the function's role {found['operation']} on it."
    raise AwsRefusedError(text, code=code)


def _endpoint() -> list[str]:
    """AWS_ENDPOINT_URL as an option: this CLI ignores the variable for SQS."""
    url = os.environ.get("AWS_ENDPOINT_URL")
    return ["--endpoint-url", url] if url else []


def _environment() -> dict[str, str]:
    """Ours, with sys.path, which has the layer and which a child does not inherit.

    The layer is read-only: without a folder for what it compiles, Python would compile the whole CLI at each call.
    """
    paths = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, paths))),
        "PYTHONPYCACHEPREFIX": os.path.join(tempfile.gettempdir(), "trigger-pycache"),
        "PYTHONDONTWRITEBYTECODE": "",
        "AWS_RETRY_MODE": "standard",
        "AWS_PAGER": "",
    }
