"""Walks platform.yml in each profile: whatever is open, unencrypted or broad is in a list, with its reason."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra_scripts.platform import template
from infra_scripts.platform.course_profile import COURSE_SWITCHES, IMAGE, describe_image
from tests.support.template_reader import read, resolved

PREFIX = "de-mbd-predict-ada-lovelace"
COMMON = {
    "Prefix": PREFIX, "FirstName": "Ada", "LastName": "Lovelace", "Email": "ada@example.org",
    "MyAddress": "203.0.113.7/32",
}  # fmt: skip
PARAMETERS = {
    "default": {**COMMON, "Profile": "default", "DatabaseVersion": template.DATABASE_VERSION["default"]},
    "course": {
        **COMMON,
        "Profile": "course",
        "DatabaseVersion": template.DATABASE_VERSION["course"],
        "MarkingEmail": "marking@example.org",
    },
}

# Broad, and meant so in both profiles.
REASONS = {
    "Role: TakeAndAnswerCommands on *": "the actions of Systems Manager's message channels know no resource",
    "Role: TellThatItIsThere on instance/*": "the role cannot name the instance, which is made with it",
    "Role: PutTheMetrics on *": "the action knows no resource; its condition allows only namespaces of this platform",
    "Database: has a public address": "init-db and psql come from my address, which the security group lets in",
}

# What the course's brief asks for, and nothing else. One more item of it, the public policy of the monitored bucket, is
# in the trigger's stack and not in this template: tests/trigger/integration/test_serverless_package.py has
# test_course_profile_opens_the_monitored_bucket_and_says_so.
BRIEF = {
    "CoursePostgres: 5432 open to the world",
    "CourseEverything: all ports open to the world",
    "Role: managed policy AmazonS3FullAccess",
    "Role: managed policy AmazonSNSFullAccess",
    "Role: managed policy AmazonRDSDataFullAccess",
    "Role: may be taken by rds.amazonaws.com",
    "Database: PostgreSQL 14 is not the newest",
    "Topic: marking@example.org gets the mails",
}


@pytest.fixture(scope="module")
def platform() -> dict[str, Any]:
    return read(template.render())


def findings(platform: dict[str, Any], *, profile: str) -> set[str]:
    resources = resolved(platform, parameters=PARAMETERS[profile])
    return {
        f"{name}: {text}"
        for name, resource in resources.items()
        for text in _RULES.get(resource["Type"], _unknown)(resource.get("Properties", {}), platform)
    }


def _role(role: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    for policy in role["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            for action in _list(statement["Action"]):
                if "*" in action:
                    yield f"{statement['Sid']} does {action}"
            for place in _list(statement["Resource"]):
                if isinstance(place, str) and PREFIX not in place:  # else a reference to a resource of the template
                    yield f"{statement['Sid']} on {place.rpartition(':')[2]}"
    for arn in role.get("ManagedPolicyArns", []):
        yield f"managed policy {arn.rpartition('/')[2]}"
    for statement in role["AssumeRolePolicyDocument"]["Statement"]:
        for service in statement["Principal"]["Service"]:
            if service != "ec2.amazonaws.com":
                yield f"may be taken by {service}"


def _ingress(rule: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    if rule.get("CidrIp") == "0.0.0.0/0" or "CidrIpv6" in rule:
        ports = "all ports" if rule["IpProtocol"] == "-1" else rule["FromPort"]
        yield f"{ports} open to the world"
    elif "CidrIp" in rule and rule["CidrIp"] != COMMON["MyAddress"]:
        yield f"open to {rule['CidrIp']}"
    if rule.get("FromPort") != rule.get("ToPort") or rule.get("FromPort") not in {22, 5432, None}:
        yield f"ports {rule.get('FromPort')} to {rule.get('ToPort')} are not in the brief"


def _group(group: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    if "SecurityGroupIngress" in group:
        yield "has rules of its own, which no other rule here looks at"


def _bucket(bucket: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    if "BucketEncryption" not in bucket:
        yield "is not encrypted"
    if bucket.get("VersioningConfiguration") != {"Status": "Enabled"}:
        yield "keeps no versions"
    if list(bucket.get("PublicAccessBlockConfiguration", {}).values()) != [True] * 4:
        yield "can be made public"


def _bucket_policy(policy: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    statements = policy["PolicyDocument"]["Statement"]
    for statement in statements:
        if statement["Effect"] == "Allow" and "*" in str(statement["Principal"]):
            yield f"{statement['Sid']} lets anybody in"
    if not any("aws:SecureTransport" in str(statement.get("Condition")) for statement in statements):
        yield "lets plain HTTP in"
    code = [one for one in statements if one["Effect"] == "Deny" and str(one["Resource"]).endswith("/Scripts/*")]
    if not any("s3:PutObject" in one["Action"] and "ArnNotLike" in one["Condition"] for one in code):
        yield "lets everybody who may write files put code"


def _database(database: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    newest = max(platform["Parameters"]["DatabaseVersion"]["AllowedValues"], key=int)
    if database["EngineVersion"] != newest:
        yield f"PostgreSQL {database['EngineVersion']} is not the newest"
    if database.get("PubliclyAccessible") is not False:
        yield "has a public address"
    if database.get("StorageEncrypted") is not True:
        yield "is not encrypted"
    if "DeletionProtection" in database:  # `apply` switches it on afterwards
        yield "cannot be removed when the creation of another resource fails"
    if "MaxAllocatedStorage" in database:
        yield "grows by itself"
    if "resolve:secretsmanager" not in database["MasterUserPassword"]:
        yield "has its password in the template"


def _database_parameters(group: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    if group["Parameters"].get("rds.force_ssl") != "1":
        yield "lets connections without TLS in"


def _instance(instance: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    for device in instance.get("BlockDeviceMappings") or [{"Ebs": {}}]:
        if device["Ebs"].get("Encrypted") is not True:
            yield "has a disk that is not encrypted"
    if instance.get("MetadataOptions", {}).get("HttpTokens") != "required":
        yield "answers IMDSv1"


def _topic(topic: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    if "KmsMasterKeyId" not in topic:
        yield "is not encrypted"
    for one in topic["Subscription"]:
        if one["Endpoint"] != COMMON["Email"]:
            yield f"{one['Endpoint']} gets the mails"


def _nothing(properties: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    yield from ()


def _unknown(properties: dict[str, Any], platform: dict[str, Any]) -> Iterator[str]:
    yield "no rule of this test looks at this type"


_RULES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Iterator[str]]] = {
    "AWS::EC2::EIP": _nothing,
    "AWS::EC2::Instance": _instance,
    "AWS::EC2::SecurityGroup": _group,
    "AWS::EC2::SecurityGroupIngress": _ingress,
    "AWS::IAM::InstanceProfile": _nothing,
    "AWS::IAM::Role": _role,
    "AWS::RDS::DBInstance": _database,
    "AWS::RDS::DBParameterGroup": _database_parameters,
    "AWS::S3::Bucket": _bucket,
    "AWS::S3::BucketPolicy": _bucket_policy,
    "AWS::SNS::Topic": _topic,
    "AWS::SecretsManager::Secret": _nothing,
}


def _list(one_or_many: str | list[str]) -> list[str]:
    return one_or_many if isinstance(one_or_many, list) else [one_or_many]


def test_default_profile_has_no_finding_without_a_reason(platform: dict[str, Any]) -> None:
    assert findings(platform, profile="default") == REASONS.keys()


@pytest.mark.parametrize("profile", PARAMETERS)
def test_the_role_puts_metrics_only_into_namespaces_of_this_platform(platform: dict[str, Any], profile: str) -> None:
    role = resolved(platform, parameters=PARAMETERS[profile])["Role"]["Properties"]
    statements = [one for policy in role["Policies"] for one in policy["PolicyDocument"]["Statement"]]
    [metrics] = [one for one in statements if "cloudwatch" in str(one["Action"])]
    assert metrics["Action"] == "cloudwatch:PutMetricData"
    assert metrics["Condition"] == {"StringLike": {"cloudwatch:namespace": [PREFIX, f"{PREFIX}/*"]}}


def test_findings_of_the_course_profile_are_exactly_the_briefs_list(platform: dict[str, Any]) -> None:
    assert findings(platform, profile="course") - REASONS.keys() == BRIEF


def test_every_finding_of_the_course_profile_is_shown_before_it_is_applied() -> None:
    """Those of BRIEF (one switch covers all managed policies), and the public bucket of the trigger's stack."""
    shown = " ".join(switch for switch, _ in COURSE_SWITCHES)
    for words in (
        "5432",
        "all traffic",
        "managed FullAccess",
        "RDS may take the role",
        "PostgreSQL 14",
        "marking",
        "public monitored bucket (in the trigger's stack)",
    ):
        assert words in shown


