# ruff: noqa: ANN401 - moto hands JSON over
"""A moto server whose CloudFormation also makes what platform.yml has and moto leaves out: THIS_FILE -H HOST -p PORT.

Left out by moto: buckets' properties and policies, a role's managed policies, secrets and references to them; of a
database its protection, security groups and final snapshot, of an instance its security groups, metadata options and
shutdown behaviour, of an address its tags, of a security group what it lets out; of a change set conditions,
parameters and outputs; of an update of a stack all but the template; the quotas of vCPUs and Lambda; the plan of an
account; and, where there is no Docker, that functions run.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import boto3
from moto.awslambda.models import LambdaFunction, LayerVersion
from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Change, ChangeSet, CloudFormationBackend, cloudformation_backends
from moto.core.common_models import CloudFormationModel
from moto.core.exceptions import AccessDeniedError, JsonRESTError
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import AMIS
from moto.ec2.models.elastic_ip_addresses import ElasticAddress
from moto.ec2.models.instances import Instance
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupIngress
from moto.iam.access_control import IAMRequest, PermissionResult
from moto.iam.models import AWSManagedPolicy, Role
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.rds.models import DBInstance, DBParameterGroup, rds_backends
from moto.s3 import notifications
from moto.s3.models import FakeBucket, s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.server import main
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.models import ServiceQuotasBackend
from moto.sns.models import Topic, sns_backends

_LAYER = Path(__file__).parents[2] / "trigger" / ".build" / "layer" / "python"
_REVIEW = "REVIEW_IN_PROGRESS"
_REFERENCE = re.compile(r"\{\{resolve:secretsmanager:([^}]*?):SecretString:(\w+)\}\}")


class Secret(CloudFormationModel):
    """AWS::SecretsManager::Secret with GenerateSecretString."""

    __module__ = "moto.secretsmanager.models"  # moto takes the service's name from there

    def __init__(self, arn: str) -> None:
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SecretsManager::Secret"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> Secret:
        properties = cloudformation_json["Properties"]
        wanted = properties["GenerateSecretString"]
        content = json.loads(wanted["SecretStringTemplate"])
        content[wanted["GenerateStringKey"]] = secrets.token_hex(wanted["PasswordLength"] // 2)
        made = secretsmanager_backends[account_id][region_name].create_secret(
            name=resource_name, secret_string=json.dumps(content), secret_binary=None, tags=properties["Tags"],
            description=properties["Description"], kms_key_id=None, client_request_token=None, replica_regions=[],
            force_overwrite=False,
        )  # fmt: skip
        return cls(json.loads(made)["ARN"])

    def delete(self, account_id: str, region_name: str) -> None:
        secretsmanager_backends[account_id][region_name].delete_secret(
            self.physical_resource_id, recovery_window_in_days=None, force_delete_without_recovery=True
        )


class BucketPolicy(CloudFormationModel):
    """AWS::S3::BucketPolicy."""

    __module__ = "moto.s3.models"

    def __init__(self, bucket: str) -> None:
        self.physical_resource_id = bucket

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::S3::BucketPolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> BucketPolicy:
        properties = cloudformation_json["Properties"]
        s3_backends[account_id]["aws"].put_bucket_policy(
            properties["Bucket"], json.dumps(properties["PolicyDocument"]).encode()
        )
        return cls(properties["Bucket"])

    def delete(self, account_id: str, region_name: str) -> None:
        if self.physical_resource_id in s3_backends[account_id]["aws"].buckets:
            s3_backends[account_id]["aws"].delete_bucket_policy(self.physical_resource_id)


def _neither_allowed_nor_denied(self: FakeBucket, action: str, resource: str) -> PermissionResult:
    """What a policy says of a request: moto reads no condition, and would deny TLS too."""
    return PermissionResult.NEUTRAL


def _deny(self: IAMRequest) -> None:
    """Refuse as the service does: moto answers JSON services with XML."""
    who, speaks_json = self._access_key.arn, self._service in {"ssm", "secretsmanager", "servicequotas"}
    if speaks_json:
        raise JsonRESTError("AccessDeniedException", f"User: {who} is not authorized to perform: {self._action}")
    raise AccessDeniedError(user_arn=who, action=self._action)


_create_plain_bucket = FakeBucket.create_from_cloudformation_json


def _create_bucket(
    cls: type[FakeBucket], resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
) -> FakeBucket:
    properties = cloudformation_json["Properties"]
    bucket: FakeBucket = _create_plain_bucket(resource_name, cloudformation_json, account_id, region_name)
    if "LifecycleConfiguration" not in properties:
        return bucket  # none of platform.yml's
    s3 = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{os.environ['MOTO_PORT']}", region_name=region_name,
        aws_access_key_id="testing", aws_secret_access_key="testing",
    )  # fmt: skip
    if "VersioningConfiguration" in properties:
        s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration=properties["VersioningConfiguration"])
    s3.put_public_access_block(
        Bucket=bucket.name, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"]
    )
    if "OwnershipControls" in properties:
        s3.put_bucket_ownership_controls(Bucket=bucket.name, OwnershipControls=properties["OwnershipControls"])
    rules: Any = [
        {
            "ID": rule["Id"],
            "Status": rule["Status"],
            "Filter": {"Prefix": rule.get("Prefix", "")},
            **({"Expiration": {"Days": rule["ExpirationInDays"]}} if "ExpirationInDays" in rule else {}),
            **{name: rule[name] for name in rule if name.startswith(("Noncurrent", "Abort"))},
        }
        for rule in properties["LifecycleConfiguration"]["Rules"]
    ]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket.name, LifecycleConfiguration={"Rules": rules})
    for called in properties.get("NotificationConfiguration", {}).get("LambdaConfigurations", ()):
        filters = [{"Name": rule["Name"], "Value": rule["Value"]} for rule in called["Filter"]["S3Key"]["Rules"]]
        one: Any = {
            "LambdaFunctionArn": called["Function"],
            "Events": [called["Event"]],
            "Filter": {"Key": {"FilterRules": filters}},
        }
        configuration: Any = {"LambdaFunctionConfigurations": [one]}
        s3.put_bucket_notification_configuration(Bucket=bucket.name, NotificationConfiguration=configuration)
    return bucket


_RUN = (
    "import importlib, json, sys; name, handler = sys.argv[1].rsplit('.', 1); "
    "print(json.dumps(getattr(importlib.import_module(name), handler)(json.load(sys.stdin), None)))"
)


def _run_function(self: LambdaFunction, event: Any = None) -> tuple[str, bool, str]:
    """Run the function's code as Lambda does, with its environment and no other: moto would need Docker."""
    url = f"http://127.0.0.1:{os.environ['MOTO_PORT']}"
    with tempfile.TemporaryDirectory() as folder:
        with ZipFile(io.BytesIO(self.code_bytes)) as archive:
            archive.extractall(folder)
        environment = {
            **{name: str(value) for name, value in self.environment_vars.items()},
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region, "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1", "PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}:{_LAYER}",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-P", "-c", _RUN, str(self.handler)],
            env=environment, cwd=folder, input=json.dumps(event or {}), capture_output=True, text=True, check=False,
        )  # fmt: skip
    print(f"{self.function_name}: {done.returncode}\n{done.stderr}{done.stdout}", file=sys.stderr, flush=True)
    return done.stdout.rpartition("}")[0].rpartition("\n")[2] + "}", bool(done.returncode), done.stderr


