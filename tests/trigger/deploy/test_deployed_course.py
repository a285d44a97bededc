"""The monitored bucket of profile course as `serverless deploy` makes it, compared with the course's brief."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.support import deployment
from tests.support.brief import BRIEF
from tests.support.deployment import Deployment
from tests.support.ministack import ACCOUNT, MinistackServer

pytestmark = pytest.mark.skipif(deployment.missing() is not None, reason=str(deployment.missing()))
BUCKET = BRIEF["names"]["monitored_bucket"]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("course")
    with MinistackServer(home / "aws") as aws:
        settings = {
            "MBD_FIRST_NAME": "Ada",
            "MBD_LAST_NAME": "Lovelace",
            "MBD_PROFILE": "course",
            "MBD_TOPIC_ARN": f"arn:aws:sns:eu-west-1:{ACCOUNT}:{BRIEF['names']['topic']}",
            "MBD_INSTANCE_ID": "i-0123456789abcdef0",
            "AWS_REGION": "eu-west-1",
        }
        Deployment({**settings, **aws.environment}, home=home).run("deploy")
        session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-west-1")
        yield session.client("s3", endpoint_url=aws.url)


def test_policy_is_the_briefs_one_statement(s3: Any) -> None:  # noqa: ANN401
    policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    assert policy["Statement"] == [BRIEF["monitored_bucket"]["statement"]]


def test_only_what_would_refuse_that_policy_is_not_blocked(s3: Any) -> None:  # noqa: ANN401
    block = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    off = {name for name, is_on in block.items() if not is_on}
    assert (
        set(BRIEF["monitored_bucket"]["blocks_that_are_off"]) <= off == {"BlockPublicPolicy", "RestrictPublicBuckets"}
    )


def test_marker_invokes_the_function(s3: Any) -> None:  # noqa: ANN401
    [on_put] = s3.get_bucket_notification_configuration(Bucket=BUCKET)["LambdaFunctionConfigurations"]
    [rule] = on_put["Filter"]["Key"]["FilterRules"]
    assert (rule["Name"].lower(), rule["Value"]) == ("suffix", BRIEF["monitored_bucket"]["suffix"])
