"""`npx serverless` from a clean environment: what it makes of serverless.yml, what it refuses before it calls AWS."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration_trigger.trigger_build import zipped

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "MBD_FIRST_NAME": "Grace",
    "MBD_LAST_NAME": "Hopper",
    "MBD_TOPIC_ARN": "arn:aws:sns:eu-west-1:000000000000:de-mbd-predict-grace-hopper-SNS",
    "MBD_INSTANCE_ID": "i-0123456789abcdef0",
}

# Every statement of the role that allows something on all resources, with the reason.
ON_EVERYTHING = {
    frozenset({"ec2:DescribeInstances", "ssm:GetCommandInvocation"}): "AWS knows no narrower resource; they only read",
}


class DeafAws:
    """Listens where AWS would; counts who comes."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        calls = self.calls

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                calls.append(f"{self.command} {self.path} {body.decode(errors='replace')}")
                self.send_error(400)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def aws() -> Iterator[DeafAws]:
    listening = DeafAws()
    yield listening
    listening.stop()


class Service:
    """A clean clone's serverless.yml, without a .env and without an AWS account."""

    def __init__(self, folder: Path, aws: DeafAws) -> None:
        self.folder = folder
        self._aws = aws
        for name in ("serverless.yml", "package.json"):
            shutil.copy(ROOT / name, folder)
        for name in ("trigger", "node_modules"):
            (folder / name).symlink_to(ROOT / name)

    def __call__(self, command: str, settings: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "AWS_ENDPOINT_URL": self._aws.url, **more}
        return subprocess.run(
            ["npx", "--no-install", "serverless", command],
            cwd=self.folder,
            env={**environment, "NO_PROXY": "*"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @property
    def template_path(self) -> Path:
        return self.folder / ".serverless" / "cloudformation-template-update-stack.json"

    @property
    def resources(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.template_path.read_text())["Resources"]
        return loaded

    def of(self, kind: str) -> dict[str, Any]:
        """Properties by logical id."""
        return {name: one["Properties"] for name, one in self.resources.items() if one["Type"] == kind}


@pytest.fixture
def service(tmp_path: Path, aws: DeafAws) -> Service:
    for program in ("node", "npx"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not there: install Node 20.19 or later (on Debian: apt install nodejs npm)")
    if not (ROOT / "node_modules").exists():
        pytest.skip("the Serverless Framework is not there: run npm ci")
    zipped("function")
    return Service(tmp_path, aws)


def allowed(service: Service) -> list[dict[str, Any]]:
    """The statements of the functions' role."""
    [role] = service.of("AWS::IAM::Role").values()
    return [statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]]


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_package_without_an_account_makes_a_sound_closed_template(service: Service, aws: DeafAws) -> None:
    done = service("package", SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not to be deployed" not in done.stderr + done.stdout
    assert aws.calls == []

    linter = Path(sys.executable).with_name("cfn-lint")
    lint = subprocess.run([linter, service.template_path], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout

    for statement in allowed(service):
        actions = frozenset(listed(statement["Action"]))
        assert not [action for action in actions if "*" in action], statement
        if "*" in listed(statement["Resource"]):
            assert actions in ON_EVERYTHING, statement
    buckets = service.of("AWS::S3::Bucket")
    monitored = next(one for one in buckets.values() if "monitored" in str(one.get("BucketName")))
    assert monitored["BucketName"] == "de-mbd-predict-grace-hopper-monitored-bucket"
    assert set(monitored["PublicAccessBlockConfiguration"].values()) == {True}
    [on_put] = monitored["NotificationConfiguration"]["LambdaConfigurations"]
    assert on_put["Event"] == "s3:ObjectCreated:*"
    assert on_put["Filter"]["S3Key"]["Rules"] == [{"Name": "suffix", "Value": ".SUCCESS"}]
    policies = [policy["PolicyDocument"]["Statement"] for policy in service.of("AWS::S3::BucketPolicy").values()]
    assert {statement["Effect"] for statements in policies for statement in statements} == {"Deny"}

    functions = {one["FunctionName"].rpartition("-")[2]: one for one in service.of("AWS::Lambda::Function").values()}
    assert set(functions) == {"trigger", "report", "watchdog", "redrive"}
    assert functions["trigger"]["ReservedConcurrentExecutions"] == 1
    assert "PASSWORD" not in " ".join(functions["trigger"]["Environment"]["Variables"]).replace(
        "PASSWORD_PARAMETER", ""
    )
    retries = {one["MaximumRetryAttempts"]: one for one in service.of("AWS::Lambda::EventInvokeConfig").values()}
    assert "FailedEvents" in json.dumps(retries[2]["DestinationConfig"]["OnFailure"])
    assert {one["RetentionInDays"] for one in service.of("AWS::Logs::LogGroup").values()} == {90}


def test_package_in_a_fresh_clone_works_with_example_values_and_says_so(service: Service, aws: DeafAws) -> None:
    done = service("package", {})
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "packaged with example values, not to be deployed: MBD_FIRST_NAME is not set" in said
    assert service.of("AWS::Lambda::Function")
    assert aws.calls == []


def test_deploy_with_settings_missing_names_all_of_them_and_makes_nothing(service: Service, aws: DeafAws) -> None:
    login = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "eu-west-1"}
    done = service("deploy", {"MBD_LAST_NAME": "O'Neill"}, **login)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for part in (
        "deploy: nothing was done",
        "MBD_FIRST_NAME is not set",
        "MBD_TOPIC_ARN is not set",
        "neither AIRFLOW_URL",
        'MBD_LAST_NAME is "O\'Neill", which cannot stand in a bucket',
    ):
        assert part in said, said
    # The Framework itself asks who is logged in, before a plugin's turn comes; nothing else is read, nothing is made.
    assert not [call for call in aws.calls if "Action=GetCallerIdentity" not in call]


def test_course_profile_opens_the_monitored_bucket_and_says_so(service: Service, aws: DeafAws) -> None:
    done = service("package", {**SETTINGS, "MBD_PROFILE": "course", "MBD_RESERVED_CONCURRENCY": "none"})
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "everyone on the internet may put markers into de-mbd-predict-grace-hopper-monitored-bucket" in said
    monitored = next(one for one in service.of("AWS::S3::Bucket").values() if "monitored" in str(one.get("BucketName")))
    assert set(monitored["PublicAccessBlockConfiguration"].values()) == {False}
    [everyone] = [
        statement
        for policy in service.of("AWS::S3::BucketPolicy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]
    assert everyone["Action"] == ["s3:GetObject", "s3:PutObject"]
    assert "monitored-bucket/*" in json.dumps(everyone["Resource"])
    assert not [one for one in service.of("AWS::Lambda::Function").values() if "ReservedConcurrentExecutions" in one]