_call_function = notifications._invoke_awslambda


def _call_function_later(account_id: str, event_body: Any, fn_arn: str, region_name: str) -> None:
    """S3 does not wait for the function."""
    facts = (account_id, event_body, fn_arn, region_name)
    threading.Thread(target=_call_function, args=facts, daemon=True).start()


def _create_database(
    cls: type[DBInstance], resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
) -> DBInstance:
    properties = cloudformation_json["Properties"]

    def resolved(text: str) -> str:
        match = _REFERENCE.fullmatch(text)
        assert match, text
        found = secretsmanager_backends[account_id][region_name].get_secret_value(match[1], "", "")
        return str(json.loads(found["SecretString"])[match[2]])

    return rds_backends[account_id][region_name].create_db_instance(
        {
            "db_instance_identifier": properties["DBInstanceIdentifier"],
            "db_name": properties["DBName"],
            "engine": properties["Engine"],
            "engine_version": properties["EngineVersion"],
            "db_instance_class": properties["DBInstanceClass"],
            "allocated_storage": int(properties["AllocatedStorage"]),
            "max_allocated_storage": properties.get("MaxAllocatedStorage"),
            "storage_type": properties["StorageType"],
            "storage_encrypted": properties["StorageEncrypted"],
            "multi_az": properties["MultiAZ"],
            "master_username": resolved(properties["MasterUsername"]),
            "master_user_password": resolved(properties["MasterUserPassword"]),
            "port": int(properties["Port"]),
            "publicly_accessible": properties["PubliclyAccessible"],
            "vpc_security_group_ids": properties["VPCSecurityGroups"],
            "db_parameter_group_name": properties["DBParameterGroupName"],
            "backup_retention_period": int(properties["BackupRetentionPeriod"]),
            "copy_tags_to_snapshot": properties["CopyTagsToSnapshot"],
            "auto_minor_version_upgrade": properties["AutoMinorVersionUpgrade"],
            "deletion_protection": False,
            "tags": properties["Tags"],
        }
    )


