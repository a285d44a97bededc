"""The trigger service, deployed for real by serverless to a ministack server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT
from tests.support.process import HOST, StackError


def missing() -> str | None:
    """What is not there for a deployment, and how to get it; None when all is."""
    if shutil.which("node") is None or shutil.which("npx") is None:
        return "Node.js 20 or newer is missing (npx was not found): install it, for example Debian's nodejs and npm"
    if not (ROOT / "node_modules" / "osls").is_dir():
        return "serverless is missing: run make package, which installs it (npm ci)"
    return None


_UNSET = (
    "MBD_INSTANCE_ID",
    "MBD_TRANSPORT",
    "AIRFLOW_CERTIFICATE_SHA256",
    "MBD_PROFILE",
    "MBD_TRIGGER_DRY_RUN",
    "MBD_WATCHDOG_MINUTES",
    "MBD_RESERVED_CONCURRENCY",
)


class Deployment:
    """`npx serverless ...` with the settings of `environment`, which also points it at AWS, and of nobody's .env."""

    def __init__(self, environment: Mapping[str, str], *, home: Path) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "NO_PROXY": HOST,
            "SLS_AWS_MONITORING_FREQUENCY": "500",
            "SLS_NOTIFICATIONS_MODE": "off",
            "NODE_NO_WARNINGS": "1",
            **dict.fromkeys(_UNSET, ""),
            **environment,
        }

    def run(self, *arguments: str, seconds: float = 180) -> str:
        """What it printed. Raises StackError with the output when it fails."""
        done = subprocess.run(
            ["npx", "serverless", *arguments],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise StackError(f"npx serverless {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr

    def invoke(self, function: str, *, data: Any = None) -> Any:  # noqa: ANN401
        """Call a deployed function and wait; returns its answer."""
        given = ["--data", json.dumps(data)] if data is not None else []
        return json.loads(self.run("invoke", "--function", function, *given))
