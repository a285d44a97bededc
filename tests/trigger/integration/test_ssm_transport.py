"""The command that SSM runs on the instance: run for real by sh, with a `docker` that records its arguments."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_proxy import Answer, Call, refusal
from tests.support.cloud import MONITORED, SOURCE, Cloud
from tests.support.paths import EVENTS
from tests.trigger.integration.test_instance import states
from trigger import airflow_command, aws_cli, errors
from trigger.deadline import Deadline
from trigger.handler import handler

INSTANCE = "i-0123456789abcdef0"
CONF = {"marker": {"bucket": "b", "key": "k.SUCCESS", "etag": "e"}, "requested_at": "2026-11-22T08:00:00+00:00"}
RUN_ID = "marker_2026-11-22T08:18:01Z_aac3424847_52e682ae"

# What Airflow 3.3.2's command line prints, cut to what matters; it also writes warnings of its own.
DETAILS = '[{"dag_id": "moving_big_data", "is_paused": "%s", "is_stale": "False"}]'
UNKNOWN = "echo warning; echo \"DAG: moving_big_data does not exist in 'dag' table\" >&2; exit 1"
NO_DATABASE = "echo 'relation \"dag\" does not exist' >&2; exit 1"
EXISTS = (
    "echo 'airflow.exceptions.DagRunAlreadyExists: A DAG Run already exists for DAG moving_big_data with run id x' >&2;"
    "exit 1"
)

DOCKER = """\
#!/bin/sh
case "$*" in
  "compose exec -T scheduler "* | "compose exec -T api-server true") ;;
  *) echo "unexpected: $*" >&2; exit 9 ;;
esac
shift 4
{{ printf '%s\\0' "$@"; printf '\\1'; }} >>{calls}
cat >>{calls}.input
case "$1 $2 $3" in
  "true  ") {true} ;;
  "airflow dags details") {details} ;;
  "airflow dags trigger") {trigger} ;;
  *) exit 9 ;;
esac
"""


class Instance:
    """A folder with an Airflow, and on PATH a `docker` whose answers a test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "airflow"
        self.folder.mkdir()
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._calls = folder / "calls"
        self.airflow()

    def airflow(
        self, *, true: str = ":", details: str = f"echo '{DETAILS % 'False'}'", trigger: str = "echo []"
    ) -> None:
        docker = self.bin / "docker"
        docker.write_text(DOCKER.format(calls=self._calls, true=true, details=details, trigger=trigger))
        docker.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        if not self._calls.exists():
            return []
        return [call.split("\0")[:-1] for call in self._calls.read_text().split("\1")[:-1]]

    def run(self, script: str) -> str:
        """As SSM's agent does: the script's whole standard output."""
        path = self.folder.parent / "_script.sh"
        path.write_text(script)
        environment = {**os.environ, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", path],
            input=b"the agent's own",
            env=environment,
            cwd=self.folder.parent,
            capture_output=True,
            check=True,
        )
        taken = Path(f"{self._calls}.input")
        assert not taken.exists() or taken.read_bytes() == b"", "a command inside read input that was not meant for it"
        return done.stdout.decode()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    made = Instance(tmp_path)
    monkeypatch.setattr(airflow_command, "AIRFLOW_FOLDER", str(made.folder))
    return made


def said(instance: Instance, conf: dict[str, Any] = CONF) -> str:
    return instance.run(airflow_command.command(dag_run_id=RUN_ID, conf=conf)).strip()


def test_run_is_triggered_with_the_id_and_the_conf(instance: Instance) -> None:
    assert said(instance) == "started"
    details = ["airflow", "dags", "details", "moving_big_data", "--output", "json"]
    *trigger, conf, output, json_ = instance.calls[2]
    assert instance.calls[:2] == [["true"], details]
    assert trigger == ["airflow", "dags", "trigger", "moving_big_data", "--run-id", RUN_ID, "--conf"]
    assert json.loads(conf) == CONF
    assert [output, json_] == ["--output", "json"]
    assert instance.calls[3:] == [["true"]]


