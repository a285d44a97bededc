"""What `plan` says about a changed instance: its run, its disk and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from infra_scripts.platform.change_set import ChangeSet, _change

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ChangeTypeDef, ResourceChangeDetailTypeDef

Recreation = Literal["Never", "Conditionally", "Always"]


def detail(name: str, recreation: Recreation) -> ResourceChangeDetailTypeDef:
    """One cause of a change, in the shape of DescribeChangeSet."""
    return {
        "Target": {"Attribute": "Properties", "Name": name, "RequiresRecreation": recreation},
        "Evaluation": "Static",
        "ChangeSource": "ParameterReference",
        "CausingEntity": "ScaleToZero",
    }


TAGS: ResourceChangeDetailTypeDef = {"Target": {"Attribute": "Tags", "RequiresRecreation": "Never"}}


def described(*details: ResourceChangeDetailTypeDef, replacement: Literal["True", "False", "Conditional"]) -> str:
    change: ChangeTypeDef = {
        "Type": "Resource",
        "ResourceChange": {
            "Action": "Modify",
            "LogicalResourceId": "Instance",
            "ResourceType": "AWS::EC2::Instance",
            "Replacement": replacement,
            "Scope": ["Properties"],
            "Details": list(details),
        },
    }
    return "\n".join(ChangeSet(arn="a", stack="p", changes=(_change(change),)).describe())


@pytest.mark.parametrize("name", ["UserData", "InstanceType"])
def test_what_ec2_changes_by_a_stop_and_a_start_is_a_restart(name: str) -> None:
    text = described(detail(name, "Conditionally"), TAGS, replacement="Conditional")
    assert "Restarted (1):\n  instance" in text
    assert "is stopped and started, which ends a run in progress" in text
    assert "the settings of its first boot (docs/aws.md" in text
    assert "replaced" not in text
    assert "loses" not in text


@pytest.mark.parametrize(
    "causes", [[detail("UserData", "Conditionally"), detail("SecurityGroupIds", "Conditionally")], []]
)
def test_another_condition_may_still_replace_it(causes: list[ResourceChangeDetailTypeDef]) -> None:
    assert "the instance is perhaps replaced, which loses its disk" in described(*causes, replacement="Conditional")


def test_a_replacement_is_one_whatever_else_changes() -> None:
    text = described(detail("UserData", "Conditionally"), detail("ImageId", "Always"), replacement="True")
    assert "the instance is replaced, which loses its disk" in text


def test_a_change_of_tags_alone_is_no_restart() -> None:
    assert described(TAGS, replacement="False") == "Changed (1):\n  instance"
