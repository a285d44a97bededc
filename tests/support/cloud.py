"""An empty AWS for the trigger, and the queues where its mails and kept events arrive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import boto3

from tests.support.aws_proxy import AwsProxy
from tests.support.moto import MotoServer

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

PARAMETER = "/de-mbd-predict-ada-lovelace/airflow/trigger-password"
SOURCE, MONITORED = "de-mbd-predict-ada-lovelace-s3-source", "de-mbd-predict-ada-lovelace-monitored-bucket"


class Cloud:
    """An empty AWS: the proxy that the trigger's calls go through, and clients that bypass it."""

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


@dataclass(frozen=True)
class Office:
    """Where mails and kept events arrive."""

    cloud: Cloud
    topic: str
    inbox: str
    kept: str

    def mails(self) -> list[tuple[str, str]]:
        """Subject and text of each new mail."""
        mails = [json.loads(body) for body in self._take(self.inbox)]
        return sorted((one["Subject"], one["Message"]) for one in mails)

    def kept_events(self) -> list[str]:
        return self._take(self.kept)

    def _take(self, queue: str) -> list[str]:
        """Receive and delete all messages."""
        bodies = []
        while found := self.cloud.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                bodies.append(message["Body"])
                self.cloud.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return bodies
