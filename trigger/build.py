"""Builds the function's zip and the awscli layer's zip from the locks and the code in this folder.

    python -m trigger.build

Compiled code is removed (each such module only speeds up a Python one), so the zips suit every architecture, and the
same sources give the same bytes. Both are in trigger/.build/, also unpacked.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

RUNTIME = "3.13"  # as in serverless.yml
LARGEST_ZIP_BYTES = 50 << 20  # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LARGEST_UNPACKED_BYTES = 250 << 20  # of function and layers together
_HERE = Path(__file__).parent
BUILD = _HERE / ".build"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold

_AWS = """\
#!/bin/sh
PYTHONPATH="$(dirname "$0")/../python${PYTHONPATH:+:$PYTHONPATH}" exec python3 -m awscli "$@"
"""


def build_function(folder: Path) -> None:
    """Put requests, what it needs, and this package without build.py into the folder."""
    _install(_HERE / "function.lock", folder)
    (folder / "trigger").mkdir()
    for module in _HERE.glob("*.py"):
        if module.name != Path(__file__).name:
            shutil.copy(module, folder / "trigger")


def build_layer(folder: Path) -> None:
    """Put awscli into the folder, importable and as the command `aws`, without examples and help topics."""
    _install(_HERE / "layer.lock", folder / "python")
    for unused in ("examples", "topics"):
        shutil.rmtree(folder / "python" / "awscli" / unused)
    command = folder / "bin" / "aws"
    command.parent.mkdir()
    command.write_text(_AWS)
    command.chmod(0o755)


def _install(lock: Path, folder: Path) -> None:
    """Install wheels for Lambda, whatever Python runs this, without scripts, which would name this machine's Python."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    pip += ["--no-deps", "--require-hashes"]
    wheels = ["--only-binary=:all:", "--platform=manylinux2014_aarch64", f"--python-version={RUNTIME}"]
    subprocess.run([*pip, *wheels, f"--target={folder}", f"--requirement={lock}"], check=True)  # noqa: S603
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for compiled in folder.rglob("*.so"):
        compiled.unlink()


def _zip(folder: Path) -> Path:
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                entry = zipfile.ZipInfo(str(path.relative_to(folder)), _EPOCH)
                entry.external_attr = (0o100755 if path.parent.name == "bin" else 0o100644) << 16
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return target


def main() -> int:
    shutil.rmtree(BUILD, ignore_errors=True)
    unpacked = 0
    for name, build in (("function", build_function), ("layer", build_layer)):
        folder = BUILD / name
        folder.mkdir(parents=True)
        build(folder)
        zipped = _zip(folder).stat().st_size
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        unpacked += size
        print(f"{name:<9} {zipped / 1e6:6.1f} MB zipped, {size / 1e6:6.1f} MB unpacked")
        if zipped > LARGEST_ZIP_BYTES or unpacked > LARGEST_UNPACKED_BYTES:
            print(f"{name} is too large for Lambda (50 MB zipped, 250 MB unpacked in all)", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
