"""Reads a secret from an SSM parameter, once for as long as the function stays warm."""

from trigger import aws_cli
from trigger.deadline import Deadline
from trigger.errors import AwsRefusedError, SecretError

_secrets: dict[str, str] = {}


def read_secret(parameter: str, *, deadline: Deadline) -> str:
    """The decrypted value. Raises SecretError when there is no such parameter or no right to read it."""
    if parameter not in _secrets:
        try:
            answer = aws_cli.call(
                "ssm", "get-parameter", {"Name": parameter, "WithDecryption": True}, deadline=deadline
            )
        except AwsRefusedError as error:
            raise SecretError(
                f"The password in the SSM parameter {parameter} cannot be read: {error} Put it there as a SecureString "
                "in this region (`aws ssm put-parameter --type SecureString`), then redrive the event."
            ) from error
        match answer:
            case {"Parameter": {"Value": str(value)}} if value:
                _secrets[parameter] = value
            case _:
                raise SecretError(
                    f"The SSM parameter {parameter} is empty. Put the password there, then redrive the event."
                )
    return _secrets[parameter]


def forget_secret(parameter: str) -> None:
    """Read it again next time, as it may have been changed."""
    _secrets.pop(parameter, None)
