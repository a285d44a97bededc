"""The package gets the native checker where a C++ compiler is there, and is built without it where none is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hatch_build import LIBRARY, compile_library
from tests.support.paths import ROOT

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler is installed"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What the package is built from, in a folder with a blank in its name; nothing has been compiled there."""
    copy = tmp_path / "moving big data"
    shutil.copytree(ROOT / "etl", copy / "etl", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PATH is one empty folder, $CXX names nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    return folder


def build(source: Path, *, target: str = "wheel") -> tuple[Path, str]:
    """The wheel, and what was said."""
    target_folder = source.parent / "dist"
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(target_folder)]
    done = subprocess.run(command, cwd=source, env=dict(os.environ), capture_output=True, text=True, check=True)
    (wheel,) = target_folder.glob("*.whl")
    return wheel, done.stdout + done.stderr


def files(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as packed:
        return packed.namelist()


@needs_compiler
def test_wheel_holds_the_native_checker_and_is_one_of_this_platform(source: Path) -> None:
    wheel, _ = build(source)
    assert LIBRARY.as_posix() in files(wheel)
    assert "etl/files/plain_rows.cpp" in files(wheel)
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    assert not (source / LIBRARY).exists()


@needs_compiler
def test_editable_install_has_it_in_place_where_git_ignores_it(source: Path) -> None:
    wheel, _ = build(source, target="wheel:editable")
    assert (source / LIBRARY).exists()
    assert LIBRARY.as_posix() not in files(wheel)
    assert LIBRARY.as_posix() in (ROOT / ".gitignore").read_text().splitlines()


def test_without_a_compiler_the_package_is_built_and_one_line_says_what_to_install(
    source: Path, no_compiler: Path
) -> None:
    wheel, said = build(source)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert LIBRARY.as_posix() not in files(wheel)
    (line,) = [line for line in said.splitlines() if "native checker" in line]
    assert "no C++ compiler was found" in line
    assert "apt install g++" in line


def test_compiler_that_fails_leaves_no_library_of_before(source: Path, no_compiler: Path) -> None:
    compiler = no_compiler / "c++"
    compiler.write_text("#!/bin/sh\necho 'c++: out of disk' >&2\necho more >&2\nexit 1\n")
    compiler.chmod(0o755)
    (source / LIBRARY).write_bytes(b"of an older source")
    _, said = build(source, target="wheel:editable")
    assert not (source / LIBRARY).exists()
    (line,) = [line for line in said.splitlines() if "native checker" in line]
    assert "c++: out of disk. Install a C++17 compiler" in line


@needs_compiler
def test_compiler_of_the_environment_may_have_blanks_and_options(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    mine = tmp_path / "my compiler"
    mine.write_text(f'#!/bin/sh\necho "$1" >{tmp_path}/called\nexec {compiler} "$@"\n')
    mine.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{mine}' -Wall")
    compile_library(source / "etl/files/plain_rows.cpp", tmp_path / "built.so")
    assert (tmp_path / "called").read_text() == "-Wall\n"
    assert (tmp_path / "built.so").exists()
