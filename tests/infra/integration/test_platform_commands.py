"""Each command of the platform against a simulated AWS: twice, interrupted, refused, and with things going wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import requests

from etl.outcome.receipt import Receipt, RowCounts, State
from infra_scripts.environment import read_file
from infra_scripts.platform.costs import read_prices
from tests.support.brief import BRIEF
from tests.support.person import REGION, Person
from tests.support.process import HOST, free_port

PREFIX = "de-mbd-predict-ada-lovelace"
BUCKET = f"{PREFIX}-s3-source"
STACK = f"{PREFIX}-platform"
WORLD = "0.0.0.0/0"


@pytest.fixture
def owner(person: Person) -> Person:
    """Somebody whose platform is deployed."""
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


def test_plan_shows_what_would_be_created_and_creates_nothing(person: Person) -> None:
    plans = [learned(person, "plan") for _ in range(2)]
    assert plans[0] == plans[1]
    actions = {one["resource"]: one["action"] for one in plans[0]["changes"]}
    assert {"SourceBucket", "Database", "Instance", "Address", "Topic", "SshFromMe"} < actions.keys()
    assert "CourseSsh" not in actions
    assert set(actions.values()) == {"made"}
    assert (stacks_of(person), parameters_of(person)) == ([], {})


def test_plan_of_profile_course_says_what_each_switch_opens(person: Person) -> None:
    person.settings["MBD_PROFILE"] = "course"
    person.write_settings()
    text = person.says("plan").out
    for words in ("OPEN TO THE WORLD", "22 (SSH)", "5432 (PostgreSQL)", "all others", "FullAccess", "PostgreSQL 14"):
        assert words in text
    assert learned(person, "plan")["open_to_the_world"] == ["22 (SSH)", "5432 (PostgreSQL)", "all others"]


def test_plan_estimates_the_cost_from_the_dated_table(person: Person) -> None:
    plan, prices = learned(person, "plan"), read_prices()
    hour = prices["regions"][person.settings["AWS_REGION"]]["instance_hour"]["t2.medium"]
    assert plan["usd_a_month"]["instance"] == pytest.approx(hour * 730)
    assert sum(plan["usd_a_month_stopped"].values()) < sum(plan["usd_a_month"].values())
    text = person.says("plan").out
    assert prices["as_of"] in text


def test_plan_of_a_deployed_platform_says_what_would_change(owner: Person) -> None:
    assert "Nothing to change" in owner.says("plan").out
    owner.settings["MBD_MY_ADDRESS"] = "192.31.196.9/32"
    owner.write_settings()
    changes = {one["resource"]: one["action"] for one in learned(owner, "plan")["changes"]}
    assert changes == {"SshFromMe": "changed", "PostgresFromMe": "changed"}


# apply


def test_apply_a_second_time_changes_nothing(owner: Person) -> None:
    secrets, env = parameters_of(owner), owner.env_file.read_text()
    said = owner.says("apply", "--yes", "--json")
    again = json.loads(said.out)
    assert (said.code, again["changes"], again["written"]) == (0, 0, [])
    assert "Created" not in said.err
    assert (parameters_of(owner), owner.env_file.read_text()) == (secrets, env)


@pytest.mark.parametrize("words", [("apply",), ("apply", "--dry-run"), ("apply", "--dry-run", "--yes")])
def test_apply_does_nothing_unless_somebody_says_yes(words: tuple[str, ...], person: Person) -> None:
    said = person.says(*words)
    assert said.code == (0 if "--dry-run" in words else 1)
    assert (stacks_of(person), parameters_of(person)) == ([], {})
    if said.code:
        assert "Pass --yes" in said.err


def test_apply_continues_after_a_kill_that_left_a_change_set_behind(person: Person) -> None:
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
    del person.settings["MBD_EMAIL"], person.settings["MBD_MY_ADDRESS"]
    person.settings["MBD_PROFILE"] = "course"
    person.write_settings()
    said = person.says("apply", "--yes")
    assert said.code == 2
    for name in ("MBD_EMAIL", "MBD_MY_ADDRESS", "init"):
        assert name in said.err


@pytest.mark.parametrize("settings", [{}, {"MBD_PROFILE": "course", "AWS_REGION": "eu-west-2"}], ids=str)
def test_the_newest_ubuntu_is_looked_for_where_no_image_is_named(settings: dict[str, str], person: Person) -> None:
    """Under its SSM parameter, which moto does not have. In profile course the brief's image is in eu-west-1 only."""
    del person.settings["MBD_IMAGE_ID"]
    changed_settings(person, **settings)
    said = person.says("plan")
    assert said.code == 2
    assert "/aws/service/canonical/ubuntu/server/24.04/" in said.err
    assert "Set MBD_IMAGE_ID" in said.err


