"""Estimates the platform's monthly cost from the price list in prices.json."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from infra_scripts.settings import Settings

HOURS_A_MONTH = 730
_DATABASE_GIGABYTES, _INSTANCE_GIGABYTES = 20, 30  # as in platform.yml


def read_prices() -> dict[str, Any]:
    """prices.json: its date and source, what costs the same everywhere, and USD for each unit by region."""
    text = resources.files("infra_scripts.platform").joinpath("prices.json").read_text("utf-8")
    prices: dict[str, Any] = json.loads(text)
    return prices


def monthly_costs(settings: Settings, *, hours: float = HOURS_A_MONTH) -> dict[str, float] | None:
    """USD a month for each part when instance and database run `hours`; None for an instance type without a price."""
    prices = read_prices()
    here = _of_region(prices, settings=settings)
    instance_hour = here["instance_hour"].get(settings.instance_type)
    if instance_hour is None:
        return None
    return {
        "instance": instance_hour * hours,
        "database": here["database_hour"] * hours,
        "public address": prices["address_hour"] * HOURS_A_MONTH,
        "database's address": prices["address_hour"] * HOURS_A_MONTH,
        "instance's disk": here["instance_storage_gigabyte_month"] * _INSTANCE_GIGABYTES,
        "database's disk": here["database_storage_gigabyte_month"] * _DATABASE_GIGABYTES,
        "secret": prices["secret_month"],
        "bucket (1 GB)": here["bucket_gigabyte_month"],
    }


def describe_costs(settings: Settings) -> list[str]:
    """The estimate as lines: running all the time with each part, and stopped; in profile course what others add."""
    prices = read_prices()
    lines = _describe_estimate(settings)
    if settings.profile == "course":
        stored, sent = (
            _of_region(prices, settings=settings)["bucket_gigabyte_month"],
            prices["sent_to_internet_gigabyte"],
        )
        lines.append(
            f"  WARNING: the public monitored bucket has no limit. What others put there costs you {stored} USD a GB "
            f"and month until it expires after a day, and {sent} USD for each GB that they fetch. Set an alarm in AWS "
            "Budgets."
        )
    known = settings.region in prices["regions"]
    region = settings.region if known else prices["default_region"]
    other = "" if known else f"; those of {settings.region} may differ by some 30 %"
    lines.append(f"  List prices of {region} as of {prices['as_of']}, without tax and without the free tier{other}.")
    return lines


def _describe_estimate(settings: Settings) -> list[str]:
    running, stopped = monthly_costs(settings), monthly_costs(settings, hours=0)
    if running is None or stopped is None:
        return [f"Cost: not known for {settings.instance_type} (see aws.amazon.com/ec2/pricing/on-demand)."]
    parts = ", ".join(f"{name} {dollars:.2f}" for name, dollars in running.items())
    lines = [
        f"Cost: about {sum(running.values()):.0f} USD a month when it runs all the time: {parts}.",
        f"  About {sum(stopped.values()):.0f} USD a month while instance and database are stopped "
        "(`stop`; AWS starts the database again after 7 days).",
    ]
    if settings.scale_to_zero:
        once = sum(running.values()) - running["instance"] * (1 - 30 / HOURS_A_MONTH)
        lines.append(
            f"  About {once:.0f} USD a month with scale to zero and an hour of runs a day; the database keeps running."
        )
    return lines


def _of_region(prices: dict[str, Any], *, settings: Settings) -> dict[str, Any]:
    here: dict[str, Any] = prices["regions"].get(settings.region) or prices["regions"][prices["default_region"]]
    return here
