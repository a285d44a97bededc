"""The whole system on this machine: AWS, PostgreSQL, Airflow and the trigger, wired as when deployed."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
import psycopg2
from botocore.config import Config
from psycopg2 import sql

from etl.table.schema import make_tables
from tests.support.airflow_server import AirflowServer
from tests.support.layer import layer_path
from tests.support.ministack import MinistackServer
from tests.support.moto import MotoServer
from tests.support.paths import DAGS
from tests.support.postgres import PostgresServer
from tests.support.process import StackError
from trigger.handler import handler

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

DAG_ID = "moving_big_data"
FIRST_NAME, LAST_NAME = "Ada", "Lovelace"
SOURCE_BUCKET = "de-mbd-predict-ada-lovelace-s3-source"
MONITORED_BUCKET = "de-mbd-predict-ada-lovelace-monitored-bucket"
TOPIC = "de-mbd-predict-ada-lovelace-SNS"
LINEAGE = "lineage.jsonl"
CHANNEL_SECRET = "hunter2-of-a-channel"
INDEX_KEY = "CompanyNames/top_companies.txt"
PASSWORD_PARAMETER = "/de-mbd-predict-ada-lovelace/airflow/trigger-password"
_FINISHED = {"success", "failed"}
_WITH_LOG = {*_FINISHED, "up_for_retry"}


@dataclass(frozen=True)
class Mail:
    """One message as SNS delivered it."""

    subject: str
    text: str


class LocalSystem:
    """The deployed system's parts, running on 127.0.0.1 while its `with` block lasts; `directory` keeps their files.

    `announce` is told what is being started. All of it begins empty: the database `stocks`, AWS, and Airflow, whose
    tables stay, as making them takes longer. AWS is moto, and the
    trigger's handler is called in this process; with `deploys`, AWS is ministack, and the trigger and the monitored
    bucket are there once they are deployed. `dags` is a folder of other DAGs than the deployed one, `dag_ids` theirs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        announce: Callable[[str], object] = lambda _: None,
        settings: Mapping[str, str] | None = None,
        deploys: bool = False,
        dags: Path = DAGS,
        dag_ids: Sequence[str] = (DAG_ID,),
    ) -> None:
        self.directory, self._announce, self._settings = directory.resolve(), announce, dict(settings or {})
        self._stack = ExitStack()
        self.postgres = PostgresServer(self.directory / "postgres")
        self.aws = MinistackServer(self.directory / "ministack") if deploys else MotoServer(self.directory / "moto")
        self._deploys, self._dags, self._dag_ids = deploys, dags, dag_ids
        self.aws_secret_key = secrets.token_urlsafe(24)  # the stand-ins take any
        self.mails: list[Mail] = []  # all that were received
        self.airflow: AirflowServer
        self.s3: S3Client
        self._sqs: SQSClient
        self._mail_queue = self._event_queue = self.topic_arn = ""

    def __enter__(self) -> Self:
        try:
            self._announce("PostgreSQL")
            self._stack.enter_context(self.postgres)
            self._make_database()
            self._announce(f"S3, SNS, SQS and SSM ({'ministack' if self._deploys else 'moto'})")
            self._stack.enter_context(self.aws)
            self._make_aws_resources()
            if not self._deploys:
                self._make_monitored_bucket()
            self._announce("Airflow: api-server, scheduler, dag-processor")
            self.airflow = AirflowServer(
                self.directory / "airflow",
                dags=self._dags,
                database_url=self.postgres.url("airflow"),
                environment=self._airflow_environment(),
                dag_ids=self._dag_ids,
            )
            self._stack.enter_context(self.airflow)
            self._session().client("ssm", endpoint_url=self.aws.url).put_parameter(
                Name=PASSWORD_PARAMETER, Value=self.airflow.trigger_password, Type="SecureString"
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def database_url(self) -> str:
        return self.postgres.url("stocks")

    @property
    def secrets(self) -> dict[str, str]:
        """What no part of the system may tell, by what it is."""
        environment = self.airflow.environment
        return {
            "URL of a channel": CHANNEL_SECRET,
            "password of PostgreSQL": self.postgres.password,
            "secret key of AWS": self.aws_secret_key,
            "password of Airflow's admin": self.airflow.password,
            "password of Airflow's user trigger": self.airflow.trigger_password,
            "key of Airflow's sessions": environment["AIRFLOW__API__SECRET_KEY"],
            "secret of Airflow's tokens": environment["AIRFLOW__API_AUTH__JWT_SECRET"],
        }

    def upload(self, company_files: Mapping[str, Path], *, index: bytes) -> Iterator[int]:
        """Put company files under Stocks/ and the index where it belongs; yields how many files are up."""
        self.s3.put_object(Bucket=SOURCE_BUCKET, Key=INDEX_KEY, Body=index)

        def put(named: tuple[str, Path]) -> None:
            self.s3.put_object(Bucket=SOURCE_BUCKET, Key=f"Stocks/{named[0]}", Body=named[1].read_bytes())

        with ThreadPoolExecutor(8) as pool:
            for done, _ in enumerate(pool.map(put, company_files.items()), start=1):
                yield done

    def put_marker(self, key: str = "batch.SUCCESS") -> dict[str, Any]:
        """Put a marker into the monitored bucket; returns the event that moto's S3 sent about it."""
        self.s3.put_object(Bucket=MONITORED_BUCKET, Key=key)
        event: dict[str, Any] = json.loads(self._receive(self._event_queue, seconds=60))
        return event

    def trigger(self, event: Mapping[str, Any]) -> list[dict[str, str | None]]:
        """Call the Lambda handler as Lambda would, with its environment and nothing else changed."""
        return self.trigger_at_once([event])

    def trigger_at_once(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, str | None]]:
        """Call it for all events side by side; the results of all, in the order of the events."""
        environment = {
            "AIRFLOW_URL": self.airflow.url,
            "AIRFLOW_USERNAME": self.airflow.trigger_username,
            "AIRFLOW_PASSWORD_PARAMETER": PASSWORD_PARAMETER,
            "MONITORED_BUCKET": MONITORED_BUCKET,
            "SOURCE_BUCKET": SOURCE_BUCKET,
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(layer_path()),
            **self.aws.environment,
        }
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            with ThreadPoolExecutor(len(events)) as pool:
                results = list(pool.map(lambda event: handler(event, None), events))
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        return [record for result in results for record in result["records"]]

    def follow(self, run_id: str, *, dag_id: str = DAG_ID, seconds: float = 600) -> Iterator[dict[str, Any]]:
        """Task instances of a run, each whenever its state has changed, until the run has ended; then the run.

        In between, what a task logs: its task instance with a `line`.
        """
        deadline = time.monotonic() + seconds
        seen: dict[str, str | None] = {}
        printed: dict[str, int] = {}
        while True:
            run = self.airflow.request("GET", f"dags/{dag_id}/dagRuns/{run_id}").json()
            tasks = self.airflow.request("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances").json()
            for task in sorted(tasks["task_instances"], key=lambda one: one["start_date"] or "z"):
                instance = f"{task['task_id']} {task['map_index']}"
                before, seen[instance] = seen.get(instance), task["state"]
                has_changed, is_running = before != task["state"], task["state"] == "running"
                if has_changed and is_running:
                    yield task
                if is_running or (has_changed and task["state"] in _WITH_LOG):
                    lines = self._lines(run_id, task)
                    yield from ({**task, "line": line} for line in lines[printed.get(instance, 0) :])
                    printed[instance] = len(lines)
                if has_changed and not is_running:
                    yield task
            if run["state"] in _FINISHED:
                yield run
                return
            if time.monotonic() > deadline:
                raise StackError(
                    f"Run {run_id} is still {run['state']} after {seconds:.0f} s. See {self.airflow.home}."
                )
            time.sleep(0.3)

    def log_entries(
        self, run_id: str, task_id: str, *, dag_id: str = DAG_ID, map_index: int = -1, attempt: int = 1
    ) -> list[Any]:
        """The entries of a task's log, as Airflow's page shows them."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}?map_index={map_index}"
        entries: list[Any] = self.airflow.request("GET", path).json().get("content", [])
        return entries

    def _lines(self, run_id: str, task: Mapping[str, Any]) -> list[str]:
        """What a task has logged so far."""
        place = {"dag_id": task["dag_id"], "map_index": task["map_index"], "attempt": task["try_number"]}
        entries = self.log_entries(run_id, task["task_id"], **place)
        return [str(entry["event"]) for entry in entries if entry.get("logger") == "airflow.task"]

    def finish(self, run_id: str, *, dag_id: str = DAG_ID) -> str:
        """Wait for a run to end; returns its state."""
        *_, run = self.follow(run_id, dag_id=dag_id)
        return str(run["state"])

    def runs(self) -> list[str]:
        """Ids of all runs that Airflow knows of."""
        answer = self.airflow.request("GET", f"dags/{DAG_ID}/dagRuns?limit=100").json()
        return [run["dag_run_id"] for run in answer["dag_runs"]]

    def receive_mail(self, *, seconds: float = 60) -> Mail:
        """The next mail. Raises StackError when none comes."""
        return self._mail(self._receive(self._mail_queue, seconds=seconds))

    def new_mails(self) -> list[Mail]:
        """Those that came since the last look, which lasts at most a second."""
        return [self._mail(body) for body in self._take(self._mail_queue)]

    def new_events(self) -> list[dict[str, Any]]:
        """The events of markers that anybody has put since the last look."""
        return [json.loads(body) for body in self._take(self._event_queue)]

    def output(self, name: str) -> bytes:
        """An object under Output/."""
        return self.s3.get_object(Bucket=SOURCE_BUCKET, Key=f"Output/{name}")["Body"].read()

    def _make_database(self) -> None:
        connection = psycopg2.connect(self.postgres.url("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS stocks WITH (FORCE)"))
            cursor.execute(sql.SQL("CREATE DATABASE stocks"))
        connection.close()
        self._empty_airflow()
        make_tables(self.database_url)

    def _empty_airflow(self) -> None:
        """Forget the runs of before; `airflow db migrate` fills in again what Airflow itself needs."""
        with psycopg2.connect(self.postgres.url("airflow")) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'alembic%'"
            )
            if tables := [sql.Identifier(name) for (name,) in cursor.fetchall()]:
                cursor.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(tables)))
        connection.close()

    def _make_aws_resources(self) -> None:
        session = self._session()
        config = Config(max_pool_connections=16)
        self.s3 = session.client("s3", endpoint_url=self.aws.url, config=config)
        sns = session.client("sns", endpoint_url=self.aws.url)
        self._sqs = session.client("sqs", endpoint_url=self.aws.url)
        self.topic_arn = sns.create_topic(Name=TOPIC)["TopicArn"]
        self._mail_queue, mail_arn = self._make_queue("mails")
        sns.subscribe(TopicArn=self.topic_arn, Protocol="sqs", Endpoint=mail_arn)
        self._make_bucket(SOURCE_BUCKET)
        if not self._deploys:
            self._let_browsers_read_outputs()

    def _let_browsers_read_outputs(self) -> None:
        """The buttons on a task lead to receipt and page; on AWS that is the console, where a person is logged in."""
        anybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
        statement = {**anybody, "Resource": f"arn:aws:s3:::{SOURCE_BUCKET}/Output/*"}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.s3.put_bucket_policy(Bucket=SOURCE_BUCKET, Policy=json.dumps(policy))

    def _make_monitored_bucket(self) -> None:
        self._event_queue, event_arn = self._make_queue("events")
        self._make_bucket(MONITORED_BUCKET)
        self.s3.put_bucket_notification_configuration(
            Bucket=MONITORED_BUCKET,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": event_arn, "Events": ["s3:ObjectCreated:*"]}]
            },
        )
        self._receive(self._event_queue, seconds=60)  # S3's test event

    def _make_bucket(self, name: str) -> None:
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def _session(self) -> boto3.Session:
        return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-west-1")

    def _make_queue(self, name: str) -> tuple[str, str]:
        url = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        return url, self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def _mail(self, body: str) -> Mail:
        notice = json.loads(body)
        self.mails.append(Mail(subject=notice["Subject"], text=notice["Message"]))
        return self.mails[-1]

    def _receive(self, queue: str, *, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for body in self._take(queue):
                return body
        raise StackError(f"Nothing came to the queue {queue.rpartition('/')[2]} within {seconds:.0f} s.")

    def _take(self, queue: str) -> list[str]:
        """At most one message, waited for at most a second."""
        messages = self._sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", [])
        for message in messages:
            self._sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in messages]

    def _airflow_environment(self) -> dict[str, str]:
        extra = {"endpoint_url": self.aws.url, "region_name": "eu-west-1"}
        aws = {"conn_type": "aws", "login": "testing", "password": self.aws_secret_key, "extra": extra}
        return {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "AIRFLOW_CONN_STOCKS_DATABASE": self.postgres.url("stocks", scheme="postgres"),
            "MBD_FIRST_NAME": FIRST_NAME,
            "MBD_LAST_NAME": LAST_NAME,
            "MBD_TOPIC_ARN": self.topic_arn,
            "MBD_SOURCE_BUCKET": SOURCE_BUCKET,
            "MBD_GATE_GRACE_SECONDS": "3",
            **self._settings,
        }
