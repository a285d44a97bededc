"""The trigger service as serverless sees it: what it derives from settings, and a real deployment to ministack."""

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
    """What a deployment lacks, and how to get it; None if nothing is missing."""
    if shutil.which("node") is None or shutil.which("npx") is None:
        return "Node.js 20 or newer is missing (npx was not found): install it, for example Debian's nodejs and npm"
    if not (ROOT / "node_modules" / "osls").is_dir():
        return "serverless is missing: run make package, which installs it (npm ci)"
    return None


def derive(settings: Mapping[str, str], *, options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What trigger/deployment.js makes of an environment: names, settings and problems. Needs node."""
    given = json.dumps({"env": dict(settings), "options": dict(options or {})})
    code = "console.log(JSON.stringify(require(process.argv[1])(JSON.parse(process.argv[2]))))"
    done = subprocess.run(
        ["node", "-e", code, ROOT / "trigger" / "deployment.js", given], capture_output=True, text=True, check=True
    )
    derived: dict[str, Any] = json.loads(done.stdout)
    return derived


_UNSET = (
    "MBD_INSTANCE_ID",
    "MBD_TRANSPORT",
    "AIRFLOW_CERTIFICATE_SHA256",
    "MBD_PROFILE",
    "MBD_TRIGGER_DRY_RUN",
    "MBD_WATCHDOG_MINUTES",
    "MBD_EXPECT_BY",
    "MBD_HOLIDAYS",
    "MBD_RESERVED_CONCURRENCY",
)


def environment(settings: Mapping[str, str], *, home: Path) -> dict[str, str]:
    """That of `npx serverless` with these settings, which also point it at AWS, and with those of no .env file."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "NO_PROXY": HOST,
        "SLS_AWS_MONITORING_FREQUENCY": "500",
        "SLS_NOTIFICATIONS_MODE": "off",
        "NODE_NO_WARNINGS": "1",
        "npm_config_update_notifier": "false",
        **dict.fromkeys(_UNSET, ""),
        **settings,
    }


class Deployment:
    """`npx serverless ...` with these settings, which also point it at AWS, and of no .env file."""

    def __init__(self, settings: Mapping[str, str], *, home: Path) -> None:
        self._environment = environment(settings, home=home)

    def run(self, *arguments: str, seconds: float = 180) -> str:
        """Returns what it printed. Raises StackError with the output if it fails."""
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
        """Call a deployed function and wait for its answer, which is returned."""
        given = ["--data", json.dumps(data)] if data is not None else []
        return json.loads(self.run("invoke", "--function", function, *given))
