"""Derives the name of every AWS resource from a first and a last name, as the course's brief does."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra_scripts.errors import SettingsError

_NAME = re.compile(r"[A-Za-z]+(-[A-Za-z]+)*")  # RDS refuses two hyphens in a row
_FUNCTION = "(trigger|report|watchdog|redrive)"  # of serverless.yml
_LONGEST_BUCKET_NAME = 63  # docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html


@dataclass(frozen=True)
class Names:
    """All names, derived from one first and last name. Raises SettingsError where AWS would refuse one of them."""

    first: str
    last: str

    def __post_init__(self) -> None:
        for variable, name in (("MBD_FIRST_NAME", self.first), ("MBD_LAST_NAME", self.last)):
            if not _NAME.fullmatch(name):
                raise SettingsError(
                    f"{variable} is {name!r}, which cannot be part of bucket names and mail subjects. "
                    "Use plain letters A to Z, with single hyphens between them."
                )
        excess = len(self.monitored_bucket) - _LONGEST_BUCKET_NAME
        if excess > 0:
            raise SettingsError(
                f"The bucket's name {self.monitored_bucket} is {excess} characters longer than AWS allows "
                f"({_LONGEST_BUCKET_NAME}). Shorten MBD_FIRST_NAME or MBD_LAST_NAME."
            )

    @property
    def prefix(self) -> str:
        return f"de-mbd-predict-{self.first}-{self.last}".lower()

    @property
    def source_bucket(self) -> str:
        return f"{self.prefix}-s3-source"

    @property
    def monitored_bucket(self) -> str:
        return f"{self.prefix}-monitored-bucket"

    @property
    def topic(self) -> str:
        return f"{self.prefix}-SNS"

    @property
    def alarm_topic(self) -> str:
        """The topic that CloudWatch publishes to when the trigger's functions fail; in the trigger's stack."""
        return f"{self.prefix}-alarms"

    @property
    def instance(self) -> str:
        return f"{self.prefix}-ec2"

    @property
    def database(self) -> str:
        return f"{self.prefix}-rds"

    @property
    def database_secret(self) -> str:
        """The secret in Secrets Manager with the database's user name and password."""
        return f"{self.prefix}-database"

    @property
    def security_group(self) -> str:
        return f"{self.prefix}-security-group"

    @property
    def role(self) -> str:
        return f"{self.prefix}-ec2-role"

    @property
    def address(self) -> str:
        return f"{self.prefix}-ip"

    @property
    def platform_stack(self) -> str:
        return f"{self.prefix}-platform"

    @property
    def trigger_stack(self) -> str:
        """That of the stage prod; another stage's ends in `-{stage}`."""
        return f"{self.prefix}-trigger"

    def is_function(self, name: str) -> bool:
        """Whether a function of our trigger has this name, in any stage: `{prefix}-{function}[-{stage}]`.

        No stage has the word of a function: `{prefix}-report-trigger` belongs to a last name that ends in -report.
        """
        return bool(re.fullmatch(rf"{self.prefix}-{_FUNCTION}(?!.*-{_FUNCTION}(-|$))(-[A-Za-z0-9-]+)?", name))

    def is_trigger_stack(self, name: str) -> bool:
        """Whether our trigger's stack has this name, in any stage."""
        return self.is_function(name) and f"{name}-".startswith(f"{self.trigger_stack}-")

    @property
    def parameters(self) -> str:
        """The path in SSM's Parameter Store that Airflow's secrets are under."""
        return f"/{self.prefix}/airflow/"
