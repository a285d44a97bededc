"""Reads what EC2 says of an image: its architecture, its root device, and how much disk it needs."""

from __future__ import annotations

from dataclasses import dataclass

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.platform.stack import Stack

DISK_GIGABYTES = 30  # as in platform.yml
_UBUNTUS_ROOT = "/dev/sda1"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image as its owner published it; texts are empty where AWS says nothing."""

    image_id: str
    name: str
    architecture: str
    state: str
    root_device: str
    gigabytes: int
    """What its root disk needs at least."""


def find_image(session: boto3.Session, *, image_id: str) -> Image | None:
    """The image, or None where this account cannot see it."""
    with aws_errors(f"look up the image {image_id}"):
        try:
            found = session.client("ec2").describe_images(ImageIds=[image_id])["Images"]
        except ClientError as error:
            if not error_code(error).startswith("InvalidAMIID"):
                raise
            return None
    if not found:
        return None
    facts = found[0]
    root = facts.get("RootDeviceName", "")
    sizes = [
        device["Ebs"].get("VolumeSize", 0)
        for device in facts.get("BlockDeviceMappings", [])
        if device.get("DeviceName") == root and "Ebs" in device
    ]
    return Image(
        image_id=image_id,
        name=facts.get("Name", ""),
        architecture=facts.get("Architecture", ""),
        state=facts.get("State", ""),
        root_device=root,
        gigabytes=max(sizes, default=0),
    )


def root_device(session: boto3.Session, *, image_id: str, deployed: Stack | None) -> str:
    """The name of the image's root disk; that of a deployed instance stays, as another one replaces the instance."""
    if deployed and deployed.is_usable and deployed.parameters.get("ImageId") == image_id:
        return deployed.parameters.get("RootDevice") or _UBUNTUS_ROOT
    image = find_image(session, image_id=image_id)
    return (image.root_device if image else "") or _UBUNTUS_ROOT
