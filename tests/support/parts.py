"""Lists what is shipped with its licences, and looks up what is known to be vulnerable.

python -m tests.support.parts licences | audit --pip-audit COMMAND

Shipped are the library with what it needs (on AWS: on top of Airflow's image), and the two zips of the trigger. Node.js
only deploys: nothing of node_modules is shipped.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

import trigger.build
from tests.support.paths import ROOT

LOCKS = ("requirements.lock", "trigger/function.lock", "trigger/layer.lock")
ALLOWED = {  # as packages spell them: MIT, BSD, Apache, ISC, Python, MPL and LGPL; none asks for our own code
    "0BSD", "Apache License 2.0", "Apache Software License", "Apache-2.0", "BSD License", "BSD-2-Clause",
    "BSD-3-Clause", "CC0-1.0", "GNU Library or Lesser General Public License (LGPL)", "ISC", "MIT", "MIT License",
    "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)", "PSF-2.0", "Public Domain",
    "Python Software Foundation License", "Zlib",
}  # fmt: skip
LOOKED_AT = {"docutils": "General Public License"}  # of tools for an editor, which are not in its wheel


@dataclass(frozen=True)
class Part:
    """One package that is shipped, and in what."""

    shipped_in: str
    name: str
    version: str
    licences: tuple[str, ...]

    def refused(self) -> list[str]:
        """Its licences that are not allowed."""
        known = LOOKED_AT.get(self.name, "\n")
        return [one for one in self.licences or ("none is named",) if one not in ALLOWED and known not in one]


def shipped() -> list[Part]:
    """Every package that is shipped, by what it is shipped in and by name."""
    rooms = {
        "library": _closure("moving-big-data", {"channels"}),
        "function": distributions(path=[str(trigger.build.BUILD / "function")]),
        "layer": distributions(path=[str(trigger.build.BUILD / "layer" / "python")]),
    }
    parts = (
        Part(room, _normal(one.name), one.version, tuple(_licences(one)))
        for room, all_ in rooms.items()
        for one in all_
    )
    return sorted(set(parts), key=lambda part: (list(rooms).index(part.shipped_in), part.name))


def _closure(name: str, extras: set[str]) -> Iterable[Distribution]:
    """What a package needs, directly or through others, without itself."""
    found: dict[str, Distribution] = {}
    waiting = [(name, extras)]
    while waiting:
        needing, asked = waiting.pop()
        for line in distribution(needing).requires or ():
            needed = Requirement(line)
            if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in (asked or {""})):
                continue
            if _normal(needed.name) not in found:
                found[_normal(needed.name)] = distribution(needed.name)
                waiting.append((needed.name, needed.extras))
    return found.values()


def _licences(package: Distribution) -> Iterator[str]:
    """The licences that a package names: its expression, else its classifiers, else its free text."""
    facts = package.metadata.json
    expression, free = (str(facts.get(name) or "").partition("\n")[0] for name in ("license_expression", "license"))
    named = [line.rpartition(" :: ")[2] for line in facts.get("classifier", ()) if "License ::" in line]
    if expression or not named:
        named = re.split(" AND | OR ", expression or free)
    yield from (name.strip("() ") if expression else name for name in named if name)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def table(parts: Iterable[Part]) -> str:
    """A table in Markdown, one row a part."""
    rows = (f"| {part.shipped_in} | {part.name} | {part.version} | {', '.join(part.licences)} |" for part in parts)
    return "\n".join(("| in | package | version | licence |", "|---|---|---|---|", *rows))


def audit(pip_audit: str, *, npm: str = "npm") -> int:
    """Looks up every lock and node_modules. 1: something is known to be vulnerable; 3: not everything was looked up."""
    answers = {
        **{lock: _answer([pip_audit, "--disable-pip", "--requirement", lock, "--format", "json"]) for lock in LOCKS},
        "package-lock.json": _answer([npm, "audit", "--json"]),
    }
    for name, (known, missing) in answers.items():
        print(
            f"{name}: NOT LOOKED UP: {missing}"
            if missing
            else f"{name}: looked up, {len(known)} known to be vulnerable"
        )
        print(*(f"  {line}\n" for line in known), sep="", end="")
    if any(known for known, _ in answers.values()):
        return 1
    return 3 if any(missing for _, missing in answers.values()) else 0


def _answer(command: Sequence[str]) -> tuple[list[str], str]:
    """What is known to be vulnerable, a line each; what was not looked up and why, empty when all was."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout)
    except FileNotFoundError:
        return [], f"{command[0]} is not installed"
    except ValueError:
        return [], (done.stderr.strip().splitlines() or ["no database is in reach"])[-1]
    if "dependencies" in answer:
        packages = answer["dependencies"]
        skipped = [one["skip_reason"] for one in packages if "skip_reason" in one]
        known = [
            f"{one['name']} {one['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'none'}"
            for one in packages
            for fault in one.get("vulns", ())
        ]
        return known, f"{len(skipped)} of {len(packages)} packages; the first: {skipped[0]}" if skipped else ""
    if "vulnerabilities" in answer:
        return [f"{name}: {facts['severity']}" for name, facts in answer["vulnerabilities"].items()], ""
    return [], str(answer.get("message") or answer.get("error") or "no database is in reach")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("licences", help="list what is shipped")
    commands.add_parser("audit", help="look up what is known").add_argument("--pip-audit", required=True)
    asked = parser.parse_args(arguments)
    if asked.command == "audit":
        return audit(str(Path(asked.pip_audit).absolute()))
    print(table(shipped()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
