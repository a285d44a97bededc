"""Each command of the platform against an AWS of its own: twice, interrupted, refused, and as things go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.infra.conftest import REGION, Person
from tests.local_stack.process import HOST, free_port

PREFIX = "de-mbd-predict-ada-lovelace"
BUCKET = f"{PREFIX}-s3-source"
STACK = f"{PREFIX}-platform"


@pytest.fixture
def owner(person: Person) -> Person:
    """Somebody whose platform stands."""
    applied = person.says("apply", "--yes")
    assert applied.code == 0, applied.err
    return person


def parameters_of(person: Person) -> dict[str, str]:
    pages = person.client("ssm").get_paginator("get_parameters_by_path")
    found = pages.paginate(Path=f"/{PREFIX}/", Recursive=True, WithDecryption=True)
    return {one["Name"]: one["Value"] for page in found for one in page["Parameters"]}


def stacks_of(person: Person) -> list[str]:
    found = person.client("cloudformation").describe_stacks()["Stacks"]
    return [one["StackName"] for one in found if one["StackStatus"] != "DELETE_COMPLETE"]


def learned(person: Person, *words: str) -> Any:  # noqa: ANN401
    said = person.says(*words, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


# plan


def test_plan_tells_what_is_made_and_makes_nothing(person: Person) -> None:
    plans = [learned(person, "plan") for _ in range(2)]
    assert plans[0] == plans[1]
    deeds = {one["resource"]: one["deed"] for one in plans[0]["changes"]}
    assert {"SourceBucket", "Database", "Instance", "Address", "Topic", "SshFromMe"} < deeds.keys()
    assert "CourseSsh" not in deeds
    assert set(deeds.values()) == {"made"}
    assert (stacks_of(person), parameters_of(person)) == ([], {})


def test_plan_of_the_course_profile_tells_what_each_switch_opens(person: Person) -> None:
    person.settings["MBD_PROFILE"] = "course"
    person.write_settings()
    text = person.says("plan").out
    for words in ("OPEN TO THE WORLD", "22 (SSH)", "5432 (PostgreSQL)", "all others", "FullAccess", "PostgreSQL 14"):
        assert words in text
    assert learned(person, "plan")["open_to_the_world"] == ["22 (SSH)", "5432 (PostgreSQL)", "all others"]


def test_plan_estimates_the_cost_from_the_dated_table(person: Person) -> None:
    plan, prices = learned(person, "plan"), learned(person, "prices")
    assert plan["usd_a_month"]["instance"] == pytest.approx(prices["instance_hour"]["t2.medium"] * 730)
    assert sum(plan["usd_a_month_stopped"].values()) < sum(plan["usd_a_month"].values())
    text = person.says("plan").out
    assert prices["as_of"] in text


def test_plan_of_a_platform_that_stands_says_what_would_change(owner: Person) -> None:
    assert "Nothing to change" in owner.says("plan").out
    owner.settings["MBD_MY_ADDRESS"] = "198.51.100.9/32"
    owner.write_settings()
    changes = {one["resource"]: one["deed"] for one in learned(owner, "plan")["changes"]}
    assert changes == {"SshFromMe": "changed", "PostgresFromMe": "changed"}


# apply


def test_apply_a_second_time_changes_nothing(owner: Person) -> None:
    secrets, env = parameters_of(owner), owner.env_file.read_text()
    said = owner.says("apply", "--yes", "--json")
    again = json.loads(said.out)
    assert (said.code, again["changes"], again["written"]) == (0, 0, [])
    assert "Made" not in said.err
    assert (parameters_of(owner), owner.env_file.read_text()) == (secrets, env)


@pytest.mark.parametrize("words", [("apply",), ("apply", "--dry-run"), ("apply", "--dry-run", "--yes")])
def test_apply_does_nothing_unless_somebody_says_yes(words: tuple[str, ...], person: Person) -> None:
    said = person.says(*words)
    assert said.code == (0 if "--dry-run" in words else 1)
    assert (stacks_of(person), parameters_of(person)) == ([], {})
    if said.code:
        assert "Pass --yes" in said.err


def test_apply_goes_on_after_a_kill_that_left_a_plan_behind(person: Person) -> None:
    person.client("cloudformation").create_change_set(
        StackName=STACK,
        ChangeSetName="left-behind",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}),
    )
    assert person.says("apply", "--yes").code == 0
    assert person.client("rds").describe_db_instances()["DBInstances"]


def test_apply_keeps_the_secrets_that_an_earlier_try_made(person: Person) -> None:
    person.client("ssm").put_parameter(Name=f"/{PREFIX}/airflow/fernet-key", Value="kept", Type="SecureString")
    assert person.says("apply", "--yes").code == 0
    made = parameters_of(person)
    assert made[f"/{PREFIX}/airflow/fernet-key"] == "kept"
    assert len(made) == 7


def test_apply_writes_env_when_it_was_killed_before_that(owner: Person) -> None:
    complete = owner.env_file.read_text()
    owner.write_settings()
    assert learned(owner, "apply", "--yes")["changes"] == 0
    assert owner.env_file.read_text() == complete


def test_apply_names_everything_that_is_missing(person: Person) -> None:
    del person.settings["MBD_EMAIL"], person.settings["MBD_MY_ADDRESS"], person.settings["MBD_MARKING_EMAIL"]
    person.settings["MBD_PROFILE"] = "course"
    person.write_settings()
    said = person.says("apply", "--yes")
    assert said.code == 2
    for name in ("MBD_EMAIL", "MBD_MY_ADDRESS", "MBD_MARKING_EMAIL", "init"):
        assert name in said.err


def test_the_newest_ubuntu_is_looked_for_where_no_image_is_named(person: Person) -> None:
    """Under its SSM parameter, which moto does not have."""
    del person.settings["MBD_IMAGE_ID"]
    person.write_settings()
    said = person.says("plan")
    assert said.code == 2
    assert "/aws/service/canonical/ubuntu/server/24.04/" in said.err
    assert "Set MBD_IMAGE_ID" in said.err


def test_an_update_keeps_the_image_that_is_in_use(owner: Person) -> None:
    del owner.settings["MBD_IMAGE_ID"]
    owner.write_settings()
    assert learned(owner, "plan")["changes"] == []


def test_a_deployed_database_is_never_asked_to_go_back_to_an_older_version(owner: Person) -> None:
    owner.settings["MBD_PROFILE"] = "course"
    owner.write_settings()
    assert "Database" not in {one["resource"] for one in learned(owner, "plan")["changes"]}


# stop, start


def test_stop_and_start_again_each_twice(owner: Person) -> None:
    for _ in range(2):
        stopped = learned(owner, "stop", "--yes")
        assert (stopped["instance"], stopped["database"]) == ("stopped", "stopped")
        assert stopped["database_starts_itself"]
    assert "starts by itself on 20" in owner.says("status").out
    for _ in range(2):
        started = learned(owner, "start")
        assert (started["instance"], started["database"]) == ("running", "available")


def test_stop_stops_nothing_unless_somebody_says_yes(owner: Person) -> None:
    assert owner.says("stop").code == 1
    assert owner.says("stop", "--dry-run").code == 0
    assert learned(owner, "status")["instance"] == "running"


# status, resources-csv


def test_status_shows_the_last_receipts_newest_first(owner: Person) -> None:
    s3 = owner.client("s3")
    s3.put_object(Bucket=BUCKET, Key="Output/receipts/broken.json", Body=b"{")
    receipt = {"run_id": "r1", "state": "done", "started_at": "2026-11-20T10:00:00+00:00", "rows": {"inserted": 1234}}
    s3.put_object(Bucket=BUCKET, Key="Output/receipts/r1.json", Body=json.dumps(receipt).encode())
    status = learned(owner, "status")
    assert {one["state"] for one in status["runs"]} == {"done", "unreadable"}
    assert status["subscriptions"] == [{"address": "ada@example.org", "state": "confirmed"}]
    assert "2026-11-20 10:00:00 done, 1,234 rows inserted (r1)" in owner.says("status").out
    assert len(learned(owner, "status", "--last", "1")["runs"]) == 1


def test_resources_csv_is_the_courses_table(owner: Person) -> None:
    [address] = owner.client("ec2").describe_addresses()["Addresses"]
    assert owner.says("resources-csv").out == (
        "Name,Surname,Source_bucket,Monitored_bucket,SNS_topic,Static_IP\n"
        f"Ada,Lovelace,{BUCKET},{PREFIX}-monitored-bucket,{PREFIX}-SNS,{address['PublicIp']}\n"
    )


@pytest.mark.parametrize("command", ["status", "resources-csv", "stop", "start"])
def test_without_a_platform_the_next_step_is_named(command: str, person: Person) -> None:
    said = person.says(command, "--yes")
    assert said.code == 1
    assert f"There is no platform yet (stack {STACK}). Run `python -m infra_scripts apply` first." in said.err


# teardown


@pytest.fixture
def data(owner: Person) -> Person:
    """Somebody whose bucket holds several versions, a removed object and an upload that never ended."""
    s3 = owner.client("s3")
    for version in range(3):
        s3.put_object(Bucket=BUCKET, Key="Stocks/wex.us.csv", Body=str(version).encode())
    s3.put_object(Bucket=BUCKET, Key="Stocks/gone.us.csv", Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key="Stocks/gone.us.csv")
    s3.create_multipart_upload(Bucket=BUCKET, Key="Output/half.csv")
    return owner


def test_teardown_loses_no_data_without_a_second_word(data: Person) -> None:
    said = data.says("teardown", "--yes")
    assert said.code == 1
    assert "company files" in said.err
    assert BUCKET in said.err
    assert data.client("s3").list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
    assert data.client("rds").describe_db_instances()["DBInstances"][0]["DeletionProtection"] is True
    assert stacks_of(data) == [STACK]


def test_teardown_leaves_nothing_and_ticks_every_line(data: Person) -> None:
    said = data.says("teardown", "--yes", "--delete-data")
    assert said.code == 0, said.err
    ticked = [line for line in said.out.splitlines() if line.startswith("[x] ")]
    assert [line[4:22].rstrip() for line in ticked] == [
        "trigger's stack", "Lambda function", "monitored bucket", "EC2 instance", "EBS volume", "Elastic IP",
        "security group", "IAM role", "RDS database", "database's secret", "source bucket", "SNS topic",
        "SSM parameters", "platform's stack",
    ]  # fmt: skip
    assert "[ ]" not in said.out
    ec2 = data.client("ec2")
    states = {one["State"]["Name"] for group in ec2.describe_instances()["Reservations"] for one in group["Instances"]}
    assert states <= {"terminated"}
    assert ec2.describe_addresses()["Addresses"] == []
    assert data.client("rds").describe_db_instances()["DBInstances"] == []
    assert data.client("s3").list_buckets()["Buckets"] == []
    assert data.client("sns").list_topics()["Topics"] == []
    assert data.client("iam").list_roles()["Roles"] == []
    assert data.client("secretsmanager").list_secrets()["SecretList"] == []
    assert (stacks_of(data), parameters_of(data)) == ([], {})
    assert "MBD_INSTANCE_ID=\n" in data.env_file.read_text()


def test_teardown_keeps_the_final_snapshot_until_it_is_told(data: Person) -> None:
    said = data.says("teardown", "--yes", "--delete-data")
    snapshots = data.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert [one["DBSnapshotIdentifier"] in said.out for one in snapshots] == [True]
    assert data.says("teardown", "--yes", "--delete-snapshots").code == 0
    assert data.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"] == []


def test_teardown_a_second_time_finds_nothing_and_is_content(owner: Person) -> None:
    assert owner.says("teardown", "--yes", "--delete-data").code == 0
    again = owner.says("teardown")
    assert (again.code, "[ ]" in again.out) == (0, False)


def test_teardown_goes_on_where_it_was_killed(owner: Person) -> None:
    owner.client("rds").modify_db_instance(DBInstanceIdentifier=f"{PREFIX}-rds", DeletionProtection=False)
    owner.client("cloudformation").delete_stack(StackName=STACK)
    assert len(parameters_of(owner)) == 7
    assert owner.says("teardown", "--dry-run").code == 0
    assert len(parameters_of(owner)) == 7
    assert owner.says("teardown", "--yes").code == 0
    assert parameters_of(owner) == {}


def test_teardown_takes_a_stopped_database_too(owner: Person) -> None:
    learned(owner, "stop", "--yes")
    assert owner.says("teardown", "--yes", "--delete-data").code == 0


def test_teardown_waits_for_the_trigger_to_be_removed(owner: Person) -> None:
    monitored = f"{PREFIX}-monitored-bucket"
    template = {"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": monitored}}}}
    cloudformation = owner.client("cloudformation")
    cloudformation.create_stack(StackName=f"{PREFIX}-trigger", TemplateBody=json.dumps(template))
    owner.client("s3").put_object(Bucket=monitored, Key="a.SUCCESS", Body=b"")
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 1
    assert "npx serverless remove" in said.err
    assert owner.client("s3").list_objects_v2(Bucket=monitored)["KeyCount"] == 0
    assert owner.client("rds").describe_db_instances()["DBInstances"]
    cloudformation.delete_stack(StackName=f"{PREFIX}-trigger")
    assert owner.says("teardown", "--yes", "--delete-data").code == 0


# check


def findings(person: Person) -> tuple[int, dict[str, tuple[str, str]]]:
    said = person.says("check", "--json")
    return said.code, {one["what"]: (one["level"], one["text"]) for one in json.loads(said.out)["findings"]}


def test_check_of_a_sound_platform_finds_nothing_bad(owner: Person) -> None:
    code, found = findings(owner)
    assert code == 0
    assert {what for what, (level, _) in found.items() if level == "ok"} >= {
        "names", "login", "region", "platform", "profile", "open ports", "mails", "secrets", "database", "image",
    }  # fmt: skip


def test_check_before_the_first_apply_looks_at_the_account(person: Person) -> None:
    code, found = findings(person)
    assert (code, found["platform"][0], found["network"][0], found["Elastic IPs"][0]) == (0, "look", "ok", "ok")
    person.settings["MBD_KEY_NAME"] = "nobodys"
    person.write_settings()
    for _ in range(5):
        person.client("ec2").allocate_address(Domain="vpc")
    code, found = findings(person)
    assert (code, found["key pair"][0], found["Elastic IPs"][0]) == (1, "BAD", "BAD")


def test_check_notices_a_port_that_somebody_opened(owner: Person) -> None:
    [group] = owner.client("ec2").describe_security_groups(GroupNames=[f"{PREFIX}-security-group"])["SecurityGroups"]
    owner.client("ec2").authorize_security_group_ingress(
        GroupId=group["GroupId"], IpProtocol="tcp", FromPort=8080, ToPort=8080, CidrIp="0.0.0.0/0"
    )
    code, found = findings(owner)
    assert (code, found["open ports"][0]) == (1, "BAD")
    assert "8080" in found["open ports"][1]


def test_check_nags_when_the_course_profile_is_over(person: Person) -> None:
    person.settings["MBD_PROFILE"] = "course"
    person.write_settings()
    assert person.says("apply", "--yes", "--course-expires", "2026-01-31").code == 0
    code, found = findings(person)
    assert (code, found["profile"][0]) == (1, "BAD")
    assert "2026-01-31" in found["profile"][1]
    assert found["open ports"][0] == "look"
    assert "5432" in found["open ports"][1]


def test_check_notices_missing_secrets_and_a_stopped_instance(owner: Person) -> None:
    owner.client("ssm").delete_parameter(Name=f"/{PREFIX}/airflow/jwt-secret")
    learned(owner, "stop", "--yes")
    code, found = findings(owner)
    assert code == 1
    assert found["secrets"] == ("BAD", f"Missing under /{PREFIX}/airflow/: jwt-secret. Apply makes them.")
    assert (found["Airflow"][0], found["database"][0]) == ("look", "look")


# logins that do not work


@pytest.fixture
def guarded(person: Person) -> Iterator[Person]:
    """From here on the account asks every caller for permission."""
    server = person.login["AWS_ENDPOINT_URL"]
    yield person
    requests.post(f"{server}/moto-api/reset-auth", data="Infinity", timeout=10).raise_for_status()


def guard(person: Person) -> None:
    server = person.login["AWS_ENDPOINT_URL"]
    requests.post(f"{server}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()


@pytest.mark.parametrize("command", ["plan", "apply", "status", "stop", "start", "teardown", "check", "resources-csv"])
def test_a_wrong_login_is_told_as_such(command: str, guarded: Person) -> None:
    guard(guarded)
    said = guarded.says(command, "--yes")
    assert said.code == 3
    assert "does not accept this login" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("command", "action"),
    [
        ("plan", "cloudformation:DescribeStacks"),
        ("apply", "cloudformation:DescribeStacks"),
        ("status", "cloudformation:DescribeStacks"),
        ("teardown", "cloudformation:DescribeStacks"),
    ],
)
def test_a_missing_permission_is_named(command: str, action: str, guarded: Person) -> None:
    iam = guarded.client("iam")
    iam.create_user(UserName="intern")
    key = iam.create_access_key(UserName="intern")["AccessKey"]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="intern", PolicyName="p", PolicyDocument=json.dumps(document))
    guard(guarded)
    login = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    said = guarded.says(command, "--yes", **login)
    assert said.code == 3
    assert f"your AWS login may not do {action}" in said.err
    assert key["SecretAccessKey"] not in said.err


def test_no_login_at_all_is_a_matter_of_settings(person: Person) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del person.login[name]
    said = person.says("plan")
    assert said.code == 2
    assert "no AWS login was found. Run `aws configure`" in said.err


def test_an_unknown_login_profile_is_a_matter_of_settings(person: Person) -> None:
    said = person.says("plan", AWS_PROFILE="nobodys")
    assert said.code == 2
    assert "Mend AWS_PROFILE" in said.err


def test_no_network_is_told_as_such(person: Person) -> None:
    said = person.says("plan", AWS_ENDPOINT_URL=f"http://{HOST}:{free_port()}", AWS_MAX_ATTEMPTS="1")
    assert said.code == 3
    assert "AWS was not reached" in said.err


def test_a_region_that_is_none_is_told_before_aws_is_asked(person: Person) -> None:
    person.settings["AWS_REGION"] = "Ireland"
    person.write_settings()
    said = person.says("plan")
    assert said.code == 2
    assert "AWS_REGION is 'Ireland'" in said.err
    assert REGION in said.err
