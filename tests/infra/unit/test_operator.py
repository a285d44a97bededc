"""Who may put code into the source bucket, as the bucket's policy sees a login."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from infra_scripts.platform.operator import operator_pattern


class Session(boto3.Session):
    """One client of STS, whose answer is written down."""

    def __init__(self) -> None:
        super().__init__("testing", "testing", region_name="eu-west-1")
        self.made = super().client("sts")

    def client(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        return self.made


@pytest.mark.parametrize(
    ("arn", "pattern"),
    [
        ("arn:aws:iam::123456789012:user/ada", "arn:aws:iam::123456789012:user/ada"),
        ("arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:root"),
        (
            "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Admin_0123/ada@example.org",
            "arn:aws:iam::123456789012:role/AWSReservedSSO_Admin_0123,"
            "arn:aws:iam::123456789012:role/*/AWSReservedSSO_Admin_0123",
        ),
    ],
)
def test_a_session_is_matched_by_its_role_with_any_path(arn: str, pattern: str) -> None:
    session = Session()
    with Stubber(session.made) as stubber:
        stubber.add_response("get_caller_identity", {"UserId": "u", "Account": "123456789012", "Arn": arn})
        assert operator_pattern(session) == pattern