def test_another_image_than_the_briefs_is_named() -> None:
    assert describe_image(IMAGE) == f"The instance gets the brief's image {IMAGE}."
    assert "The instance gets the newest Ubuntu 24.04 (ami-1)." in describe_image("ami-1")


def test_everything_that_can_have_a_name_tag_has_one(platform: dict[str, Any]) -> None:
    without_tags = {"AWS::EC2::SecurityGroupIngress", "AWS::IAM::InstanceProfile", "AWS::S3::BucketPolicy"}
    for name, resource in resolved(platform, parameters=PARAMETERS["course"]).items():
        if resource["Type"] not in without_tags:
            tags = {tag["Key"]: tag["Value"] for tag in resource["Properties"]["Tags"]}
            assert tags["Name"].startswith(PREFIX), name


def test_what_is_replaced_leaves_a_copy_of_its_data(platform: dict[str, Any]) -> None:
    policies = {
        name: (one.get("DeletionPolicy"), one.get("UpdateReplacePolicy"))
        for name, one in platform["Resources"].items()
        if one.keys() & {"DeletionPolicy", "UpdateReplacePolicy"}
    }
    assert policies == {
        "SourceBucket": ("Delete", "Retain"),
        "DatabaseSecret": ("Delete", "Retain"),
        "Database": ("Snapshot", "Snapshot"),
    }


