"""Profile course as `apply` and `upload` deploy it, compared with the course's brief (tests/data/brief.json).

The rest of the brief: test_scripts_folder.py (mount), test_instance_env.py (logs), test_platform_commands.py
(clean-up), tests/etl/integration/test_database_schema.py (table), tests/trigger/deploy/test_deployed_course.py
(monitored bucket).
"""

from __future__ import annotations

from typing import Any

import pytest
import requests

import etl.data_processing
from etl.outcome.mail import Mailbox
from infra_scripts.commands.upload import COURSE_FILES
from tests.support.brief import BRIEF
from tests.support.paths import SAMPLE
from tests.support.person import LOGIN, SETTINGS, Person

NAMES = BRIEF["names"]


@pytest.fixture(scope="module")
def student(aws_server: str, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody who set nothing but what `init` asks for and the profile."""
    requests.post(f"{aws_server}/moto-api/reset", timeout=30).raise_for_status()
    somebody = Person(tmp_path_factory.mktemp("student"), {**LOGIN, "AWS_ENDPOINT_URL": aws_server})
    asked = ("MBD_FIRST_NAME", "MBD_LAST_NAME", "AWS_REGION", "MBD_EMAIL", "MBD_MY_ADDRESS")
    somebody.settings = {name: SETTINGS[name] for name in asked} | {"MBD_PROFILE": "course"}
    somebody.write_settings()
    planned = somebody.types("plan").stderr
    assert planned.count(f"The instance gets the brief's image {BRIEF['instance']['ImageId']}.") == 1, planned
    somebody.succeeds("apply", "--yes")
    somebody.succeeds("upload", str(SAMPLE))
    return somebody


def rules_of(student: Person) -> tuple[str, list[dict[str, Any]]]:
    ec2 = student.client("ec2")
    [group] = [one for one in ec2.describe_security_groups()["SecurityGroups"] if one["GroupName"] != "default"]
    filters = [{"Name": "group-id", "Values": [group["GroupId"]]}]
    return group["GroupId"], ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]


def test_names_are_the_briefs(student: Person) -> None:
    buckets = {one["Name"] for one in student.client("s3").list_buckets()["Buckets"]}
    assert buckets == {NAMES["source_bucket"]}
    [topic] = student.client("sns").list_topics()["Topics"]
    assert topic["TopicArn"].rpartition(":")[2] == NAMES["topic"]
    mailbox = Mailbox("arn", "Ada", "Lovelace")
    assert [mailbox.subject(success=True), mailbox.subject(success=False)] == [NAMES["success"], NAMES["failure"]]


def test_source_bucket_holds_what_the_brief_wants_there(student: Person) -> None:
    listed = student.client("s3").list_objects_v2(Bucket=NAMES["source_bucket"])["Contents"]
    keys = [one["Key"] for one in listed]
    wanted = BRIEF["source_bucket"]
    assert {key.partition("/")[0] + "/" for key in keys} == set(wanted["folders"]) <= set(keys)
    assert {wanted["company_index"], wanted["insert_query"]} <= set(keys)
    scripts = {key.rpartition(".")[2] for key in keys if key.startswith("Scripts/")}
    assert {"py", "sh", "sql"} <= scripts
    assert wanted["company_files"] == COURSE_FILES
    assert [name for name in BRIEF["functions"] if not callable(getattr(etl.data_processing, name))] == []


def test_inbound_rules_are_the_briefs_four(student: Person) -> None:
    group, rules = rules_of(student)
    names = {SETTINGS["MBD_MY_ADDRESS"]: "my address", group: "the security group"}

    def place(rule: dict[str, Any]) -> str:
        source = rule.get("CidrIpv4") or rule["ReferencedGroupInfo"]["GroupId"]
        return names.get(source, source)

    inbound = [
        {"protocol": rule["IpProtocol"], "ports": [rule["FromPort"], rule["ToPort"]], "from": place(rule)}
        for rule in rules
        if not rule["IsEgress"]
    ]
    assert sorted(inbound, key=str) == sorted(BRIEF["inbound"], key=str)


def test_outbound_rules_are_the_briefs_two(student: Person) -> None:
    outbound = [
        {
            "protocol": rule["IpProtocol"],
            "ports": [rule["FromPort"], rule["ToPort"]],
            "to": rule.get("CidrIpv4") or rule["CidrIpv6"],
        }
        for rule in rules_of(student)[1]
        if rule["IsEgress"]
    ]
    assert outbound == BRIEF["outbound"]


def test_role_has_the_briefs_policies_and_principals(student: Person) -> None:
    iam = student.client("iam")
    [role] = iam.list_roles()["Roles"]
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"]["Service"] == BRIEF["role"]["trust"]
    attached = iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
    assert {one["PolicyName"] for one in attached} == set(BRIEF["role"]["managed_policies"])


def test_database_is_the_briefs(student: Person) -> None:
    [database] = student.client("rds").describe_db_instances()["DBInstances"]
    assert {name: database.get(name) for name in BRIEF["database"]} == BRIEF["database"]
    group, _ = rules_of(student)
    assert [one["VpcSecurityGroupId"] for one in database["VpcSecurityGroups"]] == [group]


def test_instance_is_the_briefs_with_a_static_address(student: Person) -> None:
    ec2 = student.client("ec2")
    [reservation] = ec2.describe_instances()["Reservations"]
    [instance] = reservation["Instances"]
    wanted = BRIEF["instance"]
    assert (instance["ImageId"], instance["InstanceType"]) == (wanted["ImageId"], wanted["InstanceType"])
    assert instance["Placement"]["AvailabilityZone"].startswith(wanted["region"])
    [volume] = ec2.describe_volumes()["Volumes"]
    assert volume["Size"] == wanted["disk"]
    [address] = ec2.describe_addresses()["Addresses"]
    assert address["InstanceId"] == instance["InstanceId"]
    header, row = student.succeeds("resources-csv").splitlines()
    assert header == BRIEF["resource_list"]
    names = [NAMES[name] for name in ("source_bucket", "monitored_bucket", "topic")]
    assert row.split(",") == ["Ada", "Lovelace", *names, address["PublicIp"]]


def test_mails_go_to_the_person_and_to_the_marking_address(student: Person) -> None:
    found = student.client("sns").list_subscriptions()["Subscriptions"]
    addresses = [SETTINGS["MBD_EMAIL"] if one == "mine" else one for one in BRIEF["mails"]["addresses"]]
    assert {(one["Protocol"], one["Endpoint"]) for one in found} == {
        (BRIEF["mails"]["protocol"], address) for address in addresses
    }
