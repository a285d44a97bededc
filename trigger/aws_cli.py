"""One call of the AWS CLI in the layer: a command in; its answer, or one error of ours, out.

Parameters travel as a JSON file, so no object key, mail or error text is ever read as an option, a file name or a
shell's word. The CLI does its own retries.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from trigger.deadline import Deadline
from trigger.errors import AwsFailedError, AwsRefusedError

_ERROR = re.compile(
    r"An error occurred \((?P<code>[\w.]+)\) when calling the (?P<operation>\w+) operation"
    r"(?: \([^)]*\))?: ?(?P<text>.*)"
)
# What AWS says of itself; every other error of a service is about what was asked or about who asked.
_PASSING = re.compile(
    r"Throttl|TooManyRequests|LimitExceeded|SlowDown|Internal|^5\d\d$|Unavailable|Capacity|RequestTimeout"
)


def call(service: str, operation: str, parameters: dict[str, object], *, deadline: Deadline) -> dict[str, object]:
    """`aws {service} {operation}` with these API parameters; the answer's JSON object, empty when there is none."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(parameters, file)
        file.flush()
        command = [service, operation, "--cli-input-json", f"file://{file.name}", "--output", "json"]
        answer = run(command, deadline=deadline)
    return json.loads(answer) if answer.strip() else {}


def run(command: Sequence[str], *, deadline: Deadline, given: bytes | None = None) -> bytes:
    """`aws {command}`; what it printed. `given` is its standard input.

    Raises AwsRefusedError for what has to be mended, AwsFailedError for what may pass, each with the error's code.
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
    said = done.stderr.decode(errors="replace").strip()
    found = _ERROR.search(said)
    if found is None:
        last_line = said.splitlines()[-1] if said else f"exit code {done.returncode}"
        raise AwsFailedError(f"{name} failed: {last_line}", code="")
    code, detail = found["code"], found["text"].strip().rstrip(".")  # SSM gives no detail for what is not there
    text = f"{name} was answered {code}: {detail}." if detail else f"{name} was answered {code}."
    if _PASSING.search(code):
        raise AwsFailedError(text, code=code)
    if re.search("AccessDenied|Unauthorized|AuthorizationError|^403$", code):  # a HEAD has only its status
        text += f" Allow the function's role {found['operation']} on it."
    raise AwsRefusedError(text, code=code)


def _endpoint() -> list[str]:
    """AWS_ENDPOINT_URL as an option: for SQS this CLI would not read it."""
    url = os.environ.get("AWS_ENDPOINT_URL")
    return ["--endpoint-url", url] if url else []


def _environment() -> dict[str, str]:
    """Ours; a child inherits no sys.path, which has the layer, and the layer cannot be written to, so Python would
    compile the whole CLI anew at each call."""
    paths = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, paths))),
        "PYTHONPYCACHEPREFIX": os.path.join(tempfile.gettempdir(), "trigger-pycache"),
        "PYTHONDONTWRITEBYTECODE": "",
        "AWS_RETRY_MODE": "standard",
        "AWS_PAGER": "",
    }
