"""`npx serverless` in a clean environment: what it makes of serverless.yml, and what it refuses before it calls AWS."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.infra.unit.test_policies import allows
from tests.support.brief import BRIEF
from tests.support.deployment import derive
from tests.support.paths import CONTRACTS, ROOT
from tests.support.trigger_build import zipped
from trigger import watchdog
from trigger.errors import SettingsError
from trigger.expectation import read_expectation
from trigger.settings import _airflow_url

SETTINGS = {
    "MBD_FIRST_NAME": "Grace",
    "MBD_LAST_NAME": "Hopper",
    "MBD_TOPIC_ARN": "arn:aws:sns:eu-west-1:000000000000:de-mbd-predict-grace-hopper-SNS",
    "MBD_INSTANCE_ID": "i-0123456789abcdef0",
}

LOGIN = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "eu-west-1"}

# Every statement of the role that allows something on all resources, with the reason.
ON_EVERYTHING = {
    frozenset({"ec2:DescribeInstances", "ssm:GetCommandInvocation", "ssm:CancelCommand"}): "no narrower resource",
}


class DeafAws:
    """Listens in AWS's place, records each call, and refuses all but the invocation of a function."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.invocation_seconds = 0.0
        self.hangs_up = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        aws = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                aws.calls.append(f"{self.command} {self.path} {body.decode(errors='replace')}")
                if self.path.endswith("/invocations"):
                    self._invoked()
                else:
                    self.send_error(400)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

            def _invoked(self) -> None:
                time.sleep(aws.invocation_seconds)
                if aws.hangs_up:
                    self.close_connection = True
                    return
                answer = b'{"events": 17}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                with suppress(BrokenPipeError):
                    self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

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
            ["npx", "--no-install", "serverless", *command.split()],
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


