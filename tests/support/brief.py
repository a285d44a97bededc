"""The course's brief as data: tests/data/brief.json, with somebody's names filled in."""

import json

from tests.support.paths import DATA

_TEXT = (DATA / "brief.json").read_text(encoding="utf-8")

BRIEF = json.loads(
    _TEXT.replace("{first}", "ada")
    .replace("{last}", "lovelace")
    .replace("{First}", "Ada")
    .replace("{Last}", "Lovelace")
)
"""For Ada Lovelace."""
