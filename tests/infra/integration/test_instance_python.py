"""What runs on the instance's own Python works with the oldest that an image has: 3.10 of Ubuntu 22.04."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT


def type_check(script: Path, *, cache: Path) -> subprocess.CompletedProcess[str]:
    """mypy knows of each name in the standard library since when it is there."""
    line = [
        sys.executable,
        "-m",
        "mypy",
        "--python-version=3.10",
        f"--cache-dir={cache}",
        "--config-file=",
        str(script),
    ]
    return subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)


def test_idle_stop_uses_nothing_newer_than_python_3_10(tmp_path: Path) -> None:
    done = type_check(ROOT / "infra_scripts" / "instance" / "idle_stop.py", cache=tmp_path)
    assert done.returncode == 0, done.stdout
    newer = tmp_path / "newer.py"
    newer.write_text("from datetime import UTC\n")
    assert type_check(newer, cache=tmp_path).returncode == 1
