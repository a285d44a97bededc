"""psql's \\copy, file by file in one transaction: into a table of text, into a typed one, through a staging table."""

from __future__ import annotations

from pathlib import Path

from tests.proof.dirt.batch import FIELDS, TABLE, Batch, Said, company_name, run_program

_COLUMNS = ", ".join((*FIELDS, "OpenInt"))
_EXACT = ", ".join(f'"{name}"' for name in (*FIELDS, "OpenInt"))  # so that HEADER match finds them
_AS_TEXT = ", ".join(f"{name} varchar(56)" for name in (*FIELDS, "OpenInt", "company_name"))
_TYPED = (
    "date date, open numeric, high numeric, low numeric, close numeric, volume bigint, openint numeric, "
    "company_name text"
)
_CHECKED = Path(__file__).with_name("psql_checked.sql")


def text(batch: Batch) -> Said:
    _copy_files(batch, _AS_TEXT)
    return {}


def typed(batch: Batch) -> Said:
    _copy_files(batch, _TYPED)
    return {}


def careful(batch: Batch) -> Said:
    """Each file in a savepoint of its own (ON_ERROR_ROLLBACK), names of columns compared, each row checked in SQL."""
    copies = [
        f"INSERT INTO files VALUES ({_quoted(company_name(file))});\n"
        f"ALTER TABLE staging ALTER company_name SET DEFAULT {_quoted(company_name(file))};\n"
        f"\\copy staging ({_EXACT}) FROM {_quoted(file)} (FORMAT csv, HEADER match)\n"
        for file in batch.files()
    ]
    begin, end = _CHECKED.read_text(encoding="utf-8").split("-- files\n")
    refused = _psql(batch, begin + "".join(copies) + end)
    return {line.partition("\t")[0]: line.partition("\t")[2] for line in refused.splitlines()}


def _copy_files(batch: Batch, columns: str) -> None:
    script = f"CREATE TABLE {TABLE} ({columns});\n"
    for file in batch.files():
        script += f"ALTER TABLE {TABLE} ALTER company_name SET DEFAULT {_quoted(company_name(file))};\n"
        script += f"\\copy {TABLE} ({_COLUMNS}) FROM {_quoted(file)} (FORMAT csv, HEADER)\n"
    _psql(batch, script, "-v", "ON_ERROR_STOP=1", "--single-transaction")


def _psql(batch: Batch, script: str, *options: str) -> str:
    return run_program(["psql", batch.url, "--no-psqlrc", "-qtA", "-F", "\t", *options, "-f", "-"], script=script)


def _quoted(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