def test_an_update_keeps_the_image_that_is_in_use(owner: Person) -> None:
    del owner.settings["MBD_IMAGE_ID"]
    owner.write_settings()
    assert learned(owner, "plan")["changes"] == []


def database_of(person: Person) -> str:
    [database] = person.client("rds").describe_db_instances()["DBInstances"]
    return str(database["EngineVersion"])


def changed_settings(person: Person, **settings: str) -> None:
    person.settings |= settings
    person.write_settings()


@pytest.mark.parametrize("profile", ["default", "course"])
def test_a_change_of_profile_leaves_the_deployed_database_at_its_version(profile: str, person: Person) -> None:
    changed_settings(person, MBD_PROFILE="course" if profile == "default" else "default")
    assert person.says("apply", "--yes").code == 0
    deployed = database_of(person)
    changed_settings(person, MBD_PROFILE=profile)
    plan = learned(person, "plan")
    assert not {"Database", "DatabaseParameters"} & {one["resource"] for one in plan["changes"]}
    assert plan["database_upgrade"] is None
    assert person.says("apply", "--yes").code == 0
    assert database_of(person) == deployed


def test_the_setting_upgrades_the_database_and_plan_warns(person: Person) -> None:
    changed_settings(person, MBD_DATABASE_VERSION="16")
    assert person.says("apply", "--yes").code == 0
    changed_settings(person, MBD_DATABASE_VERSION="18")
    warned = person.says("plan").out
    assert "WARNING: PostgreSQL is upgraded from 16 to 18. This cannot be undone" in warned
    assert "The database is down for ten minutes or more" in warned
    assert learned(person, "plan")["database_upgrade"] == {"from": "16", "to": "18"}
    assert person.says("apply", "--yes").code == 0
    assert database_of(person) == "18"
    assert learned(person, "plan")["changes"] == []


def test_an_older_version_than_the_deployed_one_is_refused(owner: Person) -> None:
    changed_settings(owner, MBD_DATABASE_VERSION="17")
    for command in ("plan", "apply"):
        said = owner.says(command, "--yes")
        assert said.code == 2
        assert "MBD_DATABASE_VERSION is 17, but the database has PostgreSQL 18" in said.err


def test_an_unknown_database_version_is_refused(person: Person) -> None:
    changed_settings(person, MBD_DATABASE_VERSION="13")
    assert "MBD_DATABASE_VERSION is '13'. Set it to one of 14, 15" in person.says("plan").err


def subscribed(person: Person) -> dict[str, str]:
    """Who is subscribed, with the subscription's ARN."""
    found = person.client("sns").list_subscriptions()["Subscriptions"]
    return {one["Endpoint"]: one["SubscriptionArn"] for one in found}


def test_apply_subscribes_again_whom_sns_has_dropped_and_only_then_mentions_a_mail(owner: Person) -> None:
    assert "AWS has just sent" not in owner.says("apply", "--yes").out
    owner.client("sns").unsubscribe(SubscriptionArn=subscribed(owner)["ada@example.org"])
    code, found = findings(owner)
    assert (code, found["mails"][0]) == (1, "error")
    assert "ada@example.org: not subscribed" in found["mails"][1]
    said = owner.says("apply", "--yes").out
    assert "AWS has just sent a mail to ada@example.org: click the link in it to confirm." in said
    assert set(subscribed(owner)) == {"ada@example.org"}
    assert findings(owner)[1]["mails"] == ("ok", "1 confirmed")


