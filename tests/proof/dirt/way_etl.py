"""This project: `mbd init-db` and `mbd run`, in this process."""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout

from etl.cli import main
from tests.proof.dirt.batch import Batch, Said, ToolError


def usual(batch: Batch) -> Said:
    os.environ["MBD_DATABASE_URL"] = batch.url
    output = batch.folder.with_name("Output")
    places = ["--source", str(batch.folder), "--company-index", str(batch.folder.with_name("index.txt"))]
    _call("init-db")
    receipt = json.loads(_call("run", *places, "--output", str(output), "--json", "--quiet", "--no-report"))
    said = {one["file"]: one["reason"] for one in receipt["quarantined"]}
    with (output / "rejected_rows.csv").open(newline="", encoding="utf-8") as rejected:
        return said | {row["file"]: row["reason"] for row in csv.DictReader(rejected)}


def _call(*arguments: str) -> str:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(list(arguments))
    if code:
        raise ToolError(err.getvalue().strip())
    return out.getvalue()
