"""Names what a run read and wrote as OpenLineage does (https://openlineage.io/docs/spec/naming), with counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from etl.outcome.receipt import Receipt
from etl.table.database import connect, query
from etl.table.schema import COLUMNS

TABLE = "historical_stocks_data"


@dataclass(frozen=True)
class Dataset:
    """One table, file or folder: `postgres://host:port` and `database.schema.table`, or `s3://bucket` and a key."""

    namespace: str
    name: str
    uri: str
    """The same as Airflow spells it for an asset, such as postgres://host:port/database/schema/table."""
    columns: Mapping[str, str]
    """Names and types, in their order; empty where there are none."""
    rows: int | None = None
    """Rows that the run read there or wrote there; None where it did not count them."""
    files: int | None = None


@dataclass(frozen=True)
class Datasets:
    """What a load read and wrote."""

    inputs: tuple[Dataset, ...]
    outputs: tuple[Dataset, ...]


def datasets_of(receipt: Receipt, *, source: str, company_index: str, output: str, database: str) -> Datasets:
    """The datasets of a run that was loaded; places are paths or `s3://` URLs.

    Asks the database where its table is. Raises SettingsError or ServiceError when it does not answer.
    """
    files, rows = receipt.files, receipt.rows
    text = dict.fromkeys(COLUMNS, "VARCHAR(56)")
    folder = output.rstrip("/")
    return Datasets(
        inputs=(
            Dataset(*_file_at(source), columns={}, rows=rows.read, files=files.accepted + files.quarantined),
            Dataset(*_file_at(company_index), columns={}, files=1),
        ),
        outputs=(
            Dataset(*_table_in(database), columns=text, rows=rows.inserted),
            Dataset(*_file_at(f"{folder}/historical_stock_data.csv"), columns=text, rows=rows.accepted, files=1),
            Dataset(*_file_at(f"{folder}/rejected_rows.csv"), columns={}, rows=rows.rejected, files=1),
        ),
    )


def _table_in(database: str) -> tuple[str, str, str]:
    """Namespace, name and URI of the table."""
    with connect(database) as connection, connection.cursor() as cursor:
        [(schema, _, name, _)] = query(cursor, "place_of_table")
        host, port = connection.info.host, connection.info.port
    host = "localhost" if host.startswith("/") else host  # a folder of sockets
    place = f"postgres://[{host}]:{port}" if ":" in host else f"postgres://{host}:{port}"
    parts = (name, schema, TABLE)
    return place, ".".join(parts), "/".join([place, *(quote(part, safe="") for part in parts)])


def _file_at(url: str) -> tuple[str, str, str]:
    """Namespace, name and URI of a file or folder."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        path = str(Path(url).resolve())
        return "file", path, f"file://{path}"
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key.strip("/"), url.rstrip("/")
