"""The account: who is logged in, whether the region can be used, and whether the platform fits in."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.checks.finding import Finding
from infra_scripts.settings import Settings

_STANDARD_PROCESSORS = "L-1216C47A"  # the quota "Running On-Demand Standard instances", in virtual processors
_PROCESSORS_NEEDED = 2


def login(session: boto3.Session) -> Finding:
    """Raises what aws_errors makes of a login that does not work: nothing else can be looked at then."""
    with aws_errors("ask AWS who is logged in"):
        who = session.client("sts").get_caller_identity()
    if who["Arn"].endswith(":root"):
        return Finding("look", "login", f"{who['Arn']} is the account's root: work as a user or role of your own.")
    return Finding("ok", "login", who["Arn"])


def region(session: boto3.Session, *, settings: Settings) -> Finding:
    with aws_errors(f"look at the region {settings.region}"):
        try:
            answer = session.client("ec2").describe_regions(RegionNames=[settings.region], AllRegions=True)
        except ClientError as error:
            if error_code(error) != "InvalidParameterValue":
                raise
            return Finding("BAD", "region", f"AWS has no region {settings.region}. Mend AWS_REGION.")
    if answer["Regions"][0].get("OptInStatus") == "not-opted-in":
        return Finding("BAD", "region", f"{settings.region} is not switched on in this account (Account, AWS Regions).")
    return Finding("ok", "region", settings.region)


def room(session: boto3.Session, *, settings: Settings) -> Iterator[Finding]:
    """What a new platform needs to find: a default network, its type of instance, room for that and an address, key."""
    ec2 = session.client("ec2")
    with aws_errors("look for the default network"):
        networks = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    yield (
        Finding("ok", "network", f"default network {networks[0]['VpcId']}")
        if networks
        else Finding("BAD", "network", "There is no default network. `aws ec2 create-default-vpc` makes it.")
    )
    yield _instance_type(session, settings=settings)
    yield _addresses(session)
    yield _processors(session)
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
            "BAD", "instance", f"{settings.region} has no {wanted}. Set MBD_INSTANCE_TYPE, such as t3.medium."
        )
    return Finding("ok", "instance", f"{settings.region} has {wanted}")


def _addresses(session: boto3.Session) -> Finding:
    ec2 = session.client("ec2")
    with aws_errors("count the Elastic IPs"):
        used = len(ec2.describe_addresses()["Addresses"])
        attributes = ec2.describe_account_attributes()["AccountAttributes"]
    limits = {one["AttributeName"]: one["AttributeValues"][0]["AttributeValue"] for one in attributes}
    limit = int(limits.get("vpc-max-elastic-ips", 5))
    if used >= limit:
        return Finding("BAD", "Elastic IPs", f"All {limit} of the region are in use. Release one, or ask for more.")
    return Finding("ok", "Elastic IPs", f"{used} of {limit} in use")


def _processors(session: boto3.Session) -> Finding:
    quotas = session.client("service-quotas")
    with aws_errors("ask for the quota of processors"):
        try:
            quota = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=_STANDARD_PROCESSORS)["Quota"]
        except ClientError as error:
            if error_code(error) != "NoSuchResourceException":
                raise
            return Finding(
                "look", "processors", "AWS does not tell the quota of this account; a new one may have none."
            )
    if quota["Value"] < _PROCESSORS_NEEDED:
        return Finding(
            "BAD",
            "processors",
            f"The quota is {quota['Value']:.0f}, t2.medium needs 2. Ask for more in Service Quotas.",
        )
    return Finding("ok", "processors", f"quota of {quota['Value']:.0f}")


def _key(session: boto3.Session, *, name: str) -> Finding:
    with aws_errors(f"look for the key pair {name}"):
        try:
            session.client("ec2").describe_key_pairs(KeyNames=[name])
        except ClientError as error:
            if error_code(error) != "InvalidKeyPair.NotFound":
                raise
            return Finding(
                "BAD", "key pair", f"There is no key pair {name} in this region. Make it, or mend MBD_KEY_NAME."
            )
    return Finding("ok", "key pair", name)
