"""Peers that are programs: sling, ingestr, pgloader load a ready combined file with a header, and compute nothing.

Columns are text, so that nothing is spelled in another way. sling and ingestr make their own table.
"""

import os
import sys
from pathlib import Path

from tests.benchmarks.peer_batch import PEER_SCHEMA, TABLE

_URL = os.environ.get("MBD_DATABASE_URL", "")


def sling(combined: Path) -> list[str]:
    import sling_linux_amd64  # noqa: PLC0415  only this peer needs it

    os.environ |= {"SLING_DISABLE_TELEMETRY": "true", "SLING_HOME_DIR": str(combined.with_suffix(".sling"))}
    [program] = Path(sling_linux_amd64.__path__[0]).glob("bin/sling-*")
    source = ["--src-stream", f"file://{combined}", "--src-options", '{"empty_as_null": true}']
    target = ["--tgt-conn", f"{_URL}?sslmode=disable", "--tgt-object", f"{PEER_SCHEMA}.{TABLE}"]
    return [str(program), "run", *source, *target, "--mode", "full-refresh", "--columns", '{"*":"string"}']


def ingestr(combined: Path) -> list[str]:
    os.environ["DISABLE_TELEMETRY"] = "true"
    source = ["--source-uri", f"csv://{combined}", "--source-table", "file"]
    target = ["--dest-uri", f"{_URL}?sslmode=disable", "--dest-table", f"{PEER_SCHEMA}.{TABLE}"]
    columns = ["--columns", ",".join(f"{name}:text" for name in _header(combined))]
    folder = ["--pipelines-dir", str(combined.with_suffix(".ingestr"))]
    program = str(Path(sys.executable).with_name("ingestr"))
    return [program, "ingest", "--yes", "--progress", "log", *source, *target, *columns, *folder]


def pgloader(combined: Path) -> list[str]:
    columns = f"({', '.join(_header(combined))})"
    commands = combined.with_suffix(".load")
    commands.write_text(
        f"LOAD CSV FROM '{combined}' {columns} INTO {_URL} TARGET TABLE public.{TABLE} {columns}\n"
        "WITH skip header = 1, fields terminated by ',';\n"
    )
    return ["pgloader", "--quiet", "--root-dir", str(combined.with_suffix(".pgloader")), str(commands)]


def _header(combined: Path) -> list[str]:
    with combined.open() as file:
        return file.readline().strip().split(",")


if __name__ == "__main__":
    command = {"sling": sling, "ingestr": ingestr, "pgloader": pgloader}[sys.argv[1]](Path(sys.argv[2]))
    os.execvp(command[0], command)  # so that what is measured is the program