def _delete_database(self: DBInstance, account_id: str, region_name: str) -> None:
    """As DeletionPolicy: Snapshot does it."""
    identifier = self.db_instance_identifier
    rds_backends[account_id][region_name].delete_db_instance(identifier, f"{identifier}-final-{secrets.token_hex(4)}")


def _create_instance(
    cls: type[Instance], resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
) -> Instance:
    properties = cloudformation_json["Properties"]
    backend = ec2_backends[account_id][region_name]
    tags = {"instance": {tag["Key"]: tag["Value"] for tag in properties["Tags"]}}
    if properties.get("PropagateTagsToVolumeOnCreation"):
        tags["volume"] = tags["instance"]
    options = properties["MetadataOptions"]
    instance = backend.run_instances(
        image_id=properties["ImageId"],
        count=1,
        user_data=properties["UserData"],
        security_group_names=[],
        security_group_ids=properties["SecurityGroupIds"],
        instance_type=properties["InstanceType"],
        is_instance_type_default=False,
        key_name=properties.get("KeyName"),
        block_device_mappings=properties["BlockDeviceMappings"],
        instance_initiated_shutdown_behavior=properties["InstanceInitiatedShutdownBehavior"],
        metadata_options={
            "HttpTokens": options["HttpTokens"],
            "HttpPutResponseHopLimit": options["HttpPutResponseHopLimit"],
        },
        tags=tags,
    ).instances[0]
    backend.associate_iam_instance_profile(
        instance_id=instance.id, iam_instance_profile_name=properties["IamInstanceProfile"]
    )
    return instance


_create_plain_group = SecurityGroup.create_from_cloudformation_json


def _create_group(
    cls: type[SecurityGroup],
    resource_name: str,
    cloudformation_json: Any,
    account_id: str,
    region_name: str,
    **_: Any,
) -> SecurityGroup:
    group = _create_plain_group(resource_name, cloudformation_json, account_id, region_name)
    _let_out(group, cloudformation_json["Properties"], account_id, region_name)
    return group