def test_apply_subscribes_again_to_the_alarms_whom_sns_has_dropped(owner: Person) -> None:
    sns = owner.client("sns")
    assert learned(owner, "apply", "--yes")["asked_to_confirm_alarms"] == []  # the trigger is not deployed
    template = {"Resources": {"W": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": f"{PREFIX}-alarms"}}}}
    owner.client("cloudformation").create_stack(StackName=f"{PREFIX}-trigger", TemplateBody=json.dumps(template))
    assert findings(owner)[1]["alarms"] == (
        "warning", "ada@example.org: not subscribed (SNS drops who does not confirm in 48 h). Run apply."
    )  # fmt: skip
    said = owner.says("apply", "--yes").out
    assert "AWS has just sent a mail about the alarms to ada@example.org: click the link in it to confirm." in said
    [arn] = [one["TopicArn"] for one in sns.list_topics()["Topics"] if one["TopicArn"].endswith("-alarms")]
    assert [one["Endpoint"] for one in sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]] == [
        "ada@example.org"
    ]
    assert findings(owner)[1]["alarms"] == ("ok", "1 confirmed")
    assert "AWS has just sent" not in owner.says("apply", "--yes").out


def test_the_first_apply_mentions_the_mail_that_the_stack_asked_for(person: Person) -> None:
    assert (
        "AWS has just sent a mail to ada@example.org: click the link in it to confirm.\n"
        in person.says("apply", "--yes").out
    )
    assert set(subscribed(person)) == {"ada@example.org"}


def test_check_misses_the_marking_address_in_profile_course(person: Person) -> None:
    changed_settings(person, MBD_PROFILE="course")
    assert person.says("apply", "--yes").code == 0
    assert findings(person)[1]["mails"][0] == "ok"
    person.client("sns").unsubscribe(SubscriptionArn=subscribed(person)["marking@example.org"])
    assert "marking@example.org: not subscribed" in findings(person)[1]["mails"][1]


def test_check_reports_somebody_who_gets_the_mails_but_is_not_in_env(owner: Person) -> None:
    [topic] = owner.client("sns").list_topics()["Topics"]
    owner.client("sns").subscribe(TopicArn=topic["TopicArn"], Protocol="email", Endpoint="eve@example.org")
    level, text = findings(owner)[1]["mails"]
    assert (level, text.partition(" ")[0]) == ("warning", "eve@example.org")


# apply, to a deployed platform


def openness(person: Person) -> dict[str, Any]:
    """What a profile opens, read back from each service."""
    ec2, iam = person.client("ec2"), person.client("iam")
    [group] = ec2.describe_security_groups(GroupNames=[f"{PREFIX}-security-group"])["SecurityGroups"]
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group["GroupId"]]}])
    from_whom = [
        (rule["IpProtocol"], rule.get("FromPort") if rule["IpProtocol"] != "-1" else None, rule["CidrIpv4"])
        for rule in rules["SecurityGroupRules"]
        if not rule["IsEgress"] and "CidrIpv4" in rule
    ]
    role = iam.get_role(RoleName=f"{PREFIX}-ec2-role")["Role"]["AssumeRolePolicyDocument"]["Statement"][0]
    attached = iam.list_attached_role_policies(RoleName=f"{PREFIX}-ec2-role")["AttachedPolicies"]
    return {
        "rules": sorted(from_whom, key=str),
        "out": [
            (rule["IpProtocol"], rule.get("CidrIpv4") or rule["CidrIpv6"])
            for rule in rules["SecurityGroupRules"]
            if rule["IsEgress"]
        ],
        "policies": sorted(one["PolicyName"] for one in attached),
        "principals": role["Principal"]["Service"],
        "mails": sorted(subscribed(person)),
    }


def test_into_profile_course_and_back_leaves_nothing_open(owner: Person) -> None:
    sound, env, secrets = openness(owner), owner.env_file.read_text(), parameters_of(owner)
    changed_settings(owner, MBD_PROFILE="course")
    assert owner.says("apply", "--yes").code == 0
    course = openness(owner)
    assert course["rules"] == [("-1", None, WORLD), ("tcp", 22, "192.31.196.7/32"), ("tcp", 5432, WORLD)]
    assert course["policies"] == ["AmazonRDSDataFullAccess", "AmazonS3FullAccess", "AmazonSNSFullAccess"]
    assert course["principals"] == ["rds.amazonaws.com", "ec2.amazonaws.com"]
    assert course["out"] == [("tcp", "0.0.0.0/0"), ("tcp", "::/0")]
    assert course["mails"] == ["ada@example.org", "marking@example.org"]

    changed_settings(owner, MBD_PROFILE="default")
    back = owner.says("apply", "--yes")
    assert back.code == 0, back.err
    assert "The monitored bucket stays open to the world until the trigger is deployed again" in back.out
    assert openness(owner) == sound
    assert {one[2] for one in sound["rules"]} == {"192.31.196.7/32"}
    assert learned(owner, "plan")["changes"] == []
    assert parameters_of(owner) == secrets
    assert set(owner.env_file.read_text().splitlines()) == {*env.splitlines(), "MBD_PROFILE=default"}


