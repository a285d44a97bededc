"""Rules of the house that no linter knows: who may use which library, sizes, private names, named queries."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.table.database import QUERIES
from tests.support.paths import ROOT

LIBRARIES = {  # what a package may import in addition to the standard library and itself
    "etl": {  # compression: of the standard library since 3.14
        "apprise",
        "backports",
        "boto3",
        "botocore",
        "compression",
        "jinja2",
        "markupsafe",
        "obstore",
        "pandas",
        "psycopg2",
        "tqdm",
    },
    "trigger": {"requests"},  # in the function's zip; the awscli layer is called as a program
    "infra_scripts": {"boto3", "botocore", "tqdm"},  # they run where the pipeline is not installed
    "infra_scripts/instance": set(),  # the instance's own Python has none
    "airflow/dags": {"airflow", "etl", "openlineage"},  # the last where its provider is installed
}
FOR_TYPES_ONLY = {"mypy_boto3_"}  # in blocks that never run
LONGEST_MODULE = 300  # lines; one that is longer says why at its top: "Long because ..."
PACKAGES = ("etl", "trigger", "infra_scripts")


def modules(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if ".build" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""


@pytest.mark.parametrize("folder", LIBRARIES)
def test_package_uses_only_the_libraries_that_it_may(folder: str) -> None:
    allowed = LIBRARIES[folder] | {folder.partition("/")[0]} | set(sys.stdlib_module_names)
    foreign = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(folder)
        for name in imports(path)
        if name.partition(".")[0] not in allowed and not name.startswith(tuple(FOR_TYPES_ONLY))
    }
    assert foreign == set()


def test_dag_knows_only_the_face_of_etl() -> None:
    [dag] = modules("airflow/dags")
    assert {name for name in imports(dag) if name.startswith("etl")} == {"etl"}
    assert not re.findall(r"\betl\.(?:batch|files|table|outcome|pipeline)\b", dag.read_text(encoding="utf-8"))


def test_long_module_says_why() -> None:
    files = [path for folder in (*PACKAGES, "airflow") for path in (ROOT / folder).rglob("*.*") if _is_code(path)]
    assert len(files) > 80
    long = [path for path in files if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_MODULE]
    assert [path.name for path in long if "Long because" not in path.read_text(encoding="utf-8")[:1500]] == []


def test_private_name_means_one_thing_in_a_package() -> None:
    twice: dict[str, int] = {}
    for package in PACKAGES:
        names = Counter(name for path in modules(package) for name in private_names(path))
        twice |= {f"{package}: {name}": count for name, count in names.items() if count > 1}
    assert twice == {}


def private_names(path: Path) -> set[str]:
    """Names with one underscore that a module defines at its top."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return {name for name in found if re.match("_[^_]", name)}


def test_no_test_imports_a_conftest() -> None:
    importing = [path for path in modules("tests") if any("conftest" in name for name in imports(path))]
    assert importing == []


def test_every_named_query_is_used_and_every_used_one_exists() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in modules("etl"))
    used = re.findall(r'query\(\s*[\w.]+,\s*"(\w+)"', code) + re.findall(r'QUERIES\["(\w+)"\]', code)
    assert set(used) == set(QUERIES)


def _is_code(path: Path) -> bool:
    ignored = {".build", "__pycache__"} & set(path.parts)
    return path.suffix in (".py", ".sh", ".sql", ".js", ".yml", ".cpp") and not ignored
