"""What etl shares with trigger and infra_scripts, as data: conf, receipt, notice, states, names and defaults."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

import etl
from etl.files.rules import QuarantineReason
from etl.options import build_parser
from etl.outcome.delivery import ChannelState
from etl.outcome.mail import body
from etl.outcome.receipt import MailState, State
from etl.settings import DEFAULT_GRACE_SECONDS
from tests.support.paths import CONTRACTS

TOPIC = "arn:aws:sns:eu-west-1:000000000000:topic"


def contract(name: str) -> Any:  # noqa: ANN401
    return json.loads((CONTRACTS / f"{name}.json").read_text())


RECEIPT = etl.Receipt.from_facts(contract("receipt"))
NAMES, DEFAULTS, NOTICE = contract("names"), contract("defaults"), contract("notice")


def test_conf_names_the_marker() -> None:
    conf = contract("conf")["conf"]
    assert etl.Marker.of_conf(conf) == etl.Marker(**conf["marker"])


@pytest.mark.parametrize("command", ["diff", "undo", "rejected", "report"])
def test_examples_of_the_help_have_run_ids_as_the_trigger_makes_them(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args([command, "--help"])
    shown = re.findall(r"marker_\S+", capsys.readouterr().out)
    assert shown
    assert all(re.fullmatch(contract("conf")["dag_run_id_rule"], one) for one in shown), shown


def test_receipt_is_read_and_written_as_it_is() -> None:
    assert json.loads(RECEIPT.to_json()) == contract("receipt")
    RECEIPT.check_balance()
    assert {entry.reason for entry in RECEIPT.quarantined} <= set(QuarantineReason)


def test_states_are_those_of_the_contract() -> None:
    states = contract("states")
    assert [*State] == states["receipt"]
    assert [*MailState] == states["mail"]
    assert [*ChannelState] == states["channel"]
    assert {*State} - {State.RUNNING} == set(states["ended"])


def test_mail_keeps_and_replaces_the_characters_of_the_contract_and_is_cut_at_its_limit() -> None:
    rules = NOTICE["body"]
    for sign in rules["kept"]:
        assert f"<{sign}>" in body(replace(RECEIPT, notes=(f"<{sign}>",)), whole="")
    for sign in rules["replaced"]:
        assert f"<{rules['replaced_by']}>" in body(replace(RECEIPT, notes=(f"<{sign}>",)), whole="")
    long = body(replace(RECEIPT, notes=("é" * rules["largest_bytes"],)), whole="s3://whole")
    assert rules["largest_bytes"] <= len(long.encode()) <= rules["largest_bytes"] + 100
    assert rules["cut_with"] in long


@pytest.mark.parametrize(("first", "last"), NAMES["accepted"])
def test_accepted_names_are_accepted(first: str, last: str) -> None:
    assert etl.Mailbox(TOPIC, first, last)


@pytest.mark.parametrize(("first", "last", "why"), NAMES["refused"])
def test_refused_names_are_refused(first: str, last: str, why: str) -> None:
    with pytest.raises(etl.SettingsError, match=r"MBD_FIRST_NAME"):
        etl.Mailbox(TOPIC, first, last)


@pytest.mark.parametrize("names", NAMES["derived"], ids=lambda names: names["prefix"])
def test_derived_names_are_those_of_the_contract(names: dict[str, str]) -> None:
    mailbox = etl.Mailbox(TOPIC, names["first"], names["last"])
    subjects = mailbox.subject(success=True), mailbox.subject(success=False)
    assert subjects == (names["subject_success"], names["subject_failure"])
    environment = {"MBD_FIRST_NAME": names["first"], "MBD_LAST_NAME": names["last"]}
    assert etl.source_bucket(environment) == names["source_bucket"]


def test_defaults_are_those_of_the_contract() -> None:
    environment = {"MBD_FIRST_NAME": "Ada", "MBD_LAST_NAME": "Lovelace", "MBD_TOPIC_ARN": TOPIC}
    settings, defaults = etl.read_settings(environment), DEFAULTS["settings"]
    assert settings.grace_seconds == DEFAULT_GRACE_SECONDS == defaults["MBD_GATE_GRACE_SECONDS"]
    assert settings.shards == defaults["MBD_SHARDS"]


def test_run_ids_of_the_trigger_are_names_of_files() -> None:
    conf = contract("conf")
    assert re.fullmatch(conf["dag_run_id_rule"], conf["dag_run_id"])
    assert "/" not in conf["dag_run_id"]
