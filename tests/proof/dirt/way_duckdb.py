"""duckdb: `read_csv`, and `CREATE TABLE` in PostgreSQL by its extension."""

from __future__ import annotations

from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner as scanner

from tests.proof.dirt.batch import Batch, Said, company_name

_CHECKED = """
    CREATE TABLE checked AS
    WITH typed AS (
        SELECT company_name, try_strptime(trim(Date), '%Y-%m-%d')::DATE AS date, TRY_CAST(Open AS DOUBLE) AS open,
               TRY_CAST(High AS DOUBLE) AS high, TRY_CAST(Low AS DOUBLE) AS low, TRY_CAST(Close AS DOUBLE) AS close,
               TRY_CAST(Volume AS DOUBLE) AS volume
        FROM staging
    ), good AS (
        SELECT DISTINCT * FROM typed
        WHERE date IS NOT NULL AND isfinite(open) AND isfinite(high) AND isfinite(low) AND isfinite(close)
          AND isfinite(volume) AND least(open, high, low, close, volume) >= 0 AND volume = trunc(volume)
    )
    SELECT * FROM good QUALIFY count(*) OVER (PARTITION BY company_name, date) = 1
"""
_LEFT_OUT = """
    SELECT company_name, count(*) - (SELECT count(*) FROM checked WHERE checked.company_name = staging.company_name)
    FROM staging GROUP BY company_name
"""


def usual(batch: Batch) -> Said:
    with _target(batch) as connection:
        files = [str(file) for file in batch.files()]
        connection.execute(
            "CREATE TABLE target.public.prices AS SELECT * FROM read_csv($files, filename = true)", {"files": files}
        )
    return {}


def careful(batch: Batch) -> Said:
    """Each file by itself, everything as text, torn lines to the rejects table; then each row checked in SQL."""
    said: Said = {}
    with _target(batch) as connection:
        connection.execute(
            "CREATE TABLE staging (Date VARCHAR, Open VARCHAR, High VARCHAR, Low VARCHAR, Close VARCHAR, "
            "Volume VARCHAR, company_name VARCHAR)"
        )
        for file in batch.files():
            try:
                connection.execute(
                    "INSERT INTO staging SELECT Date, Open, High, Low, Close, Volume, $company FROM read_csv("
                    "$file, header = true, delim = ',', quote = '\"', all_varchar = true, store_rejects = true)",
                    {"company": company_name(file), "file": str(file)},
                )
            except duckdb.Error as error:
                said[company_name(file)] = f"not read: {error}"
        connection.execute(_CHECKED)
        left_out = {company_name(file): "no rows" for file in batch.files()}
        left_out |= dict(connection.execute(_LEFT_OUT).fetchall())
        said |= {company: f"left out: {rows}" for company, rows in left_out.items() if rows}
        torn = connection.execute(
            "SELECT DISTINCT file_path FROM reject_errors JOIN reject_scans USING (scan_id, file_id)"
        ).fetchall() if _has_rejects(connection) else []  # fmt: skip
        said |= {company_name(Path(path)): "torn lines left out" for (path,) in torn}
        connection.execute("CREATE TABLE target.public.prices AS FROM checked")
    return said


def _has_rejects(connection: duckdb.DuckDBPyConnection) -> bool:
    return bool(connection.execute("FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchall())


def _target(batch: Batch) -> duckdb.DuckDBPyConnection:
    """A database in memory, with PostgreSQL attached. Its extension comes in a package, not by download."""
    connection = duckdb.connect()
    [extension] = Path(scanner.__path__[0]).rglob("*.duckdb_extension")
    connection.execute(f"LOAD '{extension}'")
    connection.execute(f"ATTACH '{batch.url}' AS target (TYPE postgres)")
    return connection
