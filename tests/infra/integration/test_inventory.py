"""What `teardown` finds of each kind where it belongs to no stack: it is paid for all the same."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.person import REGION, Person

PREFIX = "de-mbd-predict-ada-lovelace"


def left(person: Person) -> dict[str, list[str]]:
    said = person.says("teardown", "--dry-run", "--json")
    assert said.code == 0, said.err
    found: dict[str, list[str]] = json.loads(said.out)["left"]
    return found


def tags(kind: str, name: str) -> list[dict[str, object]]:
    return [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": name}]}]


def make_topic(person: Person, name: str) -> str:
    arn: str = person.client("sns").create_topic(Name=name)["TopicArn"]
    return arn


def make_bucket(person: Person, name: str) -> str:
    configuration = {"LocationConstraint": REGION}
    person.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=configuration)
    return name


def make_address(person: Person, name: str) -> str:
    found = person.client("ec2").allocate_address(Domain="vpc", TagSpecifications=tags("elastic-ip", name))
    address: str = found["PublicIp"]
    return address


def make_volume(person: Person, name: str) -> str:
    volume: str = person.client("ec2").create_volume(
        AvailabilityZone=f"{REGION}a", Size=30, TagSpecifications=tags("volume", name)
    )["VolumeId"]
    return volume


def make_group(person: Person, name: str) -> str:
    group: str = person.client("ec2").create_security_group(GroupName=name, Description="left")["GroupId"]
    return group


def make_role(person: Person, name: str) -> str:
    assumed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [assumed]})
    person.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
    return name


def make_profile(person: Person, name: str) -> str:
    person.client("iam").create_instance_profile(InstanceProfileName=name)
    return f"instance profile {name}"


def make_secret(person: Person, name: str) -> str:
    person.client("secretsmanager").create_secret(Name=name, SecretString="{}")
    return name


def make_parameter(person: Person, name: str) -> str:
    person.client("ssm").put_parameter(Name=name, Value="x", Type="SecureString")
    return name


def make_log_group(person: Person, name: str) -> str:
    person.client("logs").create_log_group(logGroupName=name)
    return name


def make_database(person: Person, name: str) -> str:
    person.client("rds").create_db_instance(
        DBInstanceIdentifier=name, DBInstanceClass="db.t3.micro", Engine="postgres",
        MasterUsername="postgres", MasterUserPassword="not-a-secret", AllocatedStorage=20,
    )  # fmt: skip
    return name


@pytest.mark.parametrize(
    ("kind", "make", "name"),
    [
        ("event-based S3 bucket", make_bucket, f"{PREFIX}-monitored-bucket"),
        ("PostgreSQL RDS instance", make_database, f"{PREFIX}-rds"),
        ("source S3 bucket", make_bucket, f"{PREFIX}-s3-source"),
        ("SNS topics and subscriptions", make_topic, f"{PREFIX}-SNS"),
        ("SNS topics and subscriptions", make_topic, f"{PREFIX}-alarms"),
        ("log group", make_log_group, f"/aws/lambda/{PREFIX}-report"),
        ("EBS volume", make_volume, f"{PREFIX}-ec2"),
        ("Elastic IP", make_address, f"{PREFIX}-ip"),
        ("security group", make_group, f"{PREFIX}-security-group"),
        ("IAM role", make_role, f"{PREFIX}-ec2-role"),
        ("IAM role", make_profile, f"{PREFIX}-ec2-role"),
        ("database's secret", make_secret, f"{PREFIX}-database"),
        ("SSM parameters", make_parameter, f"/{PREFIX}/airflow/fernet-key"),
    ],
)
def test_each_kind_is_found_and_nobody_elses(
    kind: str, make: Callable[[Person, str], str], name: str, person: Person
) -> None:
    make(person, name.replace("lovelace", "king"))
    assert left(person) == {}
    made = make(person, name)
    assert left(person) == {kind: [made]}


def test_an_instance_counts_until_it_is_terminated(person: Person) -> None:
    ec2 = person.client("ec2")
    [instance] = ec2.run_instances(
        ImageId=person.settings["MBD_IMAGE_ID"], MinCount=1, MaxCount=1,
        TagSpecifications=tags("instance", f"{PREFIX}-ec2"),
    )["Instances"]  # fmt: skip
    mine = [instance["InstanceId"]]
    ec2.stop_instances(InstanceIds=mine)
    assert left(person)["containerised Airflow pipeline"] == mine
    ec2.terminate_instances(InstanceIds=mine)
    assert "containerised Airflow pipeline" not in left(person)
