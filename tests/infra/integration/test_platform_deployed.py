"""platform.yml as `apply` deploys it, read back through each service's own API and compared with the brief."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import requests

from tests.support.paths import ROOT
from tests.support.person import LOGIN, SETTINGS, Person

PREFIX = "de-mbd-predict-ada-lovelace"
ME, WORLD = "192.31.196.7/32", "0.0.0.0/0"
RULES = {
    "default": {("tcp", 22, ME), ("tcp", 5432, ME), ("tcp", 5432, "group")},
    "course": {("tcp", 22, ME), ("tcp", 5432, WORLD), ("-1", None, WORLD), ("tcp", 5432, "group")},
}
OUTBOUND = {"default": {("-1", WORLD)}, "course": {("tcp", WORLD), ("tcp", "::/0")}}
VERSION = {"default": "18", "course": "14"}
MANAGED = {"default": set(), "course": {"AmazonS3FullAccess", "AmazonSNSFullAccess", "AmazonRDSDataFullAccess"}}
PRINCIPALS = {"default": ["ec2.amazonaws.com"], "course": ["rds.amazonaws.com", "ec2.amazonaws.com"]}
SUBSCRIBED = {"default": {"ada@example.org"}, "course": {"ada@example.org", "marking@example.org"}}


class Deployed(Person):
    """Somebody whose platform is deployed."""

    profile: str


@pytest.fixture(scope="module", params=["default", "course"])
def deployed(request: pytest.FixtureRequest, aws_server: str, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    requests.post(f"{aws_server}/moto-api/reset", timeout=30).raise_for_status()
    somebody = Deployed(tmp_path_factory.mktemp("deployed"), {**LOGIN, "AWS_ENDPOINT_URL": aws_server})
    somebody.settings = {**SETTINGS, "MBD_PROFILE": request.param, "MBD_KEY_NAME": "ada"}
    somebody.write_settings()
    somebody.client("ec2").create_key_pair(KeyName="ada")
    somebody.succeeds("apply", "--yes")
    somebody.profile = request.param
    return somebody


def instance_of(deployed: Deployed) -> Any:  # noqa: ANN401
    [group] = deployed.client("ec2").describe_instances()["Reservations"]
    [instance] = group["Instances"]
    return instance


def name_of(facts: Any, tags: str = "Tags") -> str:  # noqa: ANN401
    return next(str(tag["Value"]) for tag in facts[tags] if tag["Key"] == "Name")


def test_security_group_lets_in_who_the_profile_says(deployed: Deployed) -> None:
    ec2 = deployed.client("ec2")
    [group] = ec2.describe_security_groups(GroupNames=[f"{PREFIX}-security-group"])["SecurityGroups"]
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group["GroupId"]]}])
    inbound = {
        (
            rule["IpProtocol"],
            rule.get("FromPort") if rule["IpProtocol"] != "-1" else None,
            rule.get("CidrIpv4", "group"),
        )
        for rule in rules["SecurityGroupRules"]
        if not rule["IsEgress"]
    }
    outbound = {
        (rule["IpProtocol"], rule.get("CidrIpv4") or rule["CidrIpv6"])
        for rule in rules["SecurityGroupRules"]
        if rule["IsEgress"]
    }
    assert inbound == RULES[deployed.profile]
    assert outbound == OUTBOUND[deployed.profile]
    assert name_of(group) == f"{PREFIX}-security-group"


def test_instance_is_the_briefs(deployed: Deployed) -> None:
    instance = instance_of(deployed)
    assert instance["InstanceType"] == "t2.medium"
    assert instance["ImageId"] == SETTINGS["MBD_IMAGE_ID"]
    assert instance["KeyName"] == "ada"
    assert name_of(instance) == f"{PREFIX}-ec2"
    assert [group["GroupName"] for group in instance["SecurityGroups"]] == [f"{PREFIX}-security-group"]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{PREFIX}-ec2-role")
    [volume] = deployed.client("ec2").describe_volumes()["Volumes"]
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (30, "gp3", True)


def test_instance_stops_when_it_is_shut_down_from_inside(deployed: Deployed) -> None:
    answer = deployed.client("ec2").describe_instance_attribute(
        InstanceId=instance_of(deployed)["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )
    assert answer["InstanceInitiatedShutdownBehavior"]["Value"] == "stop"


def test_elastic_ip_belongs_to_the_instance(deployed: Deployed) -> None:
    [address] = deployed.client("ec2").describe_addresses()["Addresses"]
    assert address["InstanceId"] == instance_of(deployed)["InstanceId"]
    assert name_of(address) == f"{PREFIX}-ip"


def test_user_data_is_the_script_with_its_settings_before_it(deployed: Deployed) -> None:
    answer = deployed.client("ec2").describe_instance_attribute(
        InstanceId=instance_of(deployed)["InstanceId"], Attribute="userData"
    )
    text = base64.b64decode(answer["UserData"]["Value"]).decode()
    script = (ROOT / "infra_scripts" / "instance" / "first_boot.sh").read_text()
    before, found, _ = text.partition(script)
    assert found
    assert before.startswith("#!/bin/bash\n")
    for line in (
        f"MBD_FIRST_NAME='Ada' MBD_LAST_NAME='Lovelace' MBD_PROFILE='{deployed.profile}'",
        f"MBD_TOPIC_ARN='arn:aws:sns:eu-west-1:123456789012:{PREFIX}-SNS' MBD_SOURCE_BUCKET='{PREFIX}-s3-source'",
        f"AWS_REGION='eu-west-1' MBD_PARAMETERS='/{PREFIX}/airflow'",
        "MBD_TRANSPORT='ssm' MBD_SCALE_TO_ZERO='off'",
    ):
        assert f"export {line}\n" in before
    assert len(text) < 16_384


def test_database_is_the_briefs(deployed: Deployed) -> None:
    [database] = deployed.client("rds").describe_db_instances()["DBInstances"]
    expected = {
        "DBInstanceIdentifier": f"{PREFIX}-rds",
        "DBInstanceClass": "db.t3.micro",
        "Engine": "postgres",
        "EngineVersion": VERSION[deployed.profile],
        "DBName": "stocks",
        "AllocatedStorage": 20,
        "StorageEncrypted": True,
        "DeletionProtection": True,
        "MultiAZ": False,
        "PubliclyAccessible": True,
        "BackupRetentionPeriod": 7,
        "CopyTagsToSnapshot": True,
    }
    assert {name: database[name] for name in expected} == expected
    assert "MaxAllocatedStorage" not in database  # autoscaling is off
    assert database["Endpoint"]["Port"] == 5432
    assert name_of(database, tags="TagList") == f"{PREFIX}-rds"


def test_database_takes_only_tls(deployed: Deployed) -> None:
    rds = deployed.client("rds")
    [database] = rds.describe_db_instances()["DBInstances"]
    [group] = database["DBParameterGroups"]
    parameters = rds.describe_db_parameters(DBParameterGroupName=group["DBParameterGroupName"])["Parameters"]
    assert {one["ParameterName"]: one["ParameterValue"] for one in parameters} == {"rds.force_ssl": "1"}


def test_databases_password_is_random_and_in_secrets_manager_only(deployed: Deployed) -> None:
    secret = deployed.client("secretsmanager").get_secret_value(SecretId=f"{PREFIX}-database")
    content = json.loads(secret["SecretString"])
    [database] = deployed.client("rds").describe_db_instances()["DBInstances"]
    assert content["username"] == database["MasterUsername"] == "stocks"
    assert len(content["password"]) == 32
    template = deployed.client("cloudformation").get_template(StackName=f"{PREFIX}-platform")["TemplateBody"]
    assert content["password"] not in str(template) + deployed.env_file.read_text()


def test_source_bucket_is_closed_versioned_and_encrypted(deployed: Deployed) -> None:
    s3, bucket = deployed.client("s3"), f"{PREFIX}-s3-source"
    [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    [tls, code] = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert (tls["Effect"], tls["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert (code["Effect"], code["Resource"]) == ("Deny", f"arn:aws:s3:::{bucket}/Scripts/*")
    assert "arn:aws:sts::123456789012:user/moto" in str(code["Condition"]["ArnNotLike"]["aws:PrincipalArn"])
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    days = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules if "Expiration" in rule}
    kept_long = {"Output/receipts/": 400, "Output/reports/": 400}
    assert days == {**kept_long, "Output/logs/": 90, "Output/parts/": 7, "Output/dry-run/": 7}
    assert [rule["NoncurrentVersionExpiration"]["NoncurrentDays"] for rule in rules if "Expiration" not in rule] == [30]


def test_topic_mails_to_whom_the_profile_says(deployed: Deployed) -> None:
    sns = deployed.client("sns")
    [topic] = sns.list_topics()["Topics"]
    assert topic["TopicArn"].endswith(f":{PREFIX}-SNS")
    subscriptions = sns.list_subscriptions_by_topic(TopicArn=topic["TopicArn"])["Subscriptions"]
    assert {one["Endpoint"] for one in subscriptions} == SUBSCRIBED[deployed.profile]
    assert {one["Protocol"] for one in subscriptions} == {"email"}


def test_role_has_what_the_profile_says(deployed: Deployed) -> None:
    iam, role = deployed.client("iam"), f"{PREFIX}-ec2-role"
    trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [statement["Principal"]["Service"] for statement in trust] == [PRINCIPALS[deployed.profile]]
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert {one["PolicyArn"].rpartition("/")[2] for one in attached} == MANAGED[deployed.profile]
    policy = iam.get_role_policy(RoleName=role, PolicyName="pipeline")["PolicyDocument"]
    writes = next(one for one in policy["Statement"] if one["Sid"] == "WriteTheOutput")
    assert writes["Resource"] == f"arn:aws:s3:::{PREFIX}-s3-source/Output/*"


def test_stack_is_tagged_so_that_everything_in_it_is(deployed: Deployed) -> None:
    [stack] = deployed.client("cloudformation").describe_stacks()["Stacks"]
    tags = {tag["Key"]: tag["Value"] for tag in stack["Tags"]}
    assert tags["Project"] == "moving-big-data"
    assert tags["Owner"] == "Ada Lovelace"
    assert set(tags) == {"Project", "Owner"}  # nothing that changes: a changed tag would change the database


def test_env_file_has_what_the_other_parts_read(deployed: Deployed) -> None:
    lines = dict(line.split("=", 1) for line in deployed.env_file.read_text().splitlines())
    assert lines["MBD_TOPIC_ARN"] == f"arn:aws:sns:eu-west-1:123456789012:{PREFIX}-SNS"
    assert lines["MBD_INSTANCE_ID"] == instance_of(deployed)["InstanceId"]
    assert lines["MBD_TRANSPORT"] == "ssm"
    assert lines["AIRFLOW_URL"] == "http://127.0.0.1:8080"
    assert deployed.env_file.stat().st_mode & 0o777 == 0o600


def test_each_secret_of_the_airflow_stack_is_a_secure_string_of_its_own(deployed: Deployed) -> None:
    pages = deployed.client("ssm").get_paginator("get_parameters_by_path")
    found = [
        one for page in pages.paginate(Path=f"/{PREFIX}/airflow/", WithDecryption=True) for one in page["Parameters"]
    ]
    found = [one for one in found if one["Type"] == "SecureString"]
    assert {one["Name"].rpartition("/")[2] for one in found} == {
        "trigger-password", "admin-password", "metadata-password", "fernet-key", "jwt-secret", "secret-key",
        "redis-password",
    }  # fmt: skip
    assert {one["Type"] for one in found} == {"SecureString"}
    assert len({one["Value"] for one in found}) == 7