def test_a_new_address_of_mine_replaces_the_old_one(owner: Person) -> None:
    changed_settings(owner, MBD_MY_ADDRESS="192.31.196.9/32")
    assert owner.says("apply", "--yes").code == 0
    assert openness(owner)["rules"] == [("tcp", 22, "192.31.196.9/32"), ("tcp", 5432, "192.31.196.9/32")]


# stop, start


def test_stop_and_start_again_each_twice(owner: Person) -> None:
    for _ in range(2):
        stopped = learned(owner, "stop", "--yes")
        assert (stopped["instance"], stopped["database"]) == ("stopped", "stopped")
        assert stopped["database_starts_itself"]
    assert "A marker wakes the instance but not the database" in owner.says("stop", "--yes").out
    assert "AWS starts it again on 20" in owner.says("status").out
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
    run_id, began = "marker_2026-11-20T10:00:00Z_bf21d8ee1c_e83b6ecd", datetime(2026, 11, 20, 10, tzinfo=UTC)
    rows = RowCounts(read=1234, accepted=1234, inserted=1234, deleted=0, unchanged=0)
    receipt = Receipt(run_id=run_id, state=State.SUCCESS, started_at=began, rows=rows)
    s3.put_object(Bucket=BUCKET, Key=f"Output/receipts/{run_id}.json", Body=receipt.to_json().encode())
    status = learned(owner, "status")
    assert {one["state"] for one in status["runs"]} == {"success", "unreadable"}
    assert status["subscriptions"] == [{"address": "ada@example.org", "state": "confirmed"}]
    [stack, *_] = [
        one for one in owner.client("cloudformation").describe_stacks()["Stacks"] if "platform" in one["StackName"]
    ]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    where = f"{outputs['DatabaseName']} at {outputs['DatabaseHost']}:{outputs['DatabasePort']}"
    said = owner.says("status").out
    assert f"2026-11-20 10:00:00 success, 1,234 rows inserted ({run_id})" in said
    assert where in said
    assert (status["database_host"], status["database_port"]) == (outputs["DatabaseHost"], int(outputs["DatabasePort"]))
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


def test_teardown_loses_no_data_without_a_second_confirmation(data: Person) -> None:
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
    assert [line[4:35].rstrip() for line in ticked] == [
        "trigger's stack", *BRIEF["clean_up"], "log group", "EBS volume", "Elastic IP", "security group", "IAM role",
        "database's secret", "SSM parameters", "platform's stack",
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


def test_teardown_takes_out_of_env_what_apply_wrote_and_nothing_else(data: Person) -> None:
    written = data.env_file.read_text()
    assert {"MBD_TOPIC_ARN", "MBD_INSTANCE_ID", "MBD_TRANSPORT", "AIRFLOW_URL"} <= read_file(data.env_file).keys()
    data.env_file.write_text(f"# mine\nAIRFLOW_ADMIN_PASSWORD=kept\n{written}")
    said = data.says("teardown", "--yes", "--delete-data")
    assert data.env_file.read_text().startswith("# mine\nAIRFLOW_ADMIN_PASSWORD=kept\n")
    assert read_file(data.env_file) == {"AIRFLOW_ADMIN_PASSWORD": "kept", **data.settings}
    assert "removed MBD_TOPIC_ARN, MBD_INSTANCE_ID, AIRFLOW_URL, MBD_TRANSPORT, which apply had written" in said.err
    data.env_file.write_text("AIRFLOW_URL=https://192.31.196.7:8080\nMBD_TRANSPORT=http\n" + data.env_file.read_text())
    assert data.says("teardown", "--yes", "--delete-data").code == 0
    assert read_file(data.env_file)["MBD_TRANSPORT"] == "http", "which somebody chose"


def test_teardown_keeps_the_final_snapshot_unless_asked(data: Person) -> None:
    said = data.says("teardown", "--yes", "--delete-data")
    snapshots = data.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert [one["DBSnapshotIdentifier"] in said.out for one in snapshots] == [True]
    asked = data.says("teardown", "--delete-snapshots")
    assert (asked.code, "The database's snapshots go too, the last copies of its rows." in asked.err) == (1, True)
    assert data.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"] == snapshots
    assert data.says("teardown", "--yes", "--delete-snapshots").code == 0
    assert data.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"] == []


def test_teardown_neither_names_nor_deletes_snapshots_of_other_databases(owner: Person) -> None:
    rds = owner.client("rds")
    for database in (f"{PREFIX}-rds", "somebody-elses"):
        if database == "somebody-elses":
            rds.create_db_instance(DBInstanceIdentifier=database, DBInstanceClass="db.t3.micro", Engine="postgres")
        rds.create_db_snapshot(DBSnapshotIdentifier=f"kept-of-{database}", DBInstanceIdentifier=database)
    said = owner.says("teardown", "--yes", "--delete-data")
    assert f"kept-of-{PREFIX}-rds" in said.out
    assert "somebody-elses" not in said.out
    assert owner.says("teardown", "--yes", "--delete-snapshots").code == 0
    left = rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert [one["DBSnapshotIdentifier"] for one in left] == ["kept-of-somebody-elses"]


def test_teardown_with_its_snapshots_takes_the_final_one_too(data: Person) -> None:
    assert data.says("teardown", "--yes", "--delete-data", "--delete-snapshots").code == 0
    assert data.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"] == []


def test_what_belongs_to_no_stack_fails_teardown_and_env_stays(owner: Person) -> None:
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": f"{PREFIX}-ec2"}]}]
    ec2, before = owner.client("ec2"), owner.env_file.read_text()
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=30, TagSpecifications=tags)["VolumeId"]
    said = owner.says("teardown", "--yes", "--delete-data")
    assert (said.code, f"[ ] EBS volume                     {volume}" in said.out) == (1, True)
    assert "What is left belongs to no stack. Remove it in the console" in said.err
    assert owner.env_file.read_text() == before


