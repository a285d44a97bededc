"""A test's own bucket and topic on a moto server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3

import etl
from tests.support.batch_files import Files

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class Clients:
    """Clients of the tests' own."""

    s3: S3Client
    sns: SNSClient
    sqs: SQSClient


@dataclass(frozen=True)
class Bucket:
    """One test's bucket on the moto server, looked at with a client of the test's own."""

    name: str
    s3: S3Client = field(repr=False)
    session: boto3.Session = field(repr=False)
    endpoint_url: str

    @property
    def aws(self) -> etl.Aws:
        """What etl is given: clients made now, which know the hooks that `on` was told of before."""
        return etl.Aws(session=self.session, endpoint_url=self.endpoint_url)

    def job(self, **changes: Any) -> etl.Job:  # noqa: ANN401  whatever a Job takes
        place = f"s3://{self.name}"
        facts = {
            "source": f"{place}/Stocks",
            "company_index": f"{place}/CompanyNames/top_companies.txt",
            "output": f"{place}/Output",
            "aws": self.aws,
        }
        return etl.Job(**{**facts, **changes})

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> set[str]:
        answer = self.s3.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return {entry["Key"] for entry in answer.get("Contents", [])}

    def unfinished_uploads(self) -> list[str]:
        return [upload["Key"] for upload in self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]

    def upload(self, files: Files) -> None:
        for path in files.source.iterdir():
            self.put(f"Stocks/{path.name}", path.read_bytes())
        self.put("CompanyNames/top_companies.txt", files.index.read_bytes())

    def on(self, event: str, hook: Callable[..., Any]) -> None:
        """Call `hook` on an event of botocore, in etl's clients only."""
        self.session.events.register(event, hook)


@dataclass(frozen=True)
class Mail:
    """One message as SNS delivered it."""

    subject: str
    text: str


@dataclass(frozen=True)
class Topic:
    """One test's SNS topic, with a queue that everything published comes to."""

    arn: str
    queue: str
    clients: Clients = field(repr=False)

    @property
    def mailbox(self) -> etl.Mailbox:
        return etl.Mailbox(self.arn, "ada", "lovelace")

    def mails(self) -> list[Mail]:
        """All that came and was not read yet; moto delivers before `publish` returns, so nothing is on its way."""
        sqs = self.clients.sqs
        mails: list[Mail] = []
        while messages := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                notice = json.loads(message["Body"])
                mails.append(Mail(notice["Subject"], notice["Message"]))
        return mails

    def remove(self) -> None:
        self.clients.sns.delete_topic(TopicArn=self.arn)