def _let_out(group: SecurityGroup, properties: dict[str, Any], account_id: str, region_name: str) -> None:
    """Rules of its own replace that for everything, which a new group has."""
    if "SecurityGroupEgress" not in properties:
        return
    if "VpcId" not in properties:
        raise ValidationError("SecurityGroupEgress cannot be specified without VpcId")  # as AWS does
    group.egress_rules.clear()
    for rule in properties["SecurityGroupEgress"]:
        place = {name: rule[name] for name in ("CidrIp", "CidrIpv6", "Description") if name in rule}
        ec2_backends[account_id][region_name].authorize_security_group_egress(
            group.id, rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), [place], vpc_id=group.vpc_id
        )


def _create_address(
    cls: type[ElasticAddress], resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
) -> ElasticAddress:
    properties = cloudformation_json["Properties"]
    backend = ec2_backends[account_id][region_name]
    tags = {tag["Key"]: tag["Value"] for tag in properties["Tags"]}
    address = backend.allocate_address(domain="vpc", tags=tags)
    backend.associate_address(backend.get_instance(properties["InstanceId"]), address=address.public_ip)
    return address


_create_plain_role = Role.create_from_cloudformation_json


def _create_role(
    cls: type[Role], resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
) -> Role:
    role = _create_plain_role(resource_name, cloudformation_json, account_id, region_name)
    for name, document in role.policies.items():
        role.policies[name] = json.dumps(document)
    _attach(role, cloudformation_json["Properties"].get("ManagedPolicyArns", []), account_id, region_name)
    return role


def _attach(role: Role, arns: list[str], account_id: str, region_name: str) -> None:
    for arn in arns:
        day = "2026-01-01T00:00:00+00:00"
        facts = {"Path": "/", "DefaultVersionId": "v1", "CreateDate": day, "UpdateDate": day, "Document": {}}
        AWSManagedPolicy.from_data(arn.rpartition("/")[2], account_id, region_name, facts).attach_to(role)


def _delete_address(self: ElasticAddress, account_id: str, region_name: str) -> None:
    backend = ec2_backends[account_id][region_name]
    if self.association_id:
        backend.disassociate_address(association_id=self.association_id)
    backend.release_address(allocation_id=self.allocation_id)


_create_new_change_set = CloudFormationBackend.create_change_set


def _create_change_set(self: CloudFormationBackend, **facts: Any) -> tuple[str, str]:
    """A stack that only waits for its first change set takes another one; moto would make a second of its name."""
    for stack_id, stack in list(self.stacks.items()):
        if facts["change_set_type"] == "CREATE" and (stack.name, stack.status) == (facts["stack_name"], _REVIEW):
            del self.stacks[stack_id]
    return _create_new_change_set(self, **facts)


_execute = ChangeSet.apply


def _execute_with_outputs(self: ChangeSet) -> None:
    if self.change_set_type == "UPDATE":
        _update(self)
    else:
        _execute(self)
    self.stack.template_dict = self.template_dict
    self.stack.parameters, self.stack.tags = self.parameters, self.tags or {}
    self.stack.output_map = self.stack._create_output_map()
    exports = cloudformation_backends[self.stack.account_id][self.stack.region_name].exports
    exports.update({export.name: export for export in self.stack.exports})


def _update(self: ChangeSet) -> None:
    """Add and remove resources as their conditions say, change those that _UPDATES knows, fail at any other."""
    stack, changes = self.stack.resource_map, self.diff()
    was: dict[str, Any] = {name: stack[name] for name in _resources(stack)}
    for change in changes:
        if change.action == "Remove":
            assert change.resource_type == "AWS::EC2::SecurityGroupIngress", change.logical_resource_id
            _remove_rule(was[change.logical_resource_id].properties, stack)
            del stack._parsed_resources[change.logical_resource_id]
    stack._template, stack._resource_json_map = self.template_dict, self.template_dict["Resources"]
    stack.input_parameters = self.parameters
    stack.load_mapping()
    stack.load_parameters()
    stack.load_conditions()
    for change in changes:
        name = change.logical_resource_id
        if change.action == "Add":
            assert stack[name] is not None
        elif change.action == "Modify":
            properties = parsing.clean_json(self.template_dict["Resources"][name]["Properties"], stack)
            _UPDATES[change.resource_type](was[name], properties, stack)


