"""An AWS that really deploys: a ministack server, whose CloudFormation creates functions and whose S3 calls them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.moto import aws_environment
from tests.support.paths import ROOT
from tests.support.process import HOST, Command, Process, StackError, free_port, get_json, wait_until

PYTHON = ROOT / ".venv-ministack" / "bin" / "python"
ACCOUNT = "000000000000"


class MinistackServer:
    """A ministack server with empty AWS services, whose state is lost when it stops.

    It has its own venv: functions run on its Python, which must not have a package that their zip lacks.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.url = ""
        self._process: Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What points boto3, the AWS CLI and serverless, and nothing else, at this server."""
        return aws_environment(self.url)

    @property
    def log(self) -> Path:
        """Contains what the functions logged."""
        return self.directory / "ministack.log"

    def __enter__(self) -> Self:
        if not PYTHON.exists():
            raise StackError("ministack is not installed. Run: make .venv-ministack/.ready (make test-trigger does).")
        self.directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        environment = {
            "PATH": f"{PYTHON.parent}:/usr/bin:/bin",
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory),  # where it unpacks functions and layers
            "BIND_HOST": HOST,
            "MINISTACK_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "S3_DATA_DIR": str(self.directory / "s3"),
            "STATE_DIR": str(self.directory / "state"),
            "LAMBDA_EXECUTOR": "local",
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.5",
            "NO_PROXY": HOST,
        }
        command: Command = [PYTHON, "-m", "ministack"]
        self._process = Process(command, environment=environment, log=self.log)
        try:
            health = f"{self.url}/_ministack/health"
            wait_until(lambda: get_json(health) is not None, processes=[self._process], seconds=180)
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.stop()