def test_the_database_alone_is_data_that_yes_does_not_give_up(owner: Person) -> None:
    owner.client("s3").delete_bucket(Bucket=BUCKET)
    assert owner.says("teardown", "--yes").code == 1
    assert stacks_of(owner) == [STACK]


def test_a_second_teardown_finds_nothing_and_succeeds(owner: Person) -> None:
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


def test_teardown_finds_the_log_group_that_a_late_invocation_made_again(owner: Person) -> None:
    logs = owner.client("logs")
    for name in (f"/aws/lambda/{PREFIX}-watchdog", "/aws/lambda/somebody-elses"):
        logs.create_log_group(logGroupName=name)
    left = learned(owner, "teardown", "--dry-run")["left"]
    assert left["log group"] == [f"/aws/lambda/{PREFIX}-watchdog"]
    assert owner.says("teardown", "--yes", "--delete-data").code == 0
    assert [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]] == ["/aws/lambda/somebody-elses"]


def test_teardown_leaves_logs_and_functions_of_others_whose_name_goes_on(owner: Person) -> None:
    others = [f"{PREFIX}-wong-trigger", f"{PREFIX}-wong-watchdog-dev", f"{PREFIX}-trigger-report", f"{PREFIX}s-trigger"]
    logs = owner.client("logs")
    for name in (*others, f"{PREFIX}-report-dev"):
        logs.create_log_group(logGroupName=f"/aws/lambda/{name}")
    make_functions(owner, *others)
    assert learned(owner, "teardown", "--dry-run")["left"]["log group"] == [f"/aws/lambda/{PREFIX}-report-dev"]
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 0, said.out
    kept = [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]]
    assert kept == sorted(f"/aws/lambda/{name}" for name in others)


def test_teardown_finds_its_functions_in_every_stage(owner: Person) -> None:
    mine = [f"{PREFIX}-redrive", f"{PREFIX}-trigger-dev"]
    make_functions(owner, *mine, f"{PREFIX}-li-trigger")
    assert learned(owner, "teardown", "--dry-run")["left"]["event-based Lambda function"] == mine


def make_functions(person: Person, *names: str) -> None:
    assumed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [assumed]})
    role = person.client("iam").create_role(RoleName="theirs", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    for name in names:
        person.client("lambda").create_function(
            FunctionName=name, Runtime="python3.13", Handler="h.h", Role=role, Code={"ZipFile": b"x"}
        )


def test_teardown_waits_for_the_trigger_of_every_stage(owner: Person) -> None:
    cloudformation = owner.client("cloudformation")
    for name, bucket in (("-trigger-dev", "-monitored-bucket-dev"), ("-wong-trigger", "-wong-monitored-bucket")):
        template = {"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": PREFIX + bucket}}}}
        cloudformation.create_stack(StackName=PREFIX + name, TemplateBody=json.dumps(template))
        owner.client("s3").put_object(Bucket=PREFIX + bucket, Key="a.SUCCESS", Body=b"")
    assert learned(owner, "teardown", "--dry-run")["left"]["trigger's stack"] == [
        f"{PREFIX}-trigger-dev (CREATE_COMPLETE)"
    ]
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 1
    assert "Run `make undeploy STAGE=dev`, then teardown again" in said.err
    assert owner.client("s3").list_objects_v2(Bucket=f"{PREFIX}-monitored-bucket-dev")["KeyCount"] == 0
    assert owner.client("rds").describe_db_instances()["DBInstances"]
    cloudformation.delete_stack(StackName=f"{PREFIX}-trigger-dev")
    assert owner.says("teardown", "--yes", "--delete-data").code == 0
    assert stacks_of(owner) == [f"{PREFIX}-wong-trigger"]
    assert owner.client("s3").list_objects_v2(Bucket=f"{PREFIX}-wong-monitored-bucket")["KeyCount"] == 1


