"""The IAM policies that `policy` prints."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

import pytest

from tests.support.person import Person

PREFIX = "de-mbd-predict-ada-lovelace"


@pytest.fixture
def typist(tmp_path: Any) -> Person:  # noqa: ANN401
    somebody = Person(tmp_path, {})
    somebody.write_settings()
    return somebody


def printed(person: Person, who: str) -> dict[str, Any]:
    said = person.says("policy", who)
    assert said.code == 0, said.err
    loaded: dict[str, Any] = json.loads(said.out)
    return loaded


def allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    def listed(value: Any) -> list[str]:  # noqa: ANN401
        return value if isinstance(value, list) else [value]

    return any(
        any(fnmatch.fnmatchcase(action, one) for one in listed(statement["Action"]))
        and any(fnmatch.fnmatchcase(resource, one) for one in listed(statement["Resource"]))
        for statement in policy["Statement"]
    )


@pytest.mark.parametrize(
    ("action", "key", "allowed"),
    [
        ("s3:PutObject", f"{PREFIX}-s3-source/Stocks/wex.us.csv", True),
        ("s3:PutObject", f"{PREFIX}-s3-source/CompanyNames/top_companies.txt", True),
        ("s3:PutObject", f"{PREFIX}-monitored-bucket/2026.SUCCESS", True),
        ("s3:PutObject", f"{PREFIX}-s3-source/Scripts/moving-big-data.tar.gz", False),
        ("s3:PutObject", f"{PREFIX}-s3-source/Output/manifest.json", False),
        ("s3:GetObject", f"{PREFIX}-s3-source/Stocks/wex.us.csv", False),
        ("s3:DeleteObject", f"{PREFIX}-s3-source/Stocks/wex.us.csv", False),
        ("ssm:PutParameter", f"parameter/{PREFIX}/airflow/archive-sha256", False),
    ],
)
def test_the_sender_may_send_a_batch_and_nothing_else(action: str, key: str, allowed: bool, typist: Person) -> None:
    assert allows(printed(typist, "sender"), action, f"arn:aws:s3:::{key}") is allowed


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        # docs.aws.amazon.com: GenerateSecretString of AWS::SecretsManager::Secret, which names no resource
        ("secretsmanager:GetRandomPassword", "*", True),
        # docs.aws.amazon.com/AmazonRDS/latest/UserGuide: the example policy for CreateDBInstance
        ("rds:CreateDBInstance", "arn:aws:rds:eu-west-1:123456789012:og:default:postgres-18", True),
        ("rds:CreateDBInstance", f"arn:aws:rds:eu-west-1:123456789012:db:{PREFIX}-rds", True),
        ("rds:CreateDBSnapshot", f"arn:aws:rds:eu-west-1:123456789012:snapshot:{PREFIX}-platform-snapshot-d-1", True),
        ("rds:DeleteDBSnapshot", f"arn:aws:rds:eu-west-1:123456789012:snapshot:{PREFIX}-platform-snapshot-d-1", True),
        ("rds:DescribeDBSnapshots", f"arn:aws:rds:eu-west-1:123456789012:snapshot:rds:{PREFIX}-rds-2026-11-27", True),
        ("rds:DeleteDBSnapshot", "arn:aws:rds:eu-west-1:123456789012:snapshot:somebody-elses", False),
        ("rds:DeleteDBSnapshot", "arn:aws:rds:eu-west-1:123456789012:snapshot:rds:somebody-elses", False),
        ("rds:DeleteDBInstance", "arn:aws:rds:eu-west-1:123456789012:db:somebody-elses", False),
        ("sns:Subscribe", f"arn:aws:sns:eu-west-1:123456789012:{PREFIX}-alarms", True),
        ("ssm:AddTagsToResource", f"arn:aws:ssm:eu-west-1:123456789012:parameter/{PREFIX}/airflow/jwt-secret", True),
        # what `teardown`, `check` before the first apply, `stop` and `start` ask for
        ("s3:ListAllMyBuckets", "*", True),
        ("servicequotas:GetServiceQuota", "*", True),
        ("ec2:StopInstances", "arn:aws:ec2:eu-west-1:123456789012:instance/i-1", True),
        ("ec2:StartInstances", "arn:aws:ec2:eu-west-1:123456789012:instance/i-1", True),
        ("iam:PassRole", f"arn:aws:iam::123456789012:role/{PREFIX}-ec2-role", True),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/somebody-elses", False),
        ("iam:AddRoleToInstanceProfile", f"arn:aws:iam::123456789012:instance-profile/{PREFIX}-ec2-role", True),
    ],
)
def test_the_operator_may_do_what_apply_and_the_other_commands_need(
    action: str, resource: str, allowed: bool, typist: Person
) -> None:
    assert allows(printed(typist, "operator"), action, resource) is allowed


def test_the_sender_lists_company_files_and_index_only(typist: Person) -> None:
    [listing] = [one for one in printed(typist, "sender")["Statement"] if "s3:ListBucket" in one["Action"]]
    assert listing["Resource"] == f"arn:aws:s3:::{PREFIX}-s3-source"
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["Stocks/*", "CompanyNames/*"]}}


def test_the_operator_may_make_the_role_of_rds_and_of_no_other_service(typist: Person) -> None:
    """RDS makes it with the first database of an account."""
    statements = printed(typist, "operator")["Statement"]
    [statement] = [one for one in statements if "iam:CreateServiceLinkedRole" in one["Action"]]
    assert statement["Condition"] == {"StringLike": {"iam:AWSServiceName": "rds.amazonaws.com"}}
    assert statement["Resource"].endswith("role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS")


def test_both_policies_fit_into_iam_and_name_this_pipeline(typist: Person) -> None:
    for who in ("sender", "operator"):
        policy = printed(typist, who)
        assert "PREFIX" not in json.dumps(policy)
        assert len(json.dumps(policy, separators=(",", ":"))) < 6144  # IAM's limit of a managed policy
