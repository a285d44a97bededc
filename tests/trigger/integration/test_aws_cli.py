"""The layer's AWS CLI takes all parameters as data, and a failure is one of two errors."""

import json
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.aws_proxy import KEEP_WAITING, refusing
from tests.support.cloud import Cloud
from trigger import aws_cli
from trigger.deadline import Deadline
from trigger.errors import AwsFailedError, AwsRefusedError

HOSTILE = [
    "--help",
    "file:///etc/passwd",
    "http://127.0.0.1:1/",
    "-",
    "line\n--output text\r\ttab",
    'it\'s "b" $(touch pwned) `id`; exit #',
    "{'x': %s} \\ \N{PILE OF POO} 株価",
]


def soon(seconds: float = 30) -> Deadline:
    return Deadline(at=time.monotonic() + seconds)


def call(name: str = "p", *, seconds: float = 30) -> dict[str, object]:
    return aws_cli.call("ssm", "get-parameter", {"Name": name}, deadline=soon(seconds))


def test_hostile_text_arrives_as_it_is(cloud: Cloud) -> None:
    queue = cloud.sqs.create_queue(QueueName="q")["QueueUrl"]
    attributes = {f"a{at}": {"DataType": "String", "StringValue": text} for at, text in enumerate(HOSTILE)}
    message: dict[str, object] = {"QueueUrl": queue, "MessageBody": "--help", "MessageAttributes": attributes}
    aws_cli.call("sqs", "send-message", message, deadline=soon())
    [received] = cloud.sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    assert received["Body"] == "--help"
    assert {name: value["StringValue"] for name, value in received["MessageAttributes"].items()} == {
        name: value["StringValue"] for name, value in attributes.items()
    }
    assert cloud.proxy.operations() == ["SendMessage"]


def test_parameters_are_in_a_file_that_only_we_can_read_and_that_is_gone_afterwards(
    cloud: Cloud, lambda_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], int]] = []
    run = aws_cli.run

    def look(command: list[str], *, deadline: Deadline) -> bytes:
        path = Path(command[command.index("--cli-input-json") + 1].removeprefix("file://"))
        seen.append((command, stat.S_IMODE(path.stat().st_mode)))
        return run(command, deadline=deadline)

    monkeypatch.setattr(aws_cli, "run", look)
    cloud.ssm.put_parameter(Name="some-parameter", Value="v", Type="String")
    assert call("some-parameter")["Parameter"]
    [(command, mode)] = seen
    assert "some-parameter" not in " ".join(command)
    assert mode == 0o600
    assert not list(lambda_tmp.glob("*.json"))


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [("AccessDeniedException", 400, AwsRefusedError), ("InternalServerError", 500, AwsFailedError)],
)
def test_error_of_aws_is_refused_or_failed_with_its_code_and_what_was_called(
    code: str,
    status: int,
    kind: type[Exception],
    cloud: Cloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the CLI's own retries are its own affair
    cloud.proxy.script = refusing("GetParameter", code, status=status)
    with pytest.raises(kind, match=rf"^aws ssm get-parameter failed with {code}: as the test wants it\.") as raised:
        call()
    assert isinstance(raised.value, (AwsRefusedError, AwsFailedError))
    assert raised.value.code == code
    assert ("Allow the function's role GetParameter" in str(raised.value)) is (code == "AccessDeniedException")


SAID = "An error occurred ({}) when calling the {} operation{}: {}"  # as the CLI 1.46 says it
REFUSED = {
    SAID.format("ParameterNotFound", "GetParameter", "", ""): r"with ParameterNotFound\.$",
    SAID.format("UnauthorizedOperation", "StartInstances", "", "You are not."): r"not\. Allow .* StartInstances on it",
    SAID.format("403", "HeadObject", "", "Forbidden"): r"403: Forbidden\. Allow the function's role HeadObject on it",
    SAID.format("AWS.SimpleQueueService.NonExistentQueue", "SendMessage", "", "a: b"): r"NonExistentQueue: a: b",
    SAID.format("AuthorizationError", "Publish", "", "x"): "Allow the function's role Publish on it",
    "upload failed: - to s3://b/k " + SAID.format("AccessDenied", "PutObject", "", "No"): "Allow .* PutObject on it",
    "fatal error: " + SAID.format("404", "HeadObject", "", 'Key "k" does not exist'): "does not exist",
}
FAILED = {
    SAID.format("ThrottlingException", "GetParameter", " (reached max retries: 2)", "Rate exceeded"): ": Rate exceeded",
    SAID.format("RequestLimitExceeded", "DescribeInstances", "", "x"): "RequestLimitExceeded",
    SAID.format("InsufficientInstanceCapacity", "StartInstances", "", "x"): "InsufficientInstanceCapacity",
    SAID.format("InternalError", "Publish", "", "x"): "InternalError",
    SAID.format("503", "HeadObject", "", "Service Unavailable"): "503",
    SAID.format("ServiceUnavailable", "PutObject", "", "x"): "ServiceUnavailable",
    'Could not connect to the endpoint URL: "https://sns/"': "failed: Could not connect",
    "Traceback (most recent call last):\n  File x\nKilled: 9": "failed: Killed: 9",
    "": "failed: exit code 255",
}


@pytest.mark.parametrize("said", [*REFUSED, *FAILED])
def test_what_the_cli_says_is_sorted_by_whether_it_may_pass(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 255, b"", said.encode())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    kind = AwsRefusedError if said in REFUSED else AwsFailedError
    with pytest.raises(kind, match=f"^aws s3api head-object .*{(REFUSED | FAILED)[said]}"):
        aws_cli.run(["s3api", "head-object", "secret-MARKED"], deadline=soon())


def test_passing_error_is_tried_again_by_the_cli_itself(cloud: Cloud) -> None:
    cloud.ssm.put_parameter(Name="p", Value="v", Type="String")
    cloud.proxy.script = refusing("GetParameter", "ThrottlingException", times=1)
    assert json.dumps(call())
    assert cloud.proxy.operations() == ["GetParameter"] * 2


def test_call_is_ended_at_the_deadline(cloud: Cloud) -> None:
    cloud.proxy.script = lambda call: KEEP_WAITING
    begun = time.monotonic()
    with pytest.raises(AwsFailedError, match=r"^aws ssm get-parameter had no answer before") as raised:
        call(seconds=2)
    assert raised.value.code == "Timeout"
    assert time.monotonic() - begun < 20


def test_missing_login_is_reported_without_a_call(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(AwsFailedError, match=r"^aws ssm get-parameter failed: .*[Uu]nable to locate credentials"):
        call()
    assert cloud.proxy.calls == []


def test_child_has_the_layer_and_our_environment_and_compiles_only_into_tmp(
    cloud: Cloud, lambda_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = aws_cli._environment()
    assert environment["PYTHONPYCACHEPREFIX"] == str(lambda_tmp / "trigger-pycache")
    assert {name for name in environment if environment[name] != os.environ.get(name)} <= {
        "PYTHONPATH",
        "PYTHONPYCACHEPREFIX",
        "PYTHONDONTWRITEBYTECODE",
        "AWS_RETRY_MODE",
        "AWS_PAGER",
    }
