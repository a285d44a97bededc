"""S3, SNS and SQS without AWS: a moto server on 127.0.0.1 and the environment that points boto3 at it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.support.paths import ROOT
from tests.support.process import HOST, Command, Process, clean_environment, free_port, get_json, wait_until


class MotoServer:
    """A moto server with empty AWS services, forgotten when it stops."""

    program: ClassVar[Command] = ["-m", "moto.server"]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""
        self._process: Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What points boto3, and nothing else, at this server."""
        return aws_environment(self.url)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        command: Command = [sys.executable, *self.program, "-H", HOST, "-p", port]
        self._process = Process(
            command,
            environment=clean_environment(),
            log=self.directory / "moto.log",
            stop=signal.SIGKILL,  # it has nothing to save, and waits for idle connections otherwise
        )
        try:
            wait_until(
                lambda: get_json(f"{self.url}/moto-api/data.json") is not None, processes=[self._process], seconds=180
            )
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.stop()


class AwsServer(MotoServer):
    """One whose CloudFormation makes the platform and the trigger, and whose functions run (aws_server.py)."""

    program: ClassVar[Command] = ["-P", ROOT / "tests" / "support" / "aws_server.py"]


def aws_environment(url: str) -> dict[str, str]:
    """What points boto3, the AWS CLI and serverless at a server that takes any login."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
