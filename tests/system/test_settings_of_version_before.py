"""The `.env` that version 0.1.0 wrote gives each part of this version the same settings as it did then."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import etl
from infra_scripts import settings
from infra_scripts.environment import read_file
from tests.support.compose_system import make_env
from tests.support.paths import ROOT, VERSION_0_1

ENV = VERSION_0_1 / "dot.env"
SOURCE_BUCKET = "de-mbd-predict-ada-lovelace-s3-source"
TOPIC = "arn:aws:sns:eu-west-1:000000000000:de-mbd-predict-ada-lovelace-SNS"


@pytest.fixture
def variables() -> dict[str, str]:
    """What the file says, which has neither quotes nor comments behind a value."""
    lines = ENV.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_etl_reads_its_settings_from_it(variables: dict[str, str]) -> None:
    found = etl.read_settings(variables)
    assert (found.mailbox, found.shards) == (etl.Mailbox(TOPIC, "Ada", "Lovelace"), 1)
    assert found.grace_seconds == 300
    assert etl.source_bucket(variables) == SOURCE_BUCKET


def test_infra_scripts_reads_the_file_and_its_settings(variables: dict[str, str]) -> None:
    read = read_file(ENV)
    assert read == variables
    found = settings.read_settings(read)
    assert (found.names.first, found.names.last, found.region) == ("Ada", "Lovelace", "eu-west-1")
    assert (found.source_bucket, found.profile, found.transport) == (SOURCE_BUCKET, "default", "ssm")
    assert (found.email, found.my_address) == ("ada@example.org", "203.0.113.7/32")
    assert (found.instance_type, found.scale_to_zero) == ("t2.medium", False)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_trigger_is_deployed_with_it_without_a_problem(variables: dict[str, str]) -> None:
    code = "console.log(JSON.stringify(require(process.argv[1])({env: JSON.parse(process.argv[2])})))"
    line = ["node", "-e", code, str(ROOT / "trigger" / "deployment.js"), json.dumps(variables)]
    found = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    assert found["problems"] == []
    expected = {
        "sourceBucket": SOURCE_BUCKET,
        "topicArn": TOPIC,
        "transport": "ssm",
        "instanceId": "i-0123456789abcdef0",
    }
    assert {name: found[name] for name in expected} == expected
    assert (found["firstName"], found["lastName"], found["isCourse"]) == ("Ada", "Lovelace", False)


def test_make_env_changes_nothing_in_it(variables: dict[str, str], tmp_path: Path) -> None:
    shutil.copy(ENV, tmp_path / ".env")
    after = make_env(tmp_path)
    assert {name: after[name] for name in variables} == variables