def test_teardown_waits_for_the_trigger_to_be_removed(owner: Person) -> None:
    monitored = f"{PREFIX}-monitored-bucket"
    template = {"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": monitored}}}}
    cloudformation = owner.client("cloudformation")
    cloudformation.create_stack(StackName=f"{PREFIX}-trigger", TemplateBody=json.dumps(template))
    owner.client("s3").put_object(Bucket=monitored, Key="a.SUCCESS", Body=b"")
    owner.client("s3").create_multipart_upload(Bucket=monitored, Key="half.SUCCESS")
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 1
    assert "make undeploy" in said.err
    assert owner.client("s3").list_objects_v2(Bucket=monitored)["KeyCount"] == 0
    assert "Uploads" not in owner.client("s3").list_multipart_uploads(Bucket=monitored)
    assert owner.client("rds").describe_db_instances()["DBInstances"]
    cloudformation.delete_stack(StackName=f"{PREFIX}-trigger")
    assert owner.says("teardown", "--yes", "--delete-data").code == 0


# check


def findings(person: Person) -> tuple[int, dict[str, tuple[str, str]]]:
    said = person.says("check", "--json")
    return said.code, {one["what"]: (one["level"], one["text"]) for one in json.loads(said.out)["findings"]}


def test_check_of_a_sound_platform_finds_no_error(owner: Person) -> None:
    code, found = findings(owner)
    assert code == 0
    assert {what for what, (level, _) in found.items() if level == "ok"} >= {
        "names", "login", "region", "platform", "profile", "open ports", "mails", "secrets", "database",
    }  # fmt: skip


def test_check_before_the_first_apply_looks_at_the_account(person: Person) -> None:
    code, found = findings(person)
    assert (code, found["platform"][0], found["network"][0], found["Elastic IPs"][0]) == (0, "warning", "ok", "ok")
    assert found["instance"] == ("ok", "eu-west-1 has t2.medium")
    assert found["vCPUs"] == ("ok", "t2.medium needs 2; the quota for standard instances is 5")
    person.settings["MBD_KEY_NAME"] = "nobodys"
    person.write_settings()
    for _ in range(5):
        person.client("ec2").allocate_address(Domain="vpc")
    code, found = findings(person)
    assert (code, found["key pair"][0], found["Elastic IPs"][0]) == (1, "error", "error")


def test_check_notices_a_port_that_somebody_opened(owner: Person) -> None:
    [group] = owner.client("ec2").describe_security_groups(GroupNames=[f"{PREFIX}-security-group"])["SecurityGroups"]
    owner.client("ec2").authorize_security_group_ingress(
        GroupId=group["GroupId"], IpProtocol="tcp", FromPort=8080, ToPort=8080, CidrIp="0.0.0.0/0"
    )
    code, found = findings(owner)
    assert (code, found["open ports"][0]) == (1, "error")
    assert "8080" in found["open ports"][1]


def test_check_compares_the_instance_type_with_the_region_and_the_quota(person: Person) -> None:
    changed_settings(person, AWS_REGION="eu-north-1")  # it has t3, and no t2
    code, found = findings(person)
    assert (code, found["instance"]) == (
        1,
        ("error", "eu-north-1 has no t2.medium. Set MBD_INSTANCE_TYPE, say to t3.medium."),
    )
    assert "vCPUs" not in found
    changed_settings(person, MBD_INSTANCE_TYPE="t3.2xlarge")
    found = findings(person)[1]
    assert (found["instance"][0], found["vCPUs"][0]) == ("ok", "warning")  # AWS does not report the quota there
    changed_settings(person, AWS_REGION=REGION)
    assert findings(person)[1]["vCPUs"] == (
        "error",
        "t3.2xlarge needs 8; the quota for standard instances is 5. Request more in Service Quotas.",
    )


LATER = f"{date.today() + timedelta(days=3)}"
OVER = "2026-01-31"


