"""What is shipped and what is installed: licences, and locks that let nothing else in."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import parts
from tests.support.paths import ROOT

LOCKS = [ROOT / name for name in subprocess.check_output(["git", "ls-files", "*.lock"], cwd=ROOT, text=True).split()]
ENTRY = re.compile(r"[\w.\[\]-]+==[^ ]+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+")
NODE_LOCKS = [ROOT / "package-lock.json", ROOT / "tests" / "proof" / "versions" / "package-lock.json"]


def test_every_licence_of_what_is_shipped_is_allowed() -> None:
    shipped = parts.shipped()
    assert {part.shipped_in for part in shipped} == {"library", "function", "layer"}
    assert [(part.name, refused) for part in shipped if (refused := part.refused())] == []
    assert {"psycopg2-binary", "requests", "awscli"} <= {part.name for part in shipped}


@pytest.mark.parametrize("licences", [("AGPL-3.0",), ("MIT", "GNU General Public License (GPL)"), ()], ids=str)
def test_other_licence_or_none_is_refused(licences: tuple[str, ...]) -> None:
    assert parts.Part("library", "one", "1", licences).refused()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_locked_package_has_a_version_and_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    entries = text.replace("\\\n", "").splitlines()
    assert entries
    assert [entry for entry in entries if not ENTRY.fullmatch(entry)] == []


@pytest.mark.parametrize("lock", NODE_LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_locked_package_of_node_has_a_hash_and_no_address(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    assert [name for name, facts in packages.items() if name and "integrity" not in facts] == []
    assert [name for name, facts in packages.items() if "resolved" in facts] == []


VULNERABLE = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
HARMLESS = {"name": "b", "version": "1", "vulns": []}
UNKNOWN = {"name": "c", "skip_reason": "c is not found"}


@pytest.mark.parametrize(
    ("answer", "said", "code"),
    [
        ({"dependencies": [HARMLESS]}, "requirements.lock: looked up, 0 known to be vulnerable\n", 0),
        ({"dependencies": [HARMLESS, VULNERABLE]}, "1 known to be vulnerable\n  a 1: CVE-1, fixed in 2\n", 1),
        ({"dependencies": [HARMLESS, UNKNOWN]}, "NOT LOOKED UP: 1 of 2 packages; the first: c is not found", 3),
        ({"vulnerabilities": {"d": {"severity": "high"}}}, "package-lock.json: looked up, 1 known", 1),
        ({"message": "405 Method Not Allowed"}, "package-lock.json: NOT LOOKED UP: 405 Method Not Allowed", 3),
    ],
    ids=["harmless", "vulnerable", "unknown", "vulnerable in npm", "refused"],
)
def test_audit_says_what_is_known_and_what_was_not_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: dict[str, object], said: str, code: int
) -> None:
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    program = tmp_path / "audit"
    program.write_text(f"#!/bin/sh\ncat '{tmp_path}/answer.json'\n")
    program.chmod(0o755)
    assert parts.audit(str(program), npm=str(program)) == code
    assert said in capsys.readouterr().out


def test_audit_without_its_programs_looks_nothing_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert parts.audit("not-there", npm="not-there") == 3
    assert "trigger/layer.lock: NOT LOOKED UP: not-there is not installed" in capsys.readouterr().out
