"""Checks the account: who is logged in, whether the region can be used, and whether the platform fits in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.checks.finding import Finding
from infra_scripts.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

_STANDARD_QUOTA = "L-1216C47A"  # the quota "Running On-Demand Standard instances", in vCPUs


def login(session: boto3.Session) -> Finding:
    """Who is logged in. Raises InfraError where the login does not work, as nothing else can be checked then."""
    with aws_errors("ask AWS who is logged in"):
        who = session.client("sts").get_caller_identity()
    if who["Arn"].endswith(":root"):
        return Finding("warning", "login", f"{who['Arn']} is the account's root. Use a user or role of your own.")
    return Finding("ok", "login", who["Arn"])


def region(session: boto3.Session, *, settings: Settings) -> Finding:
    with aws_errors(f"look up the region {settings.region}"):
        try:
            answer = session.client("ec2").describe_regions(RegionNames=[settings.region], AllRegions=True)
        except ClientError as error:
            if error_code(error) != "InvalidParameterValue":
                raise
            return Finding("error", "region", f"AWS has no region {settings.region}. Fix AWS_REGION.")
    if answer["Regions"][0].get("OptInStatus") == "not-opted-in":
        return Finding("error", "region", f"{settings.region} is not enabled. Enable it in the account's AWS Regions.")
    return Finding("ok", "region", settings.region)


def room(session: boto3.Session, *, settings: Settings) -> Iterator[Finding]:
    """What a new platform needs: a default network, its instance type, vCPUs, an Elastic IP and a key pair."""
    ec2 = session.client("ec2")
    with aws_errors("look for the default network"):
        networks = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    yield (
        Finding("ok", "network", f"default network {networks[0]['VpcId']}")
        if networks
        else Finding("error", "network", "There is no default network. Create it: aws ec2 create-default-vpc")
    )
    offered = _instance_type(session, settings=settings)
    yield offered
    if offered.level == "ok":
        yield _processors(session, instance_type=settings.instance_type)
    yield _elastic_ip_quota(session)
    if settings.key_name:
        yield _key(session, name=settings.key_name)


def _instance_type(session: boto3.Session, *, settings: Settings) -> Finding:
    wanted = settings.instance_type
    with aws_errors(f"ask whether {settings.region} has {wanted}"):
        offered = session.client("ec2").describe_instance_type_offerings(
            LocationType="region", Filters=[{"Name": "instance-type", "Values": [wanted]}]
        )["InstanceTypeOfferings"]
    if not offered:
        return Finding(
            "error", "instance", f"{settings.region} has no {wanted}. Set MBD_INSTANCE_TYPE, say to t3.medium."
        )
    return Finding("ok", "instance", f"{settings.region} has {wanted}")


def _elastic_ip_quota(session: boto3.Session) -> Finding:
    ec2 = session.client("ec2")
    with aws_errors("count the Elastic IPs"):
        used = len(ec2.describe_addresses()["Addresses"])
        attributes = ec2.describe_account_attributes()["AccountAttributes"]
    limits = {one["AttributeName"]: one["AttributeValues"][0]["AttributeValue"] for one in attributes}
    limit = int(limits.get("vpc-max-elastic-ips", 5))
    if used >= limit:
        return Finding(
            "error", "Elastic IPs", f"All {limit} are in use. Release one, or request more in Service Quotas."
        )
    return Finding("ok", "Elastic IPs", f"{used} of {limit} in use")


def _processors(session: boto3.Session, *, instance_type: str) -> Finding:
    """Whether the quota has room for one such instance; it covers the standard families, which t2 and t3 belong to."""
    with aws_errors(f"read the number of vCPUs of {instance_type} and the quota"):
        wanted: FilterTypeDef = {"Name": "instance-type", "Values": [instance_type]}
        [facts] = session.client("ec2").describe_instance_types(Filters=[wanted])["InstanceTypes"]
        needed = facts["VCpuInfo"]["DefaultVCpus"]
        try:
            quota = session.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=_STANDARD_QUOTA)[
                "Quota"
            ]["Value"]
        except ClientError as error:
            if error_code(error) != "NoSuchResourceException":
                raise
            return Finding("warning", "vCPUs", "AWS does not report the quota. A new account may have none.")
    text = f"{instance_type} needs {needed}; the quota for standard instances is {quota:.0f}"
    if quota < needed:
        return Finding("error", "vCPUs", f"{text}. Request more in Service Quotas.")
    return Finding("ok", "vCPUs", text)


def _key(session: boto3.Session, *, name: str) -> Finding:
    with aws_errors(f"look for the key pair {name}"):
        try:
            session.client("ec2").describe_key_pairs(KeyNames=[name])
        except ClientError as error:
            if error_code(error) != "InvalidKeyPair.NotFound":
                raise
            return Finding("error", "key pair", f"There is no {name} in this region. Create it, or fix MBD_KEY_NAME.")
    return Finding("ok", "key pair", name)
