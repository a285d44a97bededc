"""What a new AWS account refuses, answered in front of the emulator as AWS documents it, and what the person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.aws_proxy import Answer, AwsProxy, Call, Script, refusal
from tests.support.person import Person

PREFIX = "de-mbd-predict-ada-lovelace"
FREE_TYPES = ("t3.micro", "t3.small", "t4g.micro", "t4g.small", "c7i-flex.large", "m7i-flex.large")


def answered(facts: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})


def free_plan(call: Call) -> Answer | None:
    """An account on the free plan, with the Lambda quota of a new one."""
    if call.operation == "GetAccountPlanState":
        assert "/us-east-1/freetier/" in call.headers["Authorization"]  # no other region has that service
        return answered({"accountId": "123456789012", "accountPlanType": "FREE", "accountPlanStatus": "ACTIVE"})
    if "/account-settings" in call.target:
        return answered({"AccountLimit": {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}})
    if call.operation == "DescribeInstanceTypes" and b"free-tier-eligible" in call.body:
        items = "".join(f"<item><instanceType>{name}</instanceType></item>" for name in FREE_TYPES)
        body = (
            f"<DescribeInstanceTypesResponse><instanceTypeSet>{items}</instanceTypeSet></DescribeInstanceTypesResponse>"
        )
        return Answer(200, body.encode(), {"Content-Type": "text/xml"})
    return None


def changed_settings(person: Person, **settings: str) -> None:
    person.settings |= settings
    person.write_settings()


def found(person: Person, what: str) -> tuple[str, str]:
    """Level and text of `check`'s finding."""
    findings = json.loads(person.says("check", "--json").out)["findings"]
    [one] = [one for one in findings if one["what"] == what and one["level"] != "ok"] or [
        one for one in findings if one["what"] == what
    ][:1]
    return one["level"], one["text"]


def is_refused(person: Person, *words: str) -> None:
    """apply makes nothing and says these words, and plan says them too."""
    planned, applied = person.says("plan"), person.says("apply", "--yes")
    assert (planned.code, applied.code) == (0, 1)
    assert "AWS would refuse this platform, so nothing was made." in applied.err
    for word in words:
        assert word in planned.out.partition("Before apply:")[2]
        assert word in applied.err
    assert person.client("cloudformation").list_stacks()["StackSummaries"] == [] or not [
        one
        for one in person.client("cloudformation").list_stacks()["StackSummaries"]
        if one["StackStatus"] not in {"DELETE_COMPLETE"}
    ]
    assert person.client("ssm").describe_parameters()["Parameters"] == []


def test_the_free_plan_refuses_the_briefs_instance_and_a_week_of_backups(person: Person, aws: AwsProxy) -> None:
    aws.script = free_plan
    level, text = found(person, "plan")
    assert level == "error"
    assert "refuses t2.medium (allowed: c7i-flex.large, m7i-flex.large, t3.micro" in text
    is_refused(person, "Set MBD_INSTANCE_TYPE=c7i-flex.large", "7 days of backups. Set MBD_BACKUP_DAYS=1")


def test_a_free_account_gets_its_platform_with_what_init_proposes(person: Person, aws: AwsProxy) -> None:
    aws.script = free_plan
    said = person.says("init")
    assert said.code == 0, said.err
    assert (
        "free plan, which refuses t2.medium and 7 days of backups: setting MBD_INSTANCE_TYPE=c7i-flex.large" in said.err
    )
    assert "MBD_BACKUP_DAYS=1" in person.env_file.read_text()
    assert "Before apply" not in person.says("plan").out
    applied = person.says("apply", "--yes")
    assert applied.code == 0, applied.err
    [database] = person.client("rds").describe_db_instances()["DBInstances"]
    [group] = person.client("ec2").describe_instances()["Reservations"]
    assert (database["BackupRetentionPeriod"], group["Instances"][0]["InstanceType"]) == (1, "c7i-flex.large")


