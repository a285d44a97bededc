"""AWS for the trigger: the built layer's CLI calls a proxy, which records each call and passes it on to moto."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.airflow_stand_in import USERNAME, AirflowStandIn
from tests.support.aws_proxy import AwsProxy
from tests.support.cloud import MONITORED, PARAMETER, SOURCE, Cloud, Office
from tests.support.moto import MotoServer
from tests.support.trigger_build import layer
from trigger import deadline, secret


@pytest.fixture(scope="session")
def trigger_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    with MotoServer(tmp_path_factory.mktemp("trigger-moto")) as server:
        yield server


@pytest.fixture(scope="session")
def lambda_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The /tmp of a warm function, where the CLI stays compiled."""
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
        monkeypatch.setattr(secret, "_secrets", {})
        monkeypatch.setattr(deadline, "_WITHOUT_LAMBDA_SECONDS", 600.0)  # each call of the CLI is a process of its own
        yield Cloud(trigger_moto, proxy)


@pytest.fixture
def airflow(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowStandIn]:
    """An Airflow that answers, and the trigger's settings."""
    with AirflowStandIn() as server:
        monkeypatch.setenv("AIRFLOW_URL", server.url)
        monkeypatch.setenv("AIRFLOW_USERNAME", USERNAME)
        monkeypatch.setenv("AIRFLOW_PASSWORD_PARAMETER", PARAMETER)
        monkeypatch.setenv("MONITORED_BUCKET", MONITORED)
        monkeypatch.setenv("SOURCE_BUCKET", SOURCE)
        yield server


@pytest.fixture
def office(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Office:
    """The buckets, the topic with a subscriber, the queue of kept events, and settings of the functions that mail."""
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