SOURCE, MONITORED = f"arn:aws:s3:::{PREFIX}-s3-source", f"arn:aws:s3:::{PREFIX}-monitored-bucket"
PARAMETER = f"arn:aws:ssm:eu-west-1:1:parameter/{PREFIX}/airflow"


@pytest.mark.parametrize("profile", PARAMETERS)
@pytest.mark.parametrize(
    ("action", "resource"),
    [
        *((action, bucket) for action in ("s3:ListBucket", "s3:GetBucketLocation") for bucket in (SOURCE, MONITORED)),
        ("s3:ListBucketMultipartUploads", SOURCE),
        ("s3:GetObject", f"{SOURCE}/Stocks/wex.us.csv"),
        ("s3:GetObject", f"{MONITORED}/a.SUCCESS"),
        ("s3:PutObject", f"{SOURCE}/Output/manifest.json"),
        ("s3:DeleteObject", f"{SOURCE}/Output/notices/a.json"),
        ("s3:AbortMultipartUpload", f"{SOURCE}/Output/historical_stock_data.csv"),
        ("s3:ListMultipartUploadParts", f"{SOURCE}/Output/historical_stock_data.csv"),
        ("sns:Publish", "Topic"),
        ("cloudwatch:PutMetricData", "*"),
        ("ssm:GetParametersByPath", PARAMETER),  # of the path itself, as write_env.sh asks
        ("ssm:GetParameter", f"{PARAMETER}/archive-sha256"),
    ],
)
def test_the_role_may_do_what_the_pipeline_and_its_instance_ask_of_aws(
    action: str, resource: str, profile: str, platform: dict[str, Any]
) -> None:
    role = resolved(platform, parameters=PARAMETERS[profile])["Role"]["Properties"]
    statements = [one for policy in role["Policies"] for one in policy["PolicyDocument"]["Statement"]]
    places = [
        place["Ref"] if isinstance(place, dict) else place
        for one in statements
        if action in _list(one["Action"])
        for place in _list(one["Resource"])
    ]
    assert any(fnmatch.fnmatchcase(resource, place) for place in places)


