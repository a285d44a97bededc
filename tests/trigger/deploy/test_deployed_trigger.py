"""The deployed trigger: a marker put into the bucket starts a run in a real Airflow, through the function that
`serverless deploy` made from the packaged zip and layer."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support import deployment
from tests.support.deployment import Deployment
from tests.support.paths import EVENTS, SAMPLE
from tests.support.process import StackError
from tests.support.system import DAG_ID, MONITORED_BUCKET, SOURCE_BUCKET, LocalSystem

PREFIX = "de-mbd-predict-ada-lovelace"
EXPECTED_BY = datetime.now(UTC) - timedelta(minutes=5)
SUCCESS, FAILURE = "Ada_Lovelace_Pipeline_Success", "Ada_Lovelace_Pipeline_Failure"

pytestmark = pytest.mark.skipif(deployment.missing() is not None, reason=str(deployment.missing()))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalSystem, Deployment]]:
    home = tmp_path_factory.mktemp("deployed")
    with LocalSystem(home, deploys=True) as system:
        files = {path.name: path for path in (SAMPLE / "Stocks").iterdir()}
        for _ in system.upload(files, index=(SAMPLE / "CompanyNames" / "top_companies.txt").read_bytes()):
            pass
        settings = {
            "MBD_FIRST_NAME": "Ada",
            "MBD_LAST_NAME": "Lovelace",
            "MBD_TOPIC_ARN": system.topic_arn,
            "MBD_SOURCE_BUCKET": SOURCE_BUCKET,
            "AIRFLOW_URL": system.airflow.url,
            "AWS_REGION": "eu-west-1",
            "MBD_EXPECT_BY": f"{EXPECTED_BY:%H:%M} daily UTC",
        }
        service = Deployment({**settings, **system.aws.environment}, home=home)
        said = service.run("deploy")
        assert f"{PREFIX}-trigger" in said
        yield system, service


@pytest.fixture
def system(deployed: tuple[LocalSystem, Deployment]) -> LocalSystem:
    return deployed[0]


@pytest.fixture
def service(deployed: tuple[LocalSystem, Deployment]) -> Deployment:
    return deployed[1]


def put(system: LocalSystem, key: str) -> None:
    system.s3.put_object(Bucket=MONITORED_BUCKET, Key=key)


def eventually(holds: Callable[[], Any], *, seconds: float = 120) -> Any:  # noqa: ANN401
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.3)
    return found


def new_runs(system: LocalSystem, known: list[str]) -> list[str]:
    return [run for run in system.runs() if run not in known]


def marker_of(system: LocalSystem, run_id: str) -> Any:  # noqa: ANN401
    return system.airflow.request("GET", f"dags/{DAG_ID}/dagRuns/{run_id}").json()["conf"]["marker"]


def aws(system: LocalSystem, service: str) -> Any:  # noqa: ANN401
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-west-1")
    return session.client(service, endpoint_url=system.aws.url)  # type: ignore[call-overload]


def test_deployed_watchdog_mails_once_that_no_marker_came(system: LocalSystem, service: Deployment) -> None:
    """The first test of the module: no marker was put yet."""
    day = f"{EXPECTED_BY:%Y-%m-%d}"
    assert service.invoke("watchdog") == {"missed": [], "sent": [], "absent": [day]}
    mail = system.receive_mail()
    assert mail.subject == FAILURE
    assert mail.text.startswith(f"FAILED: no marker was put into the bucket {MONITORED_BUCKET} for ")
    assert service.invoke("watchdog") == {"missed": [], "sent": []}


def test_marker_in_the_bucket_becomes_one_run_by_the_deployed_function(system: LocalSystem) -> None:
    put(system, "today's a b+c%.SUCCESS")
    [run_id] = eventually(lambda: new_runs(system, []))
    print(f"the deployed function started {run_id}")
    assert marker_of(system, run_id)["key"] == "today's a b+c%.SUCCESS"
    assert system.finish(run_id) == "success"
    mail = system.receive_mail()
    assert mail.subject == SUCCESS
    assert "40 listed = 35 accepted + 5 quarantined" in mail.text
    assert system.runs() == [run_id]


def test_each_put_is_one_run_whatever_the_key_and_other_objects_are_none(system: LocalSystem) -> None:
    known = system.runs()
    keys = ["""it's "$(touch pwned)" `id`; \\ %s.SUCCESS""", "Zürich/Ω 日本.SUCCESS", "again.SUCCESS", "again.SUCCESS"]
    for key in ["x.SUCCESS.tmp", "notes.txt", *keys]:
        put(system, key)
    started = eventually(lambda: len(found := new_runs(system, known)) == len(keys) and found, seconds=180)
    assert [system.finish(run) for run in started] == ["success"] * len(keys)
    assert sorted(marker_of(system, run)["key"] for run in started) == sorted(keys)
    assert [system.receive_mail().subject for _ in keys] == [SUCCESS] * len(keys)
    assert len(new_runs(system, known)) == len(keys)


