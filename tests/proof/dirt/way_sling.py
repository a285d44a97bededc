"""sling: a folder of files to a table, by its command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import sling_linux_amd64

from tests.proof.dirt.batch import FIELDS, TABLE, Batch, Said, run_program

_PRICE = "numeric NOT NULL CHECK ({0} >= 0 AND {0} < 'Infinity')"
_TABLE = f"""CREATE TABLE "public"."{TABLE}" (
    date date NOT NULL, {", ".join(f"{name} {_PRICE.format(name)}" for name in ("open", "high", "low", "close"))},
    volume bigint NOT NULL CHECK (volume >= 0), _sling_stream_url text NOT NULL, UNIQUE (_sling_stream_url, date)
)"""


def usual(batch: Batch) -> Said:
    _run(batch)
    return {}


def careful(batch: Batch) -> Said:
    """The table's definition has types and constraints; a row that breaks one ends the run.

    sling's own constraints would too, but they need a paid token: without one it warns and goes on.
    """
    options = json.dumps({"table_ddl": _TABLE})
    _run(batch, "--tgt-options", options, "--select", ",".join((*FIELDS, "_sling_stream_url")))
    return {}


def _run(batch: Batch, *options: str) -> None:
    [program] = Path(sling_linux_amd64.__path__[0]).glob("bin/sling-*")
    os.environ |= {
        "SLING_DISABLE_TELEMETRY": "true",
        "SLING_HOME_DIR": str(batch.folder.with_name("sling")),
        "SLING_STREAM_URL_COLUMN": "true",
    }
    source = ["--src-stream", f"file://{batch.folder}/"]
    target = ["--tgt-conn", f"{batch.url}?sslmode=disable", "--tgt-object", f"public.{TABLE}"]
    run_program([str(program), "run", *source, *target, "--mode", "full-refresh", *options])
