"""What infra_scripts share with the other packages is as tests/data/contracts has it."""

from __future__ import annotations

import json

import pytest

from infra_scripts.commands import init, trigger, upload
from infra_scripts.errors import SettingsError
from infra_scripts.instance import idle_stop
from infra_scripts.names import Names
from infra_scripts.settings import read_settings
from tests.support.paths import ROOT

CONTRACTS = ROOT / "tests" / "data" / "contracts"
NAMES = json.loads((CONTRACTS / "names.json").read_text(encoding="utf-8"))
DEFAULTS = json.loads((CONTRACTS / "defaults.json").read_text(encoding="utf-8"))
ADA = {"MBD_FIRST_NAME": "Ada", "MBD_LAST_NAME": "Lovelace", "AWS_REGION": "eu-west-1"}


@pytest.mark.parametrize(("first", "last"), NAMES["accepted"])
def test_names_that_every_package_accepts_are_accepted(first: str, last: str) -> None:
    assert Names(first, last).prefix == f"de-mbd-predict-{first}-{last}".lower()


@pytest.mark.parametrize(("first", "last", "why"), NAMES["refused"])
def test_names_that_every_package_refuses_are_refused(first: str, last: str, why: str) -> None:
    with pytest.raises(SettingsError, match=r"MBD_FIRST_NAME|MBD_LAST_NAME"):
        Names(first, last)


@pytest.mark.parametrize("expected", NAMES["derived"], ids=lambda one: one["prefix"])
def test_resources_have_the_names_that_every_package_derives(expected: dict[str, str]) -> None:
    names = Names(expected["first"], expected["last"])
    ours = [key for key in expected if not key.startswith("subject_")]
    assert len(ours) == 9
    assert {key: getattr(names, key) for key in ours} == {key: expected[key] for key in ours}


def test_stages_that_can_be_deployed_are_those_whose_stacks_are_found() -> None:
    names = Names("Ada", "Lovelace")
    found = {
        stage: names.is_trigger_stack(f"{names.trigger_stack}-{stage}")
        for stage in [*NAMES["stages"]["accepted"], *NAMES["stages"]["refused"]]
    }
    assert [stage for stage in found if found[stage]] == NAMES["stages"]["accepted"]


@pytest.mark.parametrize("case", DEFAULTS["transport"], ids=str)
def test_the_transport_follows_the_rule_of_the_trigger(case: dict[str, dict[str, str] | str]) -> None:
    environment = case["environment"]
    assert isinstance(environment, dict)
    assert read_settings({**ADA, **environment}).transport == case["transport"]


def test_settings_that_are_left_out_have_the_shared_defaults() -> None:
    shared = DEFAULTS["settings"]
    settings = read_settings(ADA)
    assert settings.profile == shared["MBD_PROFILE"]
    assert settings.instance_type == shared["MBD_INSTANCE_TYPE"]
    assert settings.scale_to_zero is (shared["MBD_SCALE_TO_ZERO"] == "on")
    assert shared["MBD_IDLE_MINUTES"] == idle_stop.IDLE_MINUTES
    assert {one.variable: one.default for one in init._QUESTIONS}["AWS_REGION"] == shared["AWS_REGION"]


def test_names_and_places_are_those_of_the_other_packages() -> None:
    assert DEFAULTS["dag_id"] == idle_stop.DAG_ID
    assert DEFAULTS["company_index_key"] == upload.INDEX_KEY
    assert (
        DEFAULTS["receipts_prefix"],
        DEFAULTS["receipts_prefix"] + DEFAULTS["marker_run_prefix"],
    ) == (trigger.RECEIPTS, trigger.RECEIPTS + trigger._RUN)
