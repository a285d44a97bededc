"""What the pages say that the platform costs is what `plan` computes."""

from __future__ import annotations

from infra_scripts.platform.costs import describe_costs, monthly_costs
from infra_scripts.settings import read_settings
from tests.support.paths import ROOT
from tests.support.person import SETTINGS


def test_pages_name_the_costs_that_plan_computes() -> None:
    settings = read_settings({**SETTINGS, "MBD_SCALE_TO_ZERO": "on"})
    always, stopped, with_scale_to_zero = (
        line.split("about ")[-1].split("About ")[-1].split(" USD")[0] for line in describe_costs(settings)[:3]
    )
    parts = monthly_costs(settings)
    assert parts is not None
    assert always == f"{sum(parts.values()):.0f}"
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"about {always} USD a month, or {with_scale_to_zero} with an instance that stops itself" in readme
    page = (ROOT / "docs" / "aws.md").read_text("utf-8")
    for row in (
        f"| everything always on | {always}:",
        f"| `MBD_SCALE_TO_ZERO=on`, an hour a day | {with_scale_to_zero}:",
        f"| `stop` | {stopped}:",
    ):
        assert row in page


def test_what_is_stopped_costs_nothing_by_the_hour_and_the_rest_as_before() -> None:
    settings = read_settings(SETTINGS)
    running, stopped = monthly_costs(settings), monthly_costs(settings, hours=0)
    assert running
    assert stopped == {**running, "instance": 0, "database": 0}
    assert min(running.values()) > 0