def test_event_that_is_delivered_twice_starts_one_run(system: LocalSystem, service: Deployment) -> None:
    known = system.runs()
    event = json.loads((EVENTS / "put.json").read_text())
    [first], [second] = (service.invoke("trigger", data=event)["records"] for _ in range(2))
    assert (first["outcome"], second["outcome"]) == ("started", "already_accepted")
    assert new_runs(system, known) == [first["dag_run_id"]] == [second["dag_run_id"]]
    assert system.finish(first["dag_run_id"]) == "success"
    assert system.receive_mail().subject == SUCCESS
    with pytest.raises(StackError, match="Nothing came"):
        system.receive_mail(seconds=2)


def test_airflow_that_starts_no_run_leads_to_one_failure_mail_and_a_working_redrive(
    system: LocalSystem, service: Deployment
) -> None:
    known = system.runs()
    system.airflow.request("PATCH", f"dags/{DAG_ID}", body={"is_paused": True})
    try:
        put(system, "paused.SUCCESS")
        mail = system.receive_mail(seconds=120)
    finally:
        system.airflow.request("PATCH", f"dags/{DAG_ID}", body={"is_paused": False})
    assert mail.subject == FAILURE
    assert "'paused.SUCCESS'" in mail.text
    assert "After 3 tries: DAG moving_big_data is paused" in mail.text
    assert "npx serverless invoke --function redrive" in mail.text
    assert new_runs(system, known) == []
    queue = aws(system, "sqs").get_queue_url(QueueName=f"{PREFIX}-kept-events")["QueueUrl"]
    attribute = "ApproximateNumberOfMessages"

    def kept() -> str:
        found = aws(system, "sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=[attribute])
        return str(found["Attributes"][attribute])

    eventually(lambda: kept() == "1")
    with pytest.raises(StackError, match="Nothing was redriven"):  # serverless passes on as text what is not JSON
        service.run("invoke", "--function", "redrive", "--data", '{"marker": "a"b.SUCCESS"}')
    answer = service.invoke("redrive")
    [record] = answer["records"]
    assert (answer["events"], record["key"], record["outcome"]) == (1, "paused.SUCCESS", "started")
    assert system.finish(record["dag_run_id"]) == "success"
    assert system.receive_mail().subject == SUCCESS
    assert kept() == "0"
    assert service.invoke("redrive") == {"records": [], "events": 0}


def test_deployed_watchdog_sends_the_mail_that_sns_refused_before(system: LocalSystem, service: Deployment) -> None:
    notice = {"TopicArn": system.topic_arn, "Subject": SUCCESS, "Message": "Loaded yesterday, mailed today."}
    system.s3.put_object(Bucket=SOURCE_BUCKET, Key="Output/notices/marker_1.json", Body=json.dumps(notice).encode())
    assert service.invoke("watchdog") == {"missed": [], "sent": ["marker_1.json"]}
    mail = system.receive_mail()
    assert (mail.subject, mail.text) == (SUCCESS, notice["Message"])
    assert service.invoke("watchdog") == {"missed": [], "sent": []}
    with pytest.raises(StackError, match="Nothing came"):
        system.receive_mail(seconds=2)


def test_no_secret_is_in_the_functions_settings_the_template_or_the_log(system: LocalSystem) -> None:
    lambdas = aws(system, "lambda")
    names = [function["FunctionName"] for function in lambdas.list_functions()["Functions"]]
    read = [json.dumps(lambdas.get_function_configuration(FunctionName=name), default=str) for name in names]
    read.append(json.dumps(aws(system, "cloudformation").get_template(StackName=f"{PREFIX}-trigger"), default=str))
    read.append(Path(system.aws.directory / "ministack.log").read_text())
    assert len(names) == 4
    assert system.airflow.trigger_password not in "".join(read)


def made_by_the_deployment(system: LocalSystem) -> dict[str, list[str]]:
    """Names of everything that does not belong to the rest of the system, by kind."""
    queues = [url.rpartition("/")[2] for url in aws(system, "sqs").list_queues()["QueueUrls"]]
    return {
        "functions": [one["FunctionName"] for one in aws(system, "lambda").list_functions()["Functions"]],
        "layers": [one["LayerName"] for one in aws(system, "lambda").list_layers()["Layers"]],
        "buckets": [one["Name"] for one in system.s3.list_buckets()["Buckets"] if one["Name"] != SOURCE_BUCKET],
        "queues": [name for name in queues if name != "mails"],
        "rules": [one["Name"] for one in aws(system, "events").list_rules()["Rules"]],
        "log groups": [one["logGroupName"] for one in aws(system, "logs").describe_log_groups()["logGroups"]],
        "roles": [one["RoleName"] for one in aws(system, "iam").list_roles()["Roles"]],
    }


def test_remove_leaves_nothing(system: LocalSystem, service: Deployment) -> None:
    made = made_by_the_deployment(system)
    assert [kind for kind, names in made.items() if not names] == [], "what is not found here could not be missed below"
    assert sorted(made["roles"]) == [f"{PREFIX}-mail", f"{PREFIX}-trigger"]
    put(system, "a+b c\x01")  # S3 takes such a key, and DeleteObjects cannot carry it
    assert f"Removed 8 markers from {MONITORED_BUCKET}" in service.run("remove")
    assert made_by_the_deployment(system) == {kind: [] for kind in made}
