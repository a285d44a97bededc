"""A person at a shell with an empty AWS account, and the commands that they type."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from botocore.loaders import create_loader

from infra_scripts.cli import main
from tests.support.paths import ROOT
from tests.support.process import clean_environment

REGION = "eu-west-1"
LOGIN = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
SETTINGS = {
    "MBD_FIRST_NAME": "Ada",
    "MBD_LAST_NAME": "Lovelace",
    "AWS_REGION": REGION,
    "MBD_EMAIL": "ada@example.org",
    "MBD_MY_ADDRESS": "192.31.196.7/32",  # of the internet, but nobody's (RFC 7535)
    "MBD_IMAGE_ID": "ami-12c6146b",  # moto knows no image of Canonical's under its SSM parameter
    "MBD_MARKING_EMAIL": "marking@example.org",
}


_look_up_host = socket.getaddrinfo


def _look_up(host: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
    """S3 Control puts the account's number before the host, also before an emulator's."""
    return _look_up_host(host.removeprefix("123456789012."), *rest, **more)


create_loader_once = functools.cache(create_loader)  # reading the services' descriptions is most of a command's time


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclass
class Person:
    """Somebody at a shell: settings in a .env of their own, a login, and commands that are typed."""

    folder: Path
    login: dict[str, str]
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))

    @property
    def env_file(self) -> Path:
        return self.folder / ".env"

    def write_settings(self) -> None:
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def types(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`python -m infra_scripts ...`, with nobody there to answer a question."""
        return subprocess.run(
            [sys.executable, "-m", "infra_scripts", *words, "--env-file", str(self.env_file)],
            cwd=ROOT, env=self.environment(**variables), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    def says(self, *words: str, **variables: str) -> Said:
        """The same in this process, which is quicker."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment(**variables), clear=True),
            mock.patch("sys.stdin", io.StringIO()),
            mock.patch("botocore.session.create_loader", create_loader_once),
            mock.patch("socket.getaddrinfo", _look_up),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main([*words, "--env-file", str(self.env_file)])
        return Said(code, out.getvalue(), err.getvalue())

    def environment(self, **variables: str) -> dict[str, str]:
        mine = {name: value for name, value in clean_environment().items() if not name.startswith("MBD_")}
        return {**mine, **self.login, **variables}

    def succeeds(self, *words: str) -> str:
        done = self.types(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def learns(self, *words: str) -> Any:  # noqa: ANN401
        return json.loads(self.succeeds(*words, "--json"))

    def client(self, service: Any) -> Any:  # noqa: ANN401
        """A look at the account, past the commands."""
        with mock.patch("botocore.session.create_loader", create_loader_once):
            return boto3.Session("testing", "testing", region_name=REGION).client(
                service, endpoint_url=self.login["AWS_ENDPOINT_URL"]
            )
