"""Compiles the native checker while the package is built; where that fails, the package is built without it."""

from __future__ import annotations

import atexit
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SOURCE = Path("etl/files/plain_rows.cpp")
LIBRARY = Path("etl/files/_plain_rows.so")  # ctypes loads it under this name on macOS too
FLAGS = ("-std=c++17", "-fPIC", "-shared", "-ffp-contract=off")  # a fused multiply-add would round once less
_STATIC = ("-static-libstdc++", "-static-libgcc")  # so that the library also runs where no libstdc++ or an older one is
_SECONDS = 60


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the library to a wheel, which then is one of this platform, or puts it in place for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        in_place = version == "editable"
        if in_place:
            (root / LIBRARY).unlink(missing_ok=True)  # a process that has it open keeps it
        built = root / LIBRARY if in_place else _folder() / LIBRARY.name
        try:
            compile_library(root / SOURCE, built)
        except RuntimeError as error:
            self.app.display_warning(f"Built without the native checker: {error}")
            return
        if not in_place:
            build_data["force_include"][str(built)] = LIBRARY.as_posix()
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"


def compile_library(source: Path, library: Path, *, flags: Sequence[str] = ("-O3",)) -> None:
    """Compile `source` into `library` by $CXX, c++, g++ or clang++, the first that can. Raises RuntimeError."""
    named = [shlex.split(os.environ.get("CXX", "")), ["c++"], ["g++"], ["clang++"]]
    compilers = [command for command in named if command and shutil.which(command[0])]
    if not compilers:
        raise RuntimeError("no C++ compiler was found. Install one (Debian, Ubuntu: apt install g++), build again.")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    common = [*FLAGS, *flags, f'-DMBD_SOURCE="{digest}"', str(source), "-o", str(library)]
    linkings = [()] if sys.platform == "darwin" else [_STATIC, ()]  # Fedora's g++ comes without libstdc++.a
    reason = ""
    for compiler in compilers:
        for linked in linkings:
            try:
                done = subprocess.run(  # noqa: S603 - no shell, and every part is an argument
                    [*compiler, *linked, *common], capture_output=True, text=True, timeout=_SECONDS, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                reason = reason or f"{shlex.join(compiler)}: {error}"
                continue
            if done.returncode == 0:
                return
            reason = reason or (done.stderr.strip() or f"{shlex.join(compiler)} failed").splitlines()[0]
    library.unlink(missing_ok=True)
    raise RuntimeError(f"{reason}. Install a C++17 compiler (Debian, Ubuntu: apt install g++), then build again.")


def _folder() -> Path:
    """A folder that lasts until the wheel is written, which is when this process ends."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _platform() -> str:
    """This platform as a wheel names it, without a promise of other systems that it would run on."""
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