def _remove_rule(properties: dict[str, Any], stack: parsing.ResourceMap) -> None:
    ec2_backends[stack._account_id][stack._region_name].revoke_security_group_ingress(
        properties["GroupId"], properties["IpProtocol"], properties.get("FromPort", ""), properties.get("ToPort", ""),
        [{"CidrIp": properties["CidrIp"], "Description": properties["Description"]}], source_groups=[],
    )  # fmt: skip


def _update_rule(rule: SecurityGroupIngress, properties: dict[str, Any], stack: parsing.ResourceMap) -> None:
    _remove_rule(rule.properties, stack)
    whole = {"Properties": properties}
    SecurityGroupIngress.create_from_cloudformation_json("", whole, stack._account_id, stack._region_name)
    rule.properties = properties


def _update_group(group: SecurityGroup, properties: dict[str, Any], stack: parsing.ResourceMap) -> None:
    _let_out(group, properties, stack._account_id, stack._region_name)


def _update_role(role: Role, properties: dict[str, Any], stack: parsing.ResourceMap) -> None:
    role.assume_role_policy_document = json.dumps(properties["AssumeRolePolicyDocument"])
    for policy in list(role.managed_policies.values()):
        policy.detach_from(role)
    _attach(role, properties.get("ManagedPolicyArns", []), stack._account_id, stack._region_name)


def _update_topic(topic: Topic, properties: dict[str, Any], stack: parsing.ResourceMap) -> None:
    sns, wanted = sns_backends[stack._account_id][stack._region_name], properties["Subscription"]
    before = {one.endpoint: one.arn for one in sns.subscriptions.values() if one.topic is topic}
    for one in wanted:
        sns.subscribe(topic.arn, one["Endpoint"], one["Protocol"])
    for address in before.keys() - {one["Endpoint"] for one in wanted}:
        sns.unsubscribe(before[address])


def _update_instance(instance: Instance, properties: dict[str, Any], stack: parsing.ResourceMap) -> None:
    instance.user_data = properties["UserData"]


def _update_database(database: DBInstance, properties: dict[str, Any], stack: parsing.ResourceMap) -> None:
    database.engine_version = properties["EngineVersion"]


def _changes(self: ChangeSet) -> list[Change]:
    """What executing would do: moto looks at no condition, and at no parameter."""
    old, new = self.stack.resource_map, parsing.ResourceMap(
        self.stack_id, self.stack_name, self.parameters, {}, self.stack.region_name, self.stack.account_id,
        self.template_dict, None,
    )  # fmt: skip
    was, is_now = _resources(old), _resources(new)
    actions = {name: "Add" for name in is_now if name not in was} | {
        name: "Remove" for name in was if name not in is_now
    }
    changed = {name for name, value in self.parameters.items() if old.input_parameters.get(name) != value}
    turned = {name for name, value in new.lazy_condition_map.items() if old.lazy_condition_map.get(name) != value}
    for name in was.keys() & is_now.keys():
        mentioned = set(parsing.get_references_from_template(is_now[name]))
        if was[name] != is_now[name] or changed & mentioned or turned & set(_conditions(is_now[name])):
            actions[name] = "Modify"
    return [Change(action, name, (is_now | was)[name]["Type"]) for name, action in actions.items()]


def _conditions(node: Any) -> Iterator[str]:
    """Those that Fn::If asks, anywhere below."""
    if isinstance(node, dict):
        if "Fn::If" in node:
            yield node["Fn::If"][0]
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _conditions(one)


def _resources(stack: parsing.ResourceMap) -> dict[str, Any]:
    """Those of the stack's template whose condition holds."""
    if not stack._template:
        return {}
    stack.load_parameters()
    stack.load_conditions()
    resources: dict[str, Any] = stack._template["Resources"]
    return {
        name: one
        for name, one in resources.items()
        if "Condition" not in one or stack.lazy_condition_map[one["Condition"]]
    }