def require(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is missing: install make and Node 20.19 or later (apt install make nodejs npm)")


@pytest.fixture
def service(tmp_path: Path, aws: DeafAws) -> Service:
    require("node", "npx")
    if not (ROOT / "node_modules").exists():
        pytest.skip("the Serverless Framework is missing: run npm ci")
    zipped("function")
    return Service(tmp_path, aws)


def allowed(service: Service) -> list[dict[str, Any]]:
    """The statements of the functions' roles."""
    return [statement for name in service.of("AWS::IAM::Role") for statement in allowed_to(service, name)]


def allowed_to(service: Service, role: str) -> list[dict[str, Any]]:
    policies = service.of("AWS::IAM::Role")[role]["Policies"]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_package_without_an_account_makes_a_sound_closed_template(service: Service, aws: DeafAws) -> None:
    done = service("package", SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "do not deploy this" not in done.stderr + done.stdout
    assert aws.calls == []

    linter = Path(sys.executable).with_name("cfn-lint")
    lint = subprocess.run([linter, *UNLINTED, "--", service.template_path], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout

    named = [one["Export"]["Name"] for one in json.loads(service.template_path.read_text())["Outputs"].values()]
    roles = {one["RoleName"] for one in service.of("AWS::IAM::Role").values()}
    assert roles == {"de-mbd-predict-grace-hopper-trigger", "de-mbd-predict-grace-hopper-mail"}
    for name in named:  # so that a second person can deploy into the same account
        assert "de-mbd-predict-grace-hopper-trigger" in name
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
    watches = functions["watchdog"]["Environment"]["Variables"]
    assert (watches["EXPECT_BY"], watches["HOLIDAYS"]) == ("", "")
    assert not [one for one in functions.values() if "ReservedConcurrentExecutions" in one]
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
    assert "packaged with example values; do not deploy this: MBD_FIRST_NAME is not set" in said
    assert service.of("AWS::Lambda::Function")
    assert aws.calls == []


def test_deploy_with_settings_missing_names_all_of_them_and_makes_nothing(service: Service, aws: DeafAws) -> None:
    done = service("deploy", {"MBD_LAST_NAME": "O'Neill", "MBD_WATCHDOG_MINUTES": "abc"}, **LOGIN)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for part in (
        "deploy: nothing was done",
        "MBD_FIRST_NAME is not set",
        "MBD_TOPIC_ARN is not set",
        "neither AIRFLOW_URL",
        'MBD_LAST_NAME is "O\'Neill": use letters A to Z',
        "MBD_WATCHDOG_MINUTES is not a number of minutes above 0 and up to 2700",
    ):
        assert part in said, said
    # The Framework itself asks who is logged in, before it calls a plugin; nothing else is read or created.
    assert not [call for call in aws.calls if "Action=GetCallerIdentity" not in call]


def test_course_profile_opens_the_monitored_bucket_and_says_so(service: Service, aws: DeafAws) -> None:
    done = service("package", {**SETTINGS, "MBD_PROFILE": "course", "MBD_RESERVED_CONCURRENCY": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "everyone on the internet may put markers into de-mbd-predict-grace-hopper-monitored-bucket" in said
    monitored = next(one for one in service.of("AWS::S3::Bucket").values() if "monitored" in str(one.get("BucketName")))
    block = monitored["PublicAccessBlockConfiguration"]
    assert {name for name, is_on in block.items() if not is_on} == {"BlockPublicPolicy", "RestrictPublicBuckets"}
    policies = [policy["PolicyDocument"]["Statement"] for policy in service.of("AWS::S3::BucketPolicy").values()]
    [[everyone]] = [statements for statements in policies if statements[0]["Effect"] == "Allow"]
    assert {**everyone, "Resource": ""} == {**BRIEF["monitored_bucket"]["statement"], "Resource": ""}
    bucket = "arn:${AWS::Partition}:s3:::de-mbd-predict-grace-hopper-monitored-bucket"
    assert [one["Fn::Sub"] for one in everyone["Resource"]] == [bucket, f"{bucket}/*"]
    linter = Path(sys.executable).with_name("cfn-lint")
    lint = subprocess.run([linter, *UNLINTED, "--", service.template_path], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout
    [days] = [rule["ExpirationInDays"] for rule in monitored["LifecycleConfiguration"]["Rules"]]
    assert days == 1  # whatever anybody puts there
    reserved = [one.get("ReservedConcurrentExecutions") for one in service.of("AWS::Lambda::Function").values()]
    assert sorted(reserved, key=str) == [1, None, None, None]


UNLINTED = ["--ignore-checks", "W3005"]  # osls writes DependsOn next to a GetAtt of the same role
ON_INSTANCE = {"ec2:DescribeInstances", "ec2:StartInstances"}
BY_SSM = {"ssm:SendCommand", "ssm:GetCommandInvocation", "ssm:CancelCommand"}
PASSWORD = {"ssm:GetParameter"}
HTTP = {"MBD_TRANSPORT": "http", "AIRFLOW_URL": "https://airflow.example:8080"}


@pytest.mark.parametrize(
    ("settings", "rights"),
    [
        ({}, ON_INSTANCE | BY_SSM),
        (HTTP, ON_INSTANCE | PASSWORD),
        ({**HTTP, "MBD_INSTANCE_ID": ""}, PASSWORD),
    ],
    ids=["ssm", "http", "http without an instance"],
)
def test_role_may_do_what_the_transport_needs_and_no_more(
    settings: dict[str, str], rights: set[str], service: Service
) -> None:
    done = service("package", {**SETTINGS, **settings})
    assert done.returncode == 0, done.stdout + done.stderr
    actions = {action for statement in allowed(service) for action in listed(statement["Action"])}
    assert {action for action in actions if action.startswith(("ec2:", "ssm:"))} == rights
    linter = Path(sys.executable).with_name("cfn-lint")
    lint = subprocess.run([linter, *UNLINTED, "--", service.template_path], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout


def test_report_and_watchdog_may_start_nothing_and_alarms_reach_somebody(service: Service) -> None:
    done = service("package", {**SETTINGS, "MBD_EMAIL": "grace@example.org"})
    assert done.returncode == 0, done.stdout + done.stderr
    roles = {
        one["FunctionName"].rpartition("-")[2]: one["Role"]["Fn::GetAtt"][0]
        for one in service.of("AWS::Lambda::Function").values()
    }
    assert (roles["report"], roles["watchdog"]) == ("MailRole", "MailRole")
    assert "MailRole" not in (roles["trigger"], roles["redrive"])
    actions = {action for one in allowed_to(service, "MailRole") for action in listed(one["Action"])}
    assert not {action for action in actions if action.startswith(("ec2:", "ssm:", "lambda:", "iam:"))}
    assert "sns:Publish" not in {
        a for one in allowed_to(service, "IamRoleLambdaExecution") for a in listed(one["Action"])
    }

    [topic] = service.of("AWS::SNS::Topic").values()
    assert topic["Subscription"] == [{"Protocol": "email", "Endpoint": "grace@example.org"}]
    assert "KmsMasterKeyId" not in topic  # CloudWatch cannot publish to a topic with AWS's own key
    alarms = {one["AlarmName"].rpartition("hopper-")[2]: one for one in service.of("AWS::CloudWatch::Alarm").values()}
    assert set(alarms) == {"report-fails", "watchdog-fails", "watchdog-sleeps", "kept-events-age"}
    for name, one in alarms.items():
        assert one["AlarmActions"] == [{"Ref": "AlarmTopic"}]
        assert one["TreatMissingData"] == ("breaching" if name == "watchdog-sleeps" else "notBreaching")
    # A watchdog that nobody calls makes no error and no figure at all.
    sleeps = alarms["watchdog-sleeps"]
    assert (sleeps["Namespace"], sleeps["MetricName"], sleeps["Statistic"]) == ("AWS/Lambda", "Invocations", "Sum")
    assert (sleeps["ComparisonOperator"], sleeps["Threshold"]) == ("LessThanThreshold", 1)
    assert (sleeps["EvaluationPeriods"], sleeps["Period"]) == (3, 3600)
    assert sleeps["Dimensions"] == alarms["watchdog-fails"]["Dimensions"]
    named = {one["FunctionName"] for one in service.of("AWS::Lambda::Function").values()}
    # Not the age: it leaves out a message that three redrives received in vain.
    kept = alarms["kept-events-age"]
    assert (kept["MetricName"], kept["Statistic"]) == ("ApproximateNumberOfMessagesVisible", "Minimum")
    assert (kept["ComparisonOperator"], kept["Threshold"]) == ("GreaterThanOrEqualToThreshold", 1)
    assert (kept["EvaluationPeriods"], kept["Period"], "DatapointsToAlarm" in kept) == (24, 3600, False)
    watched = {dimension["Value"] for one in alarms.values() for dimension in one["Dimensions"]}
    assert watched - named == {"de-mbd-predict-grace-hopper-kept-events"}


def rights(service: Service, role: str) -> set[tuple[str, str]]:
    """Each action with the end of a name that it is allowed on."""

    def place(resource: Any) -> str:  # noqa: ANN401
        if isinstance(resource, dict):
            return str(resource["Fn::Sub"]) if "Fn::Sub" in resource else str(resource["Fn::GetAtt"][0])
        return str(resource)

    return {
        (action, place(resource).rpartition(":")[2].replace("de-mbd-predict-grace-hopper", "NAME"))
        for statement in allowed_to(service, role)
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def test_each_function_may_do_what_its_work_asks_of_aws_in_the_time_that_it_takes(service: Service) -> None:
    done = service("package", {**SETTINGS, "MBD_TRIGGER_DRY_RUN": "on"})
    assert done.returncode == 0, done.stdout + done.stderr
    redriven = {
        (f"sqs:{name}", "KeptEvents") for name in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")
    }
    markers = {("s3:ListBucket", "NAME-monitored-bucket"), ("s3:GetObject", "NAME-monitored-bucket/*.SUCCESS")}
    assert redriven | markers <= rights(service, "IamRoleLambdaExecution")
    output = "NAME-s3-source/Output"
    assert {
        ("sns:Publish", "NAME-SNS"),
        ("sqs:SendMessage", "KeptEvents"),
        *((f"sqs:{name}", "FailedEvents") for name in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
        *(("s3:ListBucket", f"NAME-{bucket}") for bucket in ("s3-source", "monitored-bucket")),
        *(("s3:GetObject", f"{output}/{folder}/*") for folder in ("receipts", "notices", "alarms")),
        ("s3:PutObject", f"{output}/alarms/*"),
        ("s3:DeleteObject", f"{output}/notices/*"),  # a notice that was sent would be sent again each hour
    } <= rights(service, "MailRole")
    functions = {one["FunctionName"].rpartition("-")[2]: one for one in service.of("AWS::Lambda::Function").values()}
    # A stopped instance takes minutes to start.
    assert {name: one["Timeout"] for name, one in functions.items()} == {
        "trigger": 900, "redrive": 900, "report": 120, "watchdog": 300,
    }  # fmt: skip
    variables = {name: one["Environment"]["Variables"] for name, one in functions.items()}
    assert variables["watchdog"]["DRY_RUN"] == variables["trigger"]["DRY_RUN"] != ""
    for name in ("report", "watchdog", "redrive"):
        assert variables[name]["KEPT_EVENTS_URL"] == {"Ref": "KeptEvents"}
        assert variables[name]["TOPIC_ARN"] == SETTINGS["MBD_TOPIC_ARN"]


def test_no_event_is_lost_on_its_way_and_the_watchdog_comes_each_hour(service: Service) -> None:
    done = service("package", SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    queues, two_weeks = service.of("AWS::SQS::Queue"), 14 * 24 * 3600
    assert {name: one["MessageRetentionPeriod"] for name, one in queues.items()} == dict.fromkeys(queues, two_weeks)
    failed = queues["FailedEvents"]
    assert failed["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["KeptEvents", "Arn"]}
    assert failed["VisibilityTimeout"] >= 6 * 120  # as AWS advises for a function of two minutes
    [mapping] = service.of("AWS::Lambda::EventSourceMapping").values()
    assert mapping["BatchSize"] == 1  # the failure of one event repeats no mail about another
    [rule] = service.of("AWS::Events::Rule").values()
    assert rule["ScheduleExpression"] == "rate(1 hour)"
    retries = sorted(one["MaximumRetryAttempts"] for one in service.of("AWS::Lambda::EventInvokeConfig").values())
    assert retries == [0, 2]  # of redrive, which a person calls, and of the trigger
    statements = [
        one for policy in service.of("AWS::S3::BucketPolicy").values() for one in policy["PolicyDocument"]["Statement"]
    ]
    [tls] = [one for one in statements if one.get("Sid") == "OnlyTls"]
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    alarms = {one["AlarmName"].rpartition("hopper-")[2]: one for one in service.of("AWS::CloudWatch::Alarm").values()}
    for name in ("report", "watchdog"):
        assert [one["Value"].rpartition("-")[2] for one in alarms[f"{name}-fails"]["Dimensions"]] == [name]


HERE = "eu-west-1:123456789012"
# What a kind of resource is called, how long that may be, its ARN, and what makes and tags it (provider.stackTags).
MADE: dict[str, tuple[str, int, str, str, str]] = {
    "AWS::S3::Bucket": ("BucketName", 63, "arn:aws:s3:::{}", "s3:CreateBucket", "s3:PutBucketTagging"),
    "AWS::Events::Rule": ("Name", 64, f"arn:aws:events:{HERE}:rule/{{}}", "events:PutRule", "events:TagResource"),
    "AWS::Logs::LogGroup": (
        "LogGroupName", 512, f"arn:aws:logs:{HERE}:log-group:{{}}", "logs:CreateLogGroup", "logs:TagResource",
    ),
    "AWS::IAM::Role": ("RoleName", 64, "arn:aws:iam::123456789012:role/{}", "iam:CreateRole", "iam:TagRole"),
    "AWS::Lambda::Function": (
        "FunctionName", 64, f"arn:aws:lambda:{HERE}:function:{{}}", "lambda:CreateFunction", "lambda:TagResource",
    ),
    "AWS::Lambda::LayerVersion": (
        "LayerName", 64, f"arn:aws:lambda:{HERE}:layer:{{}}", "lambda:PublishLayerVersion", "lambda:GetLayerVersion",
    ),
    "AWS::Lambda::EventSourceMapping": (
        "", 64, f"arn:aws:lambda:{HERE}:event-source-mapping:{{}}", "lambda:CreateEventSourceMapping",
        "lambda:TagResource",
    ),
    "AWS::SQS::Queue": ("QueueName", 80, f"arn:aws:sqs:{HERE}:{{}}", "sqs:CreateQueue", "sqs:TagQueue"),
    "AWS::SNS::Topic": ("TopicName", 256, f"arn:aws:sns:{HERE}:{{}}", "sns:CreateTopic", "sns:TagResource"),
    "AWS::CloudWatch::Alarm": (
        "AlarmName", 255, f"arn:aws:cloudwatch:{HERE}:alarm:{{}}", "cloudwatch:PutMetricAlarm",
        "cloudwatch:TagResource",
    ),
}  # fmt: skip
PARTS = {"AWS::S3::BucketPolicy", "AWS::Lambda::Permission", "AWS::Lambda::EventInvokeConfig"}  # of one of these


def made_name(stack: str, logical_id: str, *, longest: int) -> str:
    """As CloudFormation names what has no name, cut to what fits.

    Seen: lambda-info-http-endpoin-serverlessdeploymentbuck-2u8uz2i7cap2 of the stack lambda-info-http-endpoint-dev.
    """
    suffix = "2u8uz2i7cap2x"
    whole = f"{stack}-{logical_id}-{suffix}"
    half = (longest - len(suffix) - 2) // 2
    return whole if len(whole) <= longest else f"{stack[:half]}-{logical_id[:half]}-{suffix}"


@pytest.mark.parametrize("last_name", ["Hopper", "B", "Brewster-Murray"])
def test_operator_may_make_and_tag_all_that_a_deployment_makes(last_name: str, service: Service) -> None:
    done = service("package", {**SETTINGS, "MBD_LAST_NAME": last_name, "AWS_REGION": "eu-west-1"})
    assert done.returncode == 0, done.stdout + done.stderr
    command = [sys.executable, "-m", "infra_scripts", "policy", "operator", "--env-file", str(service.folder / ".env")]
    policy = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    stack = f"de-mbd-predict-grace-{last_name.lower()}-trigger"
    denied = []
    for logical_id, one in service.resources.items():
        if one["Type"] in PARTS:
            continue
        naming, longest, arn, *actions = MADE[one["Type"]]
        is_bucket = one["Type"] == "AWS::S3::Bucket"
        made = made_name(stack, logical_id.lower() if is_bucket else logical_id, longest=longest)
        name = one["Properties"].get(naming, made)
        denied += [(name, action) for action in actions if not allows(policy, action, arn.format(name))]
    assert denied == []


def problems(settings: dict[str, str], *, options: dict[str, str] | None = None) -> list[str]:
    """What trigger/deployment.js says of an environment."""
    require("node")
    found: list[str] = derive({**SETTINGS, **settings}, options=options)["problems"]
    return found


FINGERPRINT = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "settings",
    [
        {"MBD_WATCHDOG_MINUTES": "90"},
        {"MBD_WATCHDOG_MINUTES": "2700"},
        {"MBD_WATCHDOG_MINUTES": "0.5", "AWS_REGION": "eu-west-1"},
        {"AIRFLOW_URL": "http://127.0.0.1:8080/"},
        {**HTTP, "AIRFLOW_CERTIFICATE_SHA256": FINGERPRINT},
        {**HTTP, "AIRFLOW_CERTIFICATE_SHA256": ":".join(re.findall("..", FINGERPRINT.upper()))},
        {"MBD_TRANSPORT": "ssm", "AIRFLOW_URL": "a note of mine"},
    ],
    ids=str,
)
def test_sound_settings_are_no_problem(settings: dict[str, str]) -> None:
    assert problems(settings) == []
    assert problems({**settings, "MBD_TOPIC_ARN": SETTINGS["MBD_TOPIC_ARN"].replace("-west-1", "-west-2")}) == [
        "MBD_TOPIC_ARN is in region eu-west-2, but the functions would be in eu-west-1 (AWS_REGION)"
    ]


@pytest.mark.parametrize(
    "minutes", ["abc", "nan", "-5", "0", "0.0", "2700.1", "2850", "1e3", "9" * 400, "Infinity", "0x10"]
)
def test_patience_that_the_watchdog_would_refuse_is_refused_before(minutes: str) -> None:
    assert problems({"MBD_WATCHDOG_MINUTES": minutes}) == [
        "MBD_WATCHDOG_MINUTES is not a number of minutes above 0 and up to 2700"
    ]
    with pytest.raises(SettingsError):
        watchdog.read_patience({"WATCHDOG_MINUTES": minutes})


def test_patience_in_profile_course_is_shorter_than_the_day_that_a_marker_is_kept() -> None:
    course = {"MBD_PROFILE": "course"}
    assert problems({**course, "MBD_WATCHDOG_MINUTES": "1260"}) == []
    assert problems({**course, "MBD_WATCHDOG_MINUTES": "1261"}) == [
        "MBD_WATCHDOG_MINUTES is not a number of minutes above 0 and up to 1260"
    ]


EXPECT_BY = json.loads((CONTRACTS / "expect_by.json").read_text())


def test_expectations_that_the_watchdog_accepts_are_accepted_and_handed_on() -> None:
    for text in EXPECT_BY["accepted"]:
        made = derive({**SETTINGS, "MBD_EXPECT_BY": text, "MBD_HOLIDAYS": "2026-12-25, 2027-01-01"})
        assert (made["problems"], made["expectBy"], made["holidays"]) == ([], text, "2026-12-25 2027-01-01")
    assert [problems({"MBD_HOLIDAYS": text}) for text in EXPECT_BY["holidays"]["accepted"]] == [[], [], []]


def test_every_time_zone_that_a_deployment_knows_is_one_that_the_watchdog_knows() -> None:
    require("node")
    command = ["node", "-p", "JSON.stringify(Intl.supportedValuesOf('timeZone'))"]
    zones = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(zones) > 300
    for zone in zones:
        assert read_expectation({"EXPECT_BY": f"18:30 Mon-Fri {zone}"}), zone


def test_expectations_that_the_watchdog_would_refuse_are_refused_before() -> None:
    """A watchdog that refuses its settings would mail about nothing."""
    for text in EXPECT_BY["refused"]:
        [problem] = problems({"MBD_EXPECT_BY": text})
        assert problem.startswith("MBD_EXPECT_BY is ")
        assert problem.endswith("use a time, weekdays and a time zone, such as 18:30 Mon-Fri Europe/Berlin")
    for text in EXPECT_BY["holidays"]["refused"]:
        [problem] = problems({"MBD_HOLIDAYS": f"2026-12-24 {text}"})
        assert problem.startswith("MBD_HOLIDAYS has ")


@pytest.mark.parametrize(
    "url",
    [
        "airflow.example:8080",
        "ftp://airflow.example",
        "https://trigger:s3cret@airflow.example",
        "https://airflow.example/?password=s3cret",
        "https://airflow.example/#s3cret",
        "https://airflow.example:0",
        "https://airflow.example:99999",
        "https://airflow.example:s3cret",
        "https://[::1/s3cret",
        "https:///s3cret",
        "https://airflow.example/a s3cret",
    ],
)
def test_url_that_the_trigger_would_refuse_is_refused_before_and_never_quoted(url: str) -> None:
    [problem] = problems({"AIRFLOW_URL": url})
    assert problem.startswith("AIRFLOW_URL is not the address of a web server")
    assert "s3cret" not in problem
    with pytest.raises(SettingsError):
        _airflow_url(url, is_pinned=False)


def test_other_settings_that_a_function_would_refuse_are_refused_before() -> None:
    no_pin = ["AIRFLOW_CERTIFICATE_SHA256 is not a SHA-256 fingerprint (64 hex digits)"]
    for text in ("0", FINGERPRINT[1:], "g" + FINGERPRINT[1:], f"sha256:{FINGERPRINT}"):
        assert problems({**HTTP, "AIRFLOW_CERTIFICATE_SHA256": text}) == no_pin
    plain = {"AIRFLOW_URL": "http://airflow.example", "AIRFLOW_CERTIFICATE_SHA256": FINGERPRINT}
    assert problems(plain) == [
        "AIRFLOW_CERTIFICATE_SHA256 pins a certificate, but AIRFLOW_URL is plain http, which has none"
    ]
    elsewhere = "MBD_TOPIC_ARN is in region eu-west-1, but the functions would be in us-east-1 (AWS_REGION)"
    assert problems({"AWS_REGION": "us-east-1"}) == [elsewhere]
    assert problems({}, options={"region": "us-east-1"}) == [elsewhere]
    assert problems({"AWS_REGION": "us-east-1", "MBD_TOPIC_ARN": ""})[0].startswith("MBD_TOPIC_ARN is not set")


NAMES = json.loads((CONTRACTS / "names.json").read_text())


@pytest.mark.parametrize(("first", "last"), NAMES["accepted"])
def test_names_that_every_package_accepts_are_accepted(first: str, last: str) -> None:
    assert problems({"MBD_FIRST_NAME": first, "MBD_LAST_NAME": last}) == []


@pytest.mark.parametrize(("first", "last", "why"), NAMES["refused"])
def test_names_that_every_package_refuses_are_refused(first: str, last: str, why: str) -> None:
    assert problems({"MBD_FIRST_NAME": first, "MBD_LAST_NAME": last}) != [], why


@pytest.mark.parametrize("names", NAMES["derived"], ids=str)
def test_names_of_resources_are_derived_as_in_every_package(names: dict[str, str]) -> None:
    made = derive({**SETTINGS, "MBD_FIRST_NAME": names["first"], "MBD_LAST_NAME": names["last"]})
    assert (made["name"], made["sourceBucket"], made["monitoredBucket"]) == (
        names["prefix"],
        names["source_bucket"],
        names["monitored_bucket"],
    )


def test_stages_that_can_be_deployed_are_those_that_teardown_finds() -> None:
    require("node")
    for stage in NAMES["stages"]["accepted"]:
        assert derive(SETTINGS, options={"stage": stage})["deployProblems"] == []
    for stage in NAMES["stages"]["refused"]:
        [problem] = derive(SETTINGS, options={"stage": stage})["deployProblems"]
        assert problem.startswith(f'the stage "{stage}" has the name of a function: choose another one')


@pytest.mark.parametrize(("command", "is_refused"), [("deploy", True), ("remove", False)])
def test_stage_that_teardown_would_not_find_can_only_be_removed(
    command: str, is_refused: bool, service: Service, aws: DeafAws
) -> None:
    done = service(f"{command} --stage qa-report", SETTINGS, **LOGIN)
    assert ("nothing was done" in done.stdout + done.stderr) is is_refused
    assert ([call for call in aws.calls if "Action=GetCallerIdentity" not in call] == []) is is_refused


DEFAULTS = json.loads((CONTRACTS / "defaults.json").read_text())


@pytest.mark.parametrize("case", DEFAULTS["transport"], ids=str)
def test_transport_is_chosen_as_in_every_package(case: dict[str, Any]) -> None:
    assert derive({**SETTINGS, **case["environment"]})["transport"] == case["transport"]


def test_dry_run_and_patience_are_handed_on_and_the_url_only_where_it_is_called() -> None:
    given = {"MBD_TRIGGER_DRY_RUN": "on", "MBD_WATCHDOG_MINUTES": "90", "AIRFLOW_URL": "https://airflow.example:8080"}
    by_http, by_ssm = (derive({**SETTINGS, **given, "MBD_TRANSPORT": transport}) for transport in ("http", "ssm"))
    assert (by_http["dryRun"], by_http["watchdogMinutes"]) == ("on", "90")
    assert (by_http["airflowUrl"], by_ssm["airflowUrl"]) == (given["AIRFLOW_URL"], "")


def test_region_that_is_not_set_is_the_default_of_every_package() -> None:
    assert derive(SETTINGS)["region"] == DEFAULTS["settings"]["AWS_REGION"]


@pytest.mark.parametrize(("stage", "ending"), [("prod", ""), ("dev", "-dev")])
def test_source_bucket_is_not_the_monitored_bucket_of_the_stage(stage: str, ending: str) -> None:
    own = {"MBD_SOURCE_BUCKET": f"de-mbd-predict-grace-hopper-monitored-bucket{ending}"}
    assert problems(own, options={"stage": stage}) == [
        "MBD_SOURCE_BUCKET is the monitored bucket: the pipeline would listen to its own output"
    ]


def test_names_are_too_long_if_the_bucket_of_the_stage_is() -> None:
    longest = {"MBD_FIRST_NAME": "a" * 15, "MBD_LAST_NAME": "b" * 15}
    assert problems(longest) == problems(longest, options={"stage": "prod"}) == []
    assert problems(longest, options={"stage": "dev"}) == [
        "first and last name together are 4 characters too long for the name of the monitored bucket"
    ]


def test_option_region_counts_as_the_functions_region(service: Service) -> None:
    done = service("package --region us-east-1", SETTINGS)
    assert "MBD_TOPIC_ARN is in region eu-west-1, but the functions would be in us-east-1" in done.stdout + done.stderr


@pytest.mark.parametrize("hangs_up", [False, True], ids=["slow answer", "no answer"])
def test_function_is_invoked_once_however_long_it_takes(hangs_up: bool, service: Service, aws: DeafAws) -> None:
    aws.invocation_seconds, aws.hangs_up = 1.5, hangs_up
    # osls waits two minutes by default, and as long as this variable says.
    done = service("invoke --function redrive", SETTINGS, **LOGIN, AWS_CLIENT_TIMEOUT="300")
    assert ('"events": 17' in done.stdout) is (done.returncode == 0) is (not hangs_up), done.stdout + done.stderr
    assert aws.calls == ["POST /2015-03-31/functions/de-mbd-predict-grace-hopper-redrive/invocations {}"]


NPX = """\
#!/bin/sh
exec python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
"""


@pytest.mark.parametrize(("target", "command"), [("deploy", "deploy"), ("redrive", "invoke"), ("undeploy", "remove")])
def test_make_takes_the_stage_that_is_named_and_else_none(target: str, command: str) -> None:
    require("make")
    for given, stage in ((["STAGE=dev"], " --stage 'dev'"), ([], "")):
        line = ["make", "--dry-run", "--always-make", "--no-print-directory", target, *given]
        printed = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        [called] = [one for one in printed.splitlines() if f"npx serverless {command}" in one]
        assert ("--stage" in called, stage in called) == (bool(stage), True)


@pytest.mark.parametrize("target", ["deploy", "package"])
@pytest.mark.parametrize("changed", ["trigger/handler.py", "trigger/function.lock", "trigger/layer.lock", ""])
def test_make_builds_the_package_again_where_the_code_or_a_lock_is_newer(
    changed: str, target: str, tmp_path: Path
) -> None:
    require("make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("trigger/handler.py", "trigger/function.lock", "trigger/layer.lock", "trigger/.build/layer.zip"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (0, 1 + (name == changed) * 3 + name.endswith(".zip")))
    made = [f"--assume-old={name}" for name in (".venv/.ready", "node_modules/.ready")]
    line = ["make", "--dry-run", "--no-print-directory", *made, target]
    printed = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ("-m trigger.build" in printed) is bool(changed)


@pytest.mark.parametrize("by", ["argument", "environment"])
@pytest.mark.parametrize(
    "key",
    ["it's.SUCCESS", "$(shell touch pwned)x.SUCCESS", 'a"b.SUCCESS', "`touch pwned`$$(touch pwned) \\#Ω.SUCCESS", ""],
)
def test_make_redrive_takes_a_key_as_data(key: str, by: str, tmp_path: Path) -> None:
    require("make", "node")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npx").write_text(NPX)
    (tmp_path / "bin" / "npx").chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("package.json", "package-lock.json", "node_modules/.ready"):  # the last one is the newest
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    environment = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    given = [f"MARKER={key}"] if by == "argument" else []
    done = subprocess.run(
        ["make", "redrive", *given],
        cwd=tmp_path,
        env={**environment, "MARKER": key} if by == "environment" else environment,
        capture_output=True,
        text=True,
        check=True,
    )
    called, *data = json.loads(done.stdout)[3:]
    assert called == "redrive"
    assert data[:1] == (["--data"] if key else [])
    assert [json.loads(text) for text in data[1:]] == ([{"marker": key}] if key else [])
    assert not list(tmp_path.rglob("pwned"))