@pytest.mark.parametrize(
    ("wanted", "expires", "levels"),
    [
        ("course", LATER, {"profile": "warning", "open ports": "warning", "markers": "warning"}),
        ("default", LATER, {"profile": "warning", "open ports": "error", "markers": "error"}),
        ("course", OVER, {"profile": "error", "open ports": "error", "markers": "error"}),
        ("default", OVER, {"profile": "error", "open ports": "error", "markers": "error"}),
    ],
)
def test_what_is_open_longer_than_profile_course_allows_is_an_error(
    wanted: str, expires: str, levels: dict[str, str], person: Person
) -> None:
    changed_settings(person, MBD_PROFILE="course")
    assert person.says("apply", "--yes", "--course-expires", expires).code == 0
    make_monitored_bucket(person, is_open=True)
    changed_settings(person, MBD_PROFILE=wanted)
    code, found = findings(person)
    assert {what: found[what][0] for what in levels} == levels
    assert code == int("error" in levels.values())
    assert "5432" in found["open ports"][1]
    if expires == OVER:
        assert OVER in found["profile"][1]


def make_monitored_bucket(person: Person, *, is_open: bool) -> None:
    """As the trigger's stack has it in the two profiles."""
    s3, bucket = person.client("s3"), f"{PREFIX}-monitored-bucket"
    resource = f"arn:aws:s3:::{bucket}/*"
    tls = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": resource,
           "Condition": {"Bool": {"aws:SecureTransport": "false"}}}  # fmt: skip
    everyone = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": resource}
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    policy = {"Version": "2012-10-17", "Statement": [tls, everyone] if is_open else [tls]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    kinds = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(kinds, not is_open))


def test_check_notices_a_bucket_of_markers_that_profile_course_left_open(owner: Person) -> None:
    assert "markers" not in findings(owner)[1]  # there is no bucket yet
    make_monitored_bucket(owner, is_open=True)
    code, found = findings(owner)
    assert (code, found["markers"][0]) == (1, "error")
    assert "`make deploy` closes it; `apply` does not" in found["markers"][1]


def test_check_accepts_a_closed_bucket_of_markers_but_warns_without_the_block(owner: Person) -> None:
    make_monitored_bucket(owner, is_open=False)
    assert findings(owner)[1]["markers"][0] == "ok"
    s3, bucket = owner.client("s3"), f"{PREFIX}-monitored-bucket"
    s3.delete_public_access_block(Bucket=bucket)
    assert findings(owner)[1]["markers"][0] == "warning"
    s3.delete_bucket_policy(Bucket=bucket)
    assert findings(owner)[1]["markers"][0] == "warning"


@pytest.mark.parametrize(
    ("name", "level", "words"),
    [
        ("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20261001", "ok", "Ubuntu 24.04 ("),
        (
            "ubuntu/images/hvm-ssd/ubuntu-trusty-14.04-amd64-server-20170727",
            "warning",
            "its end of support is not known",
        ),
        ("the-course-image", "warning", "(the-course-image): its end of support is not known here"),
        ("", "warning", "AWS does not show it"),
    ],
)
def test_check_says_of_the_image_what_aws_knows(name: str, level: str, words: str, person: Person) -> None:
    ec2 = person.client("ec2")
    image_id = ec2.register_image(Name=name or "gone")["ImageId"]
    changed_settings(person, MBD_IMAGE_ID=image_id)
    assert person.says("apply", "--yes").code == 0
    if not name:
        ec2.deregister_image(ImageId=image_id)
    found = findings(person)[1]["image"]
    assert found[0] == level
    assert words in found[1]
    assert image_id in found[1]


def test_check_notices_missing_secrets_and_a_stopped_instance(owner: Person) -> None:
    owner.client("ssm").delete_parameter(Name=f"/{PREFIX}/airflow/jwt-secret")
    learned(owner, "stop", "--yes")
    code, found = findings(owner)
    assert code == 1
    assert found["secrets"] == (
        "error",
        f"Missing under /{PREFIX}/airflow/: jwt-secret. Run apply, which creates them.",
    )
    assert (found["Airflow"][0], found["database"][0]) == ("warning", "warning")


# logins that do not work


@pytest.fixture
def guarded(person: Person) -> Iterator[Person]:
    """From here on the account asks every caller for permission."""
    yield person
    unguard(person)