_UPDATES: dict[str, Callable[[Any, dict[str, Any], parsing.ResourceMap], None]] = {
    "AWS::EC2::Instance": _update_instance,
    "AWS::EC2::SecurityGroup": _update_group,
    "AWS::EC2::SecurityGroupIngress": _update_rule,
    "AWS::IAM::Role": _update_role,
    "AWS::RDS::DBInstance": _update_database,
    "AWS::RDS::DBParameterGroup": lambda *_: None,
    "AWS::S3::BucketPolicy": lambda *_: None,
    "AWS::SNS::Topic": _update_topic,
}


def _quota(backend: ServiceQuotasBackend, service_code: str, quota_code: str) -> dict[str, Any]:
    """That of vCPUs, as a young account in one region has it; AWS reports none in the others."""
    if (backend.region_name, service_code, quota_code) != ("eu-west-1", "ec2", "L-1216C47A"):
        raise NoSuchResource
    return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": 5.0}


_dispatch = DomainDispatcherApplication.__call__
_ANSWERS = {  # of an account that is not new
    "AWSFreeTierService.GetAccountPlanState": {"accountPlanType": "PAID", "accountPlanStatus": "ACTIVE"},
    "/2016-08-19/account-settings": {"AccountLimit": {"ConcurrentExecutions": 1000}},
}


def _answer(self: DomainDispatcherApplication, environ: dict[str, Any], start_response: Any) -> Any:
    answer = _ANSWERS.get(environ.get("HTTP_X_AMZ_TARGET", "")) or _ANSWERS.get(environ["PATH_INFO"].rstrip("/"))
    if answer is None:
        return _dispatch(self, environ, start_response)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def fill_gaps() -> None:
    DomainDispatcherApplication.__call__ = _answer  # type: ignore[method-assign]
    ServiceQuotasBackend.get_service_quota = _quota  # type: ignore
    DBParameterGroup.physical_resource_id = property(lambda self: self.name)  # type: ignore[attr-defined]
    DBInstance.create_from_cloudformation_json = classmethod(_create_database)  # type: ignore
    DBInstance.delete = _delete_database  # type: ignore[method-assign]
    Instance.create_from_cloudformation_json = classmethod(_create_instance)  # type: ignore
    SecurityGroup.create_from_cloudformation_json = classmethod(_create_group)  # type: ignore
    AMIS.append({**AMIS[0], "ami_id": "ami-05f67f34b041e3b67", "name": "edsa-airflow-ami"})  # the brief's, shared
    ElasticAddress.create_from_cloudformation_json = classmethod(_create_address)  # type: ignore
    Role.create_from_cloudformation_json = classmethod(_create_role)  # type: ignore
    ElasticAddress.delete = _delete_address  # type: ignore[attr-defined]
    CloudFormationBackend.create_change_set = _create_change_set  # type: ignore
    IAMRequest._raise_access_denied = _deny  # type: ignore[method-assign]
    IAMRequest.check_signature = lambda self: None  # type: ignore[method-assign]  # moto gets that of Lambda's paths wrong
    FakeBucket.get_permission = _neither_allowed_nor_denied  # type: ignore[method-assign]
    FakeBucket.create_from_cloudformation_json = classmethod(_create_bucket)  # type: ignore
    LayerVersion.physical_resource_id = property(lambda self: self.arn)  # type: ignore[attr-defined]
    LambdaFunction._invoke_lambda = _run_function  # type: ignore
    notifications._invoke_awslambda = _call_function_later
    CloudFormationBackend.validate_template = lambda self, template: []  # type: ignore  # warnings are errors to moto
    ChangeSet.apply = _execute_with_outputs  # type: ignore[method-assign]
    ChangeSet.diff = _changes  # type: ignore[method-assign]


if __name__ == "__main__":
    fill_gaps()
    main(sys.argv[1:])
