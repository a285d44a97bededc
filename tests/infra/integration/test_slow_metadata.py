"""One slow answer of the instance's metadata service fails no run: what the stack and the unit set for that."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from etl.batch.aws import aws_errors
from etl.errors import EtlError, ServiceError, SettingsError
from tests.support.paths import ROOT

_NAMES = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")


class _Metadata(BaseHTTPRequestHandler):
    """IMDSv2 with HttpTokens: required. The first answer takes 1.3 s, and botocore waits for 1 s."""

    slow = True

    def do_PUT(self) -> None:
        if type(self).slow:
            type(self).slow = False
            time.sleep(1.3)
        self._send(b"token")

    def do_GET(self) -> None:
        if not self.headers.get("X-aws-ec2-metadata-token"):
            self.send_error(401)
        elif self.path.endswith("security-credentials/"):
            self._send(b"role")
        else:
            ends = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
            facts = {"Code": "Success", "AccessKeyId": "A", "SecretAccessKey": "B", "Token": "C", "Expiration": ends}
            self._send(json.dumps({"LastUpdated": ends, "Type": "AWS-HMAC", **facts}).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def metadata() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Metadata", (_Metadata,), {"slow": True}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def key_with(metadata: str, **settings: str) -> str:
    """The access key that boto3 finds on an instance."""
    code = "import boto3; found = boto3.Session().get_credentials(); print(found.access_key if found else 'none')"
    environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata, "HOME": "/nonexistent", **settings}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def set_in(text: str) -> dict[str, str]:
    return {name: value for name in _NAMES for value in re.findall(rf'{name}[:=] ?"?(\d+)', text)}


@pytest.mark.parametrize("place", ["airflow/service.yml", "infra_scripts/instance/first_boot.sh"])
def test_what_is_set_finds_the_role_behind_a_slow_answer(place: str, metadata: str) -> None:
    settings = set_in((ROOT / place).read_text())
    assert set(settings) == set(_NAMES)
    assert key_with(metadata, **settings) == "A"


def test_without_it_botocore_finds_no_credentials(metadata: str) -> None:
    """Else the test above would prove nothing."""
    assert key_with(metadata) == "none"


@pytest.mark.parametrize(
    ("expects_role", "kind", "words"),
    [(True, ServiceError, "the instance's role gave no credentials"), (False, SettingsError, "Set AWS_PROFILE")],
)
def test_missing_credentials_are_worth_another_try_where_a_role_is_expected(
    expects_role: bool, kind: type[EtlError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import CredentialRetrievalError, NoCredentialsError  # noqa: PLC0415

    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv(_NAMES[1], raising=False)
    if expects_role:
        monkeypatch.setenv(_NAMES[1], "5")
    with pytest.raises(kind, match=words), aws_errors("list s3://bucket/Stocks/"):
        raise NoCredentialsError
    with pytest.raises(ServiceError, match="Try again"), aws_errors("list s3://bucket/Stocks/"):
        raise CredentialRetrievalError(provider="iam-role", error_msg="timeout")