def guard(person: Person) -> None:
    server = person.login["AWS_ENDPOINT_URL"]
    requests.post(f"{server}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()


@pytest.mark.parametrize("command", ["plan", "apply", "status", "stop", "start", "teardown", "check", "resources-csv"])
def test_a_wrong_login_is_reported_as_such(command: str, guarded: Person) -> None:
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


def without(person: Person, *actions: str) -> dict[str, str]:
    """The login of somebody who may do everything but this; from here on the account asks for permission."""
    iam = person.client("iam")
    iam.create_user(UserName="intern")
    key = iam.create_access_key(UserName="intern")["AccessKey"]
    statements = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": list(actions), "Resource": "*"},
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName="intern", PolicyName="p", PolicyDocument=document)
    guard(person)
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def unguard(person: Person) -> None:
    server = person.login["AWS_ENDPOINT_URL"]
    requests.post(f"{server}/moto-api/reset-auth", data="Infinity", timeout=10).raise_for_status()


@pytest.mark.parametrize(
    "action", ["cloudformation:CreateChangeSet", "ssm:PutParameter", "cloudformation:ExecuteChangeSet"]
)
def test_apply_refused_half_way_names_the_permission_and_a_second_one_finishes(action: str, guarded: Person) -> None:
    said = guarded.says("apply", "--yes", **without(guarded, action))
    assert said.code == 3
    assert f"your AWS login may not do {action}" in said.err
    unguard(guarded)
    assert stacks_of(guarded) == []  # the change set was discarded
    again = guarded.says("apply", "--yes")
    assert again.code == 0, again.err
    assert guarded.client("rds").describe_db_instances()["DBInstances"]
    assert len(parameters_of(guarded)) == 7
    assert "MBD_INSTANCE_ID=i-" in guarded.env_file.read_text()


def test_apply_that_may_not_subscribe_says_so_and_a_second_one_finishes(guarded: Person) -> None:
    assert guarded.says("apply", "--yes").code == 0
    guarded.client("sns").unsubscribe(SubscriptionArn=subscribed(guarded)["ada@example.org"])
    said = guarded.says("apply", "--yes", **without(guarded, "sns:Subscribe"))
    assert said.code == 3
    assert "may not do sns:Subscribe" in said.err
    unguard(guarded)
    assert "just sent a mail to ada@example.org" in guarded.says("apply", "--yes").out


def test_teardown_without_the_right_to_unprotect_loses_nothing_and_can_be_repeated(guarded: Person) -> None:
    assert guarded.says("apply", "--yes").code == 0
    said = guarded.says("teardown", "--yes", "--delete-data", **without(guarded, "rds:ModifyDBInstance"))
    assert said.code == 3
    assert "may not do rds:ModifyDBInstance" in said.err
    unguard(guarded)
    assert guarded.client("rds").describe_db_instances()["DBInstances"][0]["DeletionProtection"] is True
    assert stacks_of(guarded) == [STACK]
    again = guarded.says("teardown", "--yes", "--delete-data")
    assert again.code == 0, again.err
    assert stacks_of(guarded) == []


def test_a_missing_login_is_a_settings_error(person: Person) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del person.login[name]
    said = person.says("plan")
    assert said.code == 2
    assert "no AWS login was found. Run `aws configure`" in said.err


def test_a_login_and_an_endpoint_that_env_alone_has_count_and_those_of_the_shell_come_first(person: Person) -> None:
    person.settings |= {name: person.login.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    person.settings["AWS_ENDPOINT_URL"] = endpoint = person.login.pop("AWS_ENDPOINT_URL")
    person.write_settings()
    assert "There is no platform yet" in person.says("status").err
    changed_settings(person, AWS_ENDPOINT_URL=f"http://{HOST}:{free_port()}")
    assert "There is no platform yet" in person.says("status", AWS_ENDPOINT_URL=endpoint).err
    assert person.says("status", AWS_MAX_ATTEMPTS="1").code == 3


def test_an_unknown_aws_profile_is_a_settings_error(person: Person) -> None:
    said = person.says("plan", AWS_PROFILE="nobodys")
    assert said.code == 2
    assert "Fix AWS_PROFILE" in said.err


def test_no_network_is_reported_as_such(person: Person) -> None:
    said = person.says("plan", AWS_ENDPOINT_URL=f"http://{HOST}:{free_port()}", AWS_MAX_ATTEMPTS="1")
    assert said.code == 3
    assert "AWS cannot be reached" in said.err


def test_an_invalid_region_is_reported_before_aws_is_asked(person: Person) -> None:
    person.settings["AWS_REGION"] = "Ireland"
    person.write_settings()
    said = person.says("plan")
    assert said.code == 2
    assert "AWS_REGION is 'Ireland'" in said.err
    assert REGION in said.err