@pytest.mark.parametrize("name", ["hostile_key", "newline_key", "unicode_key"])
def test_hostile_key_is_only_data_on_the_instance(name: str, instance: Instance) -> None:
    key = json.loads((EVENTS / f"{name}.expected.json").read_text())["records"][0]["key"]
    for odd in (key, "'; touch pwned; '", "$(touch pwned)", "`touch pwned`", "\n touch pwned\n", "--help", "%s\\0"):
        conf = {"marker": {**CONF["marker"], "key": odd}}  # type: ignore[dict-item]
        assert said(instance, conf) == "started"
        assert json.loads(instance.calls[-2][7]) == conf
    assert len(instance.calls) == 4 * 7
    assert not list(instance.folder.parent.rglob("pwned"))
    script = airflow_command.command(dag_run_id=RUN_ID, conf={"marker": {"key": key}})
    assert key not in script
    assert script.isascii()


OUTCOMES: dict[str, tuple[Callable[[Instance], None], int]] = {
    "already_accepted": (lambda instance: instance.airflow(trigger=EXISTS), 4),
    "refused": (lambda instance: instance.airflow(trigger="echo 'no such param' >&2; exit 1"), 4),
    "paused": (lambda instance: instance.airflow(details=f"echo '{DETAILS % 'True'}'"), 2),
    "unknown_dag": (lambda instance: instance.airflow(details=UNKNOWN), 2),
    "not_ready": (lambda instance: instance.airflow(true="echo 'no container' >&2; exit 1"), 1),
    "no_airflow": (lambda instance: instance.folder.rmdir(), 0),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_command_prints_in_one_word_what_it_found(outcome: str, instance: Instance) -> None:
    arrange, calls = OUTCOMES[outcome]
    arrange(instance)
    assert said(instance) == outcome
    assert len(instance.calls) == calls


# An instance that stops its api-server while the command runs, with a sign in the folder that the command runs in.
IS_OPEN, CLOSE = "test ! -e closed", "touch closed"


@pytest.mark.parametrize("answer", ["echo []", EXISTS, "exit 137"])
def test_run_that_came_after_the_door_was_closed_is_not_reported_as_started(answer: str, instance: Instance) -> None:
    instance.airflow(true=IS_OPEN, trigger=f"{CLOSE}; {answer}")
    assert said(instance) == "not_ready"
    assert [call[0] for call in instance.calls] == ["true", "airflow", "airflow", "true"]


def test_database_that_is_not_there_yet_is_no_unknown_dag(instance: Instance) -> None:
    instance.airflow(details=NO_DATABASE)
    assert said(instance) == "not_ready"


class Ssm:
    """An SSM that runs the script on the instance and reports the result when asked."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.sent: list[dict[str, Any]] = []
        self.unregistered = 0  # how many calls come before the agent has registered
        self.before: list[str] = []  # answers before the outcome: each a status or the code of an error
        self.status = "Success"
        self.states: list[str] = []  # of the instance, in turn; moto's own if empty
        self._output = ""

    def __call__(self, call: Call) -> Answer | None:
        if call.operation == "DescribeInstances" and self.states:
            return states(self.states.pop(0))[0]
        if call.operation == "StartInstances":
            self.instance.airflow()
            self.before = []
            return Answer(200, b"<StartInstancesResponse/>")
        if call.operation == "SendCommand":
            if self.unregistered:
                self.unregistered -= 1
                return refusal(call, "InvalidInstanceId", text="Instances not in a valid state for account")
            self.sent.append(call.parameters)
            [script] = call.parameters["Parameters"]["commands"]
            self._output = self.instance.run(script)
            return _json({"Command": {"CommandId": "c" * 36}})
        if call.operation == "GetCommandInvocation":
            assert call.parameters == {"CommandId": "c" * 36, "InstanceId": INSTANCE}
            first = self.before.pop(0) if self.before else self.status
            if first == "InvocationDoesNotExist":
                return refusal(call, first)
            if first == "Delivery Timed Out":
                return _json({"Status": "TimedOut", "StatusDetails": first})
            return _json({"Status": first, "StandardOutputContent": self._output if first == "Success" else ""})
        return None


def _json(body: object) -> Answer:
    return Answer(200, json.dumps(body).encode(), {"Content-Type": "application/x-amz-json-1.1"})


@pytest.fixture
def ssm(cloud: Cloud, instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Ssm:
    monkeypatch.setattr(airflow_command, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(airflow_command, "_NOT_READY_SECONDS", 0.01)
    cloud.proxy.script = stand_in = Ssm(instance)
    return stand_in


def start(seconds: float = 60) -> str:
    deadline = Deadline(at=time.monotonic() + seconds)
    return airflow_command.start_run(instance_id=INSTANCE, dag_run_id=RUN_ID, conf=CONF, deadline=deadline)


def test_unregistered_agent_and_missing_answer_are_waited_for(ssm: Ssm, cloud: Cloud) -> None:
    ssm.unregistered = 1
    ssm.states = ["running"]
    ssm.before = ["InvocationDoesNotExist", "InProgress"]
    assert start() == "started"
    assert cloud.proxy.operations() == [
        "SendCommand",
        "DescribeInstances",
        "SendCommand",
        *["GetCommandInvocation"] * 3,
    ]
    [sent] = ssm.sent
    assert (sent["InstanceIds"], sent["DocumentName"]) == ([INSTANCE], "AWS-RunShellScript")


def test_instance_that_stopped_its_api_server_to_stop_itself_is_woken_again(
    ssm: Ssm, instance: Instance, cloud: Cloud
) -> None:
    instance.airflow(true="echo 'no container' >&2; exit 1")
    ssm.states = ["stopping", "stopped", "running"]
    assert start() == "started"
    asked = ["SendCommand", "GetCommandInvocation"]
    describe = "DescribeInstances"
    assert cloud.proxy.operations() == [*asked, describe, describe, "StartInstances", describe, *asked]


def test_instance_that_shut_down_with_the_run_in_its_database_is_woken_again(
    ssm: Ssm, instance: Instance, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.airflow(true=IS_OPEN, trigger=f"{CLOSE}; echo []")
    monkeypatch.setattr(instance, "airflow", partial(instance.airflow, trigger=EXISTS))  # once it is up again
    ssm.states = ["stopping", "stopped", "running"]
    assert start() == "already_accepted"
    assert "StartInstances" in cloud.proxy.operations()


def test_instance_that_stopped_with_the_command_is_woken_again_and_gets_another(
    ssm: Ssm, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trigger.instance.LOOK_AGAIN_SECONDS", 0.5)
    ssm.before = ["Pending"] * 1000
    ssm.states = ["running", "stopping", "stopped", "running", "running"]
    assert start() == "started"
    operations = cloud.proxy.operations()
    assert [one for one in operations if one in ("SendCommand", "StartInstances")] == [
        "SendCommand",
        "StartInstances",
        "SendCommand",
    ]


# These need no CLI: the tests above have shown how the word gets here.
WORDS: dict[str, tuple[type[errors.TriggerError], str]] = {
    "paused": (errors.PausedDagError, "airflow dags unpause moving_big_data"),
    "unknown_dag": (errors.UnknownDagError, "list-import-errors"),
    "refused": (errors.RefusedRunError, f"refused to make DagRun {RUN_ID}"),
    "not_ready": (errors.NotReadyError, r"was not up in time.*docker compose ps"),
    "no_airflow": (errors.WrongApiError, "found no Airflow of this pipeline .'no_airflow'"),
    "": (errors.WrongApiError, "found no Airflow of this pipeline"),
}


@pytest.mark.parametrize("word", WORDS)
def test_word_of_the_instance_becomes_an_error_that_says_what_to_do(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, text = WORDS[word]
    answers: dict[str, dict[str, object]] = {
        "send-command": {"Command": {"CommandId": "c"}},
        "get-command-invocation": {"Status": "Success", "StandardOutputContent": f"a warning\n{word}\n"},
    }
    monkeypatch.setattr(airflow_command, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(aws_cli, "call", lambda _, operation, *__, **___: answers[operation])
    with pytest.raises(kind, match=f"instance {INSTANCE}.*{text}" if word else text):
        start(seconds=1)


@pytest.mark.parametrize("status", ["Failed", "TimedOut", "Cancelled"])
def test_command_that_did_not_end_well_may_be_repeated(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, dict[str, object]] = {
        "send-command": {"Command": {"CommandId": "c"}},
        "get-command-invocation": {"Status": status, "StandardOutputContent": "started"},
    }
    monkeypatch.setattr(airflow_command, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(aws_cli, "call", lambda _, operation, *__, **___: answers[operation])
    with pytest.raises(errors.ServerFailedError, match=f"ended as {status}.*A repeat is safe"):
        start()


def test_command_without_an_answer_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, dict[str, object]] = {
        "send-command": {"Command": {"CommandId": "c"}},
        "get-command-invocation": {"Status": "Pending"},
        "cancel-command": {},
    }
    called: list[tuple[str, object]] = []

    def call(_: str, operation: str, parameters: object, **__: object) -> dict[str, object]:
        called.append((operation, parameters))
        return answers[operation]

    monkeypatch.setattr(airflow_command, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(aws_cli, "call", call)
    with pytest.raises(errors.NoAnswerError, match=r"gave no answer in time, and was cancelled\. A repeat is safe"):
        start(seconds=0.3)
    assert called[-1] == ("cancel-command", {"CommandId": "c", "InstanceIds": [INSTANCE]})


def test_refused_cancellation_does_not_hide_that_there_was_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(_: str, operation: str, *__: object, **___: object) -> dict[str, object]:
        if operation == "cancel-command":
            raise errors.AwsRefusedError("no", code="AccessDeniedException")
        return {"Command": {"CommandId": "c"}} if operation == "send-command" else {"Status": "Pending"}

    monkeypatch.setattr(airflow_command, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(aws_cli, "call", call)
    with pytest.raises(errors.NoAnswerError):
        start(seconds=0.3)


def test_command_that_the_agent_does_not_fetch_ends_and_another_is_sent(ssm: Ssm, cloud: Cloud) -> None:
    """Without a limit it would stay valid for an hour, and start a run after a mail said that none did.

    SSM gives up after both limits together.
    """
    ssm.states = ["running"]
    ssm.before = ["Delivery Timed Out"]
    assert start() == "started"
    assert cloud.proxy.operations() == [*["SendCommand", "GetCommandInvocation"], "DescribeInstances",
                                        *["SendCommand", "GetCommandInvocation"]]  # fmt: skip
    assert [(one["TimeoutSeconds"], one["Parameters"]["executionTimeout"]) for one in ssm.sent] == [(60, ["300"])] * 2


def test_event_starts_a_run_by_ssm_once_without_url_user_or_password(
    ssm: Ssm, cloud: Cloud, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    [image, *_] = cloud.ec2.describe_images()["Images"]
    [made] = cloud.ec2.run_instances(ImageId=image["ImageId"], MinCount=1, MaxCount=1)["Instances"]
    monkeypatch.setitem(globals(), "INSTANCE", made["InstanceId"])
    monkeypatch.setenv("INSTANCE_ID", made["InstanceId"])
    monkeypatch.setenv("MONITORED_BUCKET", MONITORED)
    monkeypatch.setenv("SOURCE_BUCKET", SOURCE)
    event = json.loads((EVENTS / "hostile_key.json").read_text())
    [record] = handler(event, None)["records"]
    assert record == json.loads((EVENTS / "hostile_key.expected.json").read_text())["records"][0]
    assert cloud.proxy.operations() == ["DescribeInstances", "SendCommand", "GetCommandInvocation"]
    assert json.loads(instance.calls[-2][7])["marker"]["key"] == record["key"]


def test_real_ssm_stand_in_takes_the_command_as_it_is_sent(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_command, "_POLL_SECONDS", 0.01)
    with pytest.raises(errors.WrongApiError):  # moto runs nothing, so nothing is printed
        start()
    [command] = cloud.ssm.list_commands()["Commands"]
    assert command["DocumentName"] == "AWS-RunShellScript"
    [script] = command["Parameters"]["commands"]
    assert json.loads(base64.b64decode(script.partition("printf %s ")[2].partition(" ")[0])) == CONF
