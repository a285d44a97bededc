"""`etl/__init__.py` is the whole public face."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import etl
from etl import errors

BODY = ast.parse(Path(etl.__file__).read_text()).body


def test_face_holds_no_logic() -> None:
    assert [type(node) for node in BODY[1:-1]] == [ast.ImportFrom] * (len(BODY) - 2)
    assert isinstance(BODY[-1], ast.Assign)


def test_face_is_what_it_imports_in_order() -> None:
    imported = [alias.name for node in BODY if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert etl.__all__ == sorted(imported)


def test_every_name_of_the_face_is_documented() -> None:
    assert not [name for name in etl.__all__ if not getattr(etl, name).__doc__]


def test_every_error_of_the_face_has_its_exit_code() -> None:
    codes = {error: error.exit_code for error in (etl.BatchError, etl.SettingsError, etl.ServiceError)}
    assert codes == {etl.BatchError: 1, etl.SettingsError: 2, etl.ServiceError: 3}
    assert all(issubclass(error, etl.EtlError) for error in codes)


def test_drawn_tree_of_errors_is_the_tree() -> None:
    drawn: list[tuple[str, str]] = []
    path: list[str] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if name.endswith("Error"):
            depth = (len(line) - len(line.lstrip(" │├└─"))) // 4
            path[depth:] = [name]
            drawn.append((name, path[depth - 1] if depth else "Exception"))
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert sorted(drawn) == sorted((one.__name__, one.__bases__[0].__name__) for one in classes)


def test_importing_etl_loads_neither_airflow_nor_the_trigger_nor_pandas() -> None:
    # pandas costs half a second, which no load needs
    script = "import sys, etl; print(sorted({'airflow', 'trigger', 'requests', 'pandas'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_target_shows_no_password() -> None:
    assert "hunter2" not in repr(etl.Target("postgresql://loader:hunter2@localhost/stocks"))