def test_init_keeps_what_the_person_has_set_and_works_without_a_login(person: Person, aws: AwsProxy) -> None:
    aws.script = free_plan
    changed_settings(person, MBD_INSTANCE_TYPE="m7i-flex.large", MBD_BACKUP_DAYS="1")
    assert "free plan" not in person.says("init").err
    assert "MBD_INSTANCE_TYPE=m7i-flex.large" in person.env_file.read_text()
    del person.login["AWS_ACCESS_KEY_ID"], person.login["AWS_SECRET_ACCESS_KEY"]
    said = person.says("init")
    assert said.code == 0
    assert "The account's plan is not known." in said.err


def test_an_account_from_before_there_were_plans_is_not_on_the_free_plan(person: Person, aws: AwsProxy) -> None:
    def old(call: Call) -> Answer | None:
        return refusal(call, "ResourceNotFoundException") if call.operation == "GetAccountPlanState" else None

    aws.script = old
    assert found(person, "plan")[0] == "ok"


def test_what_the_login_may_not_ask_is_a_warning_and_does_not_stop_apply(person: Person, aws: AwsProxy) -> None:
    def denying(call: Call) -> Answer | None:
        return refusal(call, "AccessDeniedException") if call.operation == "GetAccountPlanState" else None

    aws.script = denying
    level, text = found(person, "plan")
    assert (level, "your AWS login may not do GetAccountPlanState" in text) == ("warning", True)
    assert person.says("apply", "--yes").code == 0


def test_a_reservation_that_the_lambda_quota_refuses_is_reported(person: Person, aws: AwsProxy) -> None:
    """AWS: decreases account's UnreservedConcurrentExecution below its minimum value."""
    aws.script = free_plan
    assert found(person, "Lambda") == ("ok", "the quota is 10 concurrent executions")
    changed_settings(person, MBD_RESERVED_CONCURRENCY="1")
    level, text = found(person, "Lambda")
    assert level == "error"
    assert "The account's quota is 10 concurrent executions" in text
    assert "Leave MBD_RESERVED_CONCURRENCY out" in text


@pytest.mark.parametrize(("quota", "level"), [(100, "error"), (101, "ok")])
def test_a_reservation_needs_more_than_what_aws_keeps_for_other_functions(
    quota: int, level: str, person: Person, aws: AwsProxy
) -> None:
    facts = {"AccountLimit": {"ConcurrentExecutions": quota, "UnreservedConcurrentExecutions": quota}}
    aws.script = lambda call: answered(facts) if "/account-settings" in call.target else None
    changed_settings(person, MBD_RESERVED_CONCURRENCY="1")
    assert found(person, "Lambda")[0] == level


@pytest.mark.parametrize("bucket", [f"{PREFIX}-s3-source", f"{PREFIX}-monitored-bucket"])
@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_a_bucket_name_that_somebody_else_has_is_reported(
    region: str, bucket: str, person: Person, aws: AwsProxy
) -> None:
    def taken(call: Call) -> Answer | None:
        if call.method != "HEAD" or bucket not in call.target:
            return None
        is_redirected = region != "eu-west-1" and "/eu-west-1/s3/" in call.headers["Authorization"]
        return Answer(301 if is_redirected else 403, b"", {"x-amz-bucket-region": region})

    aws.script = taken
    assert found(person, "bucket") == (
        "error", f"{bucket} belongs to somebody else (names are global). Change MBD_FIRST_NAME or MBD_LAST_NAME."
    )  # fmt: skip
    is_refused(person, bucket)
    assert person.says("teardown", "--dry-run").code == 0  # it is not ours, and is not in the list