def test_only_the_operator_changes_or_uncovers_code_in_the_bucket(platform: dict[str, Any]) -> None:
    [_, code] = platform["Resources"]["SourceBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert set(code["Action"]) == {"s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"}


def test_containers_get_the_roles_credentials_and_the_trigger_may_start_the_instance(platform: dict[str, Any]) -> None:
    instance = resolved(platform, parameters=PARAMETERS["default"])["Instance"]["Properties"]
    assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    [disk] = [one["Ebs"] for one in instance["BlockDeviceMappings"]]
    assert disk["KmsKeyId"] == "alias/aws/ebs"  # another key would have to allow the trigger's role


def test_teardown_finds_or_removes_every_disk_and_no_upload_stays_for_ever(platform: dict[str, Any]) -> None:
    resources = resolved(platform, parameters=PARAMETERS["default"])
    instance = resources["Instance"]["Properties"]
    assert instance["PropagateTagsToVolumeOnCreation"] is True
    assert [one["Ebs"]["DeleteOnTermination"] for one in instance["BlockDeviceMappings"]] == [True]
    rules = resources["SourceBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    aborted = [rule["AbortIncompleteMultipartUpload"] for rule in rules if "AbortIncompleteMultipartUpload" in rule]
    assert aborted == [{"DaysAfterInitiation": 2}]


def test_database_takes_its_password_and_an_upgrade_and_no_paid_support(platform: dict[str, Any]) -> None:
    resources = resolved(platform, parameters=PARAMETERS["default"])
    # RDS refuses / @ " and blanks.
    assert resources["DatabaseSecret"]["Properties"]["GenerateSecretString"]["ExcludePunctuation"] is True
    database = resources["Database"]["Properties"]
    assert database["AllowMajorVersionUpgrade"] is True
    assert database["EngineLifecycleSupport"] == "open-source-rds-extended-support-disabled"


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(resources: dict[str, Any]) -> None:
        node = resources[str(path[0])]["Properties"]
        for step in path[1:-1]:
            node = node[step]
        node[path[-1]] = to

    return change


STATEMENTS = ("Policies", 0, "PolicyDocument", "Statement", 0)


@pytest.mark.parametrize(
    ("worsen", "finding"),
    [
        (_set("SourceBucket", "BucketEncryption", to={"Ref": "AWS::NoValue"}), "SourceBucket: is not encrypted"),
        (
            _set("SourceBucket", "PublicAccessBlockConfiguration", "BlockPublicPolicy", to=False),
            "SourceBucket: can be made public",
        ),
        (
            _set("SourceBucketPolicy", "PolicyDocument", "Statement", 0, "Effect", to="Allow"),
            "SourceBucketPolicy: OnlyEncryptedConnections lets anybody in",
        ),
        (
            _set("SourceBucketPolicy", "PolicyDocument", "Statement", 1, "Action", to=["s3:DeleteObject"]),
            "SourceBucketPolicy: lets everybody who may write files put code",
        ),
        (
            _set("Database", "DeletionProtection", to=True),
            "Database: cannot be removed when the creation of another resource fails",
        ),
        (_set("Database", "StorageEncrypted", to=False), "Database: is not encrypted"),
        (_set("Database", "MasterUserPassword", to="hunter2"), "Database: has its password in the template"),
        (
            _set("DatabaseParameters", "Parameters", to={}),
            "DatabaseParameters: lets connections without TLS in",
        ),
        (
            _set("Instance", "BlockDeviceMappings", 0, "Ebs", "Encrypted", to=False),
            "Instance: has a disk that is not encrypted",
        ),
        (_set("Instance", "MetadataOptions", to={}), "Instance: answers IMDSv1"),
        (_set("SshFromMe", "CidrIp", to="0.0.0.0/0"), "SshFromMe: 22 open to the world"),
        (_set("SshFromMe", "ToPort", to=443), "SshFromMe: ports 22 to 443 are not in the brief"),
        (_set("Role", *STATEMENTS, "Action", to="s3:*"), "Role: ListTheBuckets does s3:*"),
        (_set("Role", *STATEMENTS, "Resource", to="*"), "Role: ListTheBuckets on *"),
        (_set("Topic", "KmsMasterKeyId", to={"Ref": "AWS::NoValue"}), "Topic: is not encrypted"),
    ],
)
def test_the_policy_notices(worsen: Callable[[dict[str, Any]], None], finding: str, platform: dict[str, Any]) -> None:
    worse = copy.deepcopy(platform)
    worsen(worse["Resources"])
    assert findings(worse, profile="default") - REASONS.keys() == {finding}
