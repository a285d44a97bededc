"""AWS as the trigger meets it: the CLI of the built layer, before it a proxy that notes each call, behind that moto."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
import requests

from tests.integration_trigger.aws_proxy import AwsProxy
from tests.integration_trigger.trigger_build import layer
from tests.local_stack.moto import MotoServer
from tests.unit.trigger.airflow_server import USERNAME, AirflowServer
from trigger import secret

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

PARAMETER = "/de-mbd-predict-ada-lovelace/airflow/trigger-password"
SOURCE, MONITORED = "de-mbd-predict-ada-lovelace-s3-source", "de-mbd-predict-ada-lovelace-monitored-bucket"


class Cloud:
    """One empty AWS: the proxy that the trigger's calls go through, and clients that go past it."""

    def __init__(self, moto: MotoServer, proxy: AwsProxy) -> None:
        self.proxy = proxy
        self._session = boto3.Session("testing", "testing", region_name="eu-west-1")
        self._url = moto.url

    @cached_property
    def ec2(self) -> EC2Client:
        return self._session.client("ec2", endpoint_url=self._url)

    @cached_property
    def s3(self) -> S3Client:
        return self._session.client("s3", endpoint_url=self._url)

    @cached_property
    def sns(self) -> SNSClient:
        return self._session.client("sns", endpoint_url=self._url)

    @cached_property
    def sqs(self) -> SQSClient:
        return self._session.client("sqs", endpoint_url=self._url)

    @cached_property
    def ssm(self) -> SSMClient:
        return self._session.client("ssm", endpoint_url=self._url)


@pytest.fixture(scope="session")
def trigger_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    with MotoServer(tmp_path_factory.mktemp("trigger-moto")) as server:
        yield server


@pytest.fixture(scope="session")
def lambda_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is /tmp to a warm function: the CLI, once compiled, stays so."""
    return tmp_path_factory.mktemp("lambda-tmp")


@pytest.fixture
def cloud(trigger_moto: MotoServer, lambda_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    requests.post(f"{trigger_moto.url}/moto-api/reset", timeout=30).raise_for_status()
    for name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW", "MBD_"))]:
        monkeypatch.delenv(name)
    with AwsProxy(trigger_moto.url) as proxy:
        for name, value in {**trigger_moto.environment, "AWS_ENDPOINT_URL": proxy.url, "NO_PROXY": "*"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", str(layer() / "python"))
        monkeypatch.setattr(tempfile, "tempdir", str(lambda_tmp))
        monkeypatch.setattr(secret, "_read", {})
        yield Cloud(trigger_moto, proxy)


@pytest.fixture
def airflow(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowServer]:
    """An Airflow that answers, and the trigger's settings."""
    with AirflowServer() as server:
        monkeypatch.setenv("AIRFLOW_URL", server.url)
        monkeypatch.setenv("AIRFLOW_USERNAME", USERNAME)
        monkeypatch.setenv("AIRFLOW_PASSWORD_PARAMETER", PARAMETER)
        monkeypatch.setenv("MONITORED_BUCKET", MONITORED)
        monkeypatch.setenv("SOURCE_BUCKET", SOURCE)
        yield server


@dataclass(frozen=True)
class Office:
    """Where mails and kept events arrive."""

    cloud: Cloud
    topic: str
    inbox: str
    kept: str

    def mails(self) -> list[tuple[str, str]]:
        """Subject and text of each new mail."""
        told = [json.loads(body) for body in self._take(self.inbox)]
        return sorted((one["Subject"], one["Message"]) for one in told)

    def kept_events(self) -> list[str]:
        return self._take(self.kept)

    def _take(self, queue: str) -> list[str]:
        """All messages, which are gone then."""
        bodies = []
        while found := self.cloud.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                bodies.append(message["Body"])
                self.cloud.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return bodies


@pytest.fixture
def office(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Office:
    """The buckets, the topic with a reader, the queue of kept events; and the settings of the functions that mail."""
    for bucket in (SOURCE, MONITORED):
        cloud.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    topic = cloud.sns.create_topic(Name="de-mbd-predict-ada-lovelace-SNS")["TopicArn"]
    inbox, kept = (cloud.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("inbox", "kept"))
    arn = cloud.sqs.get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    cloud.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    settings = {"TOPIC_ARN": topic, "FIRST_NAME": "ada", "LAST_NAME": "Lovelace", "KEPT_EVENTS_URL": kept}
    for name, value in {**settings, "SOURCE_BUCKET": SOURCE, "MONITORED_BUCKET": MONITORED}.items():
        monkeypatch.setenv(name, value)
    return Office(cloud, topic, inbox, kept)