def test_a_bucket_of_this_account_that_is_in_the_way_is_reported(person: Person, aws: AwsProxy) -> None:
    person.client("s3").create_bucket(
        Bucket=f"{PREFIX}-s3-source", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    is_refused(person, f"{PREFIX}-s3-source is in this account already, and in no stack")


def test_the_bucket_of_a_trigger_that_is_deployed_is_not_in_the_way_of_a_new_platform(person: Person) -> None:
    bucket = f"{PREFIX}-monitored-bucket"
    properties = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": bucket}}
    template = json.dumps({"Resources": {"MonitoredBucket": properties}})
    person.client("cloudformation").create_stack(StackName=f"{PREFIX}-trigger", TemplateBody=template)
    assert bucket in [one["Name"] for one in person.client("s3").list_buckets()["Buckets"]]
    assert found(person, "bucket") == (
        "ok", f"{PREFIX}-s3-source is free (after a teardown AWS may refuse it for an hour)"
    )  # fmt: skip
    assert person.says("apply", "--yes").code == 0


def blocked(call: Call) -> Answer | None:
    """An account whose Block Public Access is on, as organisations have it."""
    if "publicAccessBlock" not in call.target:
        return None
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    inside = "".join(f"<{name}>true</{name}>" for name in names)
    body = f"<PublicAccessBlockConfiguration>{inside}</PublicAccessBlockConfiguration>"
    return Answer(200, body.encode(), {"Content-Type": "text/xml"})


def test_an_account_that_blocks_public_buckets_cannot_have_profile_course(person: Person, aws: AwsProxy) -> None:
    aws.script = blocked
    assert person.says("plan").out.count("Before apply:") == 0  # profile default needs no public bucket
    changed_settings(person, MBD_PROFILE="course")
    is_refused(person, "Block Public Access (BlockPublicPolicy, RestrictPublicBuckets) refuses the public bucket")


def image(architecture: str = "x86_64", gigabytes: int = 8, root: str = "/dev/sda1") -> Script:
    """EC2's answer about any image."""
    device = f"<item><deviceName>{root}</deviceName><ebs><volumeSize>{gigabytes}</volumeSize></ebs></item>"
    body = (
        "<DescribeImagesResponse><imagesSet><item><imageId>ami-0123456789abcdef0</imageId><name>theirs</name>"
        f"<imageState>available</imageState><architecture>{architecture}</architecture>"
        f"<rootDeviceName>{root}</rootDeviceName><blockDeviceMapping>{device}</blockDeviceMapping></item></imagesSet>"
        "</DescribeImagesResponse>"
    )
    return lambda call: (
        Answer(200, body.encode(), {"Content-Type": "text/xml"}) if call.operation == "DescribeImages" else None
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (image(architecture="arm64"), "is for arm64 processors, and Airflow's image needs x86_64"),
        (image(gigabytes=100), "needs a disk of 100 GB, and the instance has 30"),
        (lambda call: refusal(call, "InvalidAMIID.NotFound") if call.operation == "DescribeImages" else None,
         "This account sees no image ami-0123456789abcdef0 in this region. Fix MBD_IMAGE_ID."),
    ],
    ids=["arm64", "too large", "not shared"],
)  # fmt: skip
def test_an_image_that_would_not_start_is_reported(script: Script, words: str, person: Person, aws: AwsProxy) -> None:
    changed_settings(person, MBD_IMAGE_ID="ami-0123456789abcdef0")
    aws.script = script
    is_refused(person, words)


def test_the_disk_has_the_name_of_the_images_root_device(person: Person, aws: AwsProxy) -> None:
    aws.script = image(root="/dev/xvda")
    assert person.says("apply", "--yes").code == 0
    [stack] = person.client("cloudformation").describe_stacks()["Stacks"]
    assert {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}["RootDevice"] == "/dev/xvda"
    aws.script = image(root="/dev/sda1")
    assert json.loads(person.says("plan", "--json").out)["changes"] == []  # another name would replace the instance


def test_an_instance_type_with_another_processor_is_reported(person: Person, aws: AwsProxy) -> None:
    changed_settings(person, MBD_INSTANCE_TYPE="t4g.medium")
    is_refused(person, "t4g.medium has arm64 processors. Set MBD_INSTANCE_TYPE to an x86_64 type.")
