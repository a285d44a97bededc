"""What a load read and wrote, named as OpenLineage and Airflow name datasets."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

import etl
from etl.outcome.datasets import Dataset
from etl.outcome.receipt import State
from etl.table.schema import COLUMNS

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket
    from tests.support.batch_files import Files
    from tests.support.database import Database


def test_datasets_of_a_load_have_the_names_of_openlineage_with_columns_and_counts(
    three: Files, bucket: Bucket, database: Database
) -> None:
    bucket.upload(three)
    job, target = bucket.job(), etl.Target(database.url)
    receipt = etl.run(job, target=target, run=etl.Run("test__1", datetime.now(UTC)))
    found = etl.datasets(receipt, job=job, target=target)
    where = parse_dsn(database.url)
    place, s3 = f"postgres://{where['host']}:{where['port']}", f"s3://{bucket.name}"
    text = dict.fromkeys(COLUMNS, "VARCHAR(56)")

    def file(key: str, **facts: Any) -> Dataset:  # noqa: ANN401
        return Dataset(s3, key, f"{s3}/{key}", **{"columns": {}, "files": 1, **facts})

    assert found.inputs == (file("Stocks", rows=35, files=3), file("CompanyNames/top_companies.txt"))
    assert found.outputs == (
        Dataset(
            place,
            "stocks.public.historical_stocks_data",
            f"{place}/stocks/public/historical_stocks_data",
            columns=text,
            rows=35,
        ),
        file("Output/historical_stock_data.csv", columns=text, rows=35),
        file("Output/rejected_rows.csv", rows=0),
    )
    bucket.get(found.outputs[1].name)  # it is there
    assert where["password"] not in str(found)


def test_files_and_rows_of_a_dataset_are_those_that_were_read_and_those_that_were_written(
    three: Files, database: Database
) -> None:
    three.put("bb.us.csv", None)
    three.load(database)
    again = three.load(database)
    found = etl.datasets(again, job=three.job(), target=etl.Target(database.url))
    assert [(one.rows, one.files) for one in found.inputs] == [(25, 3), (None, 1)]  # a quarantined file was read too
    assert [one.rows for one in found.outputs] == [0, 25, 0]


@pytest.mark.parametrize(
    ("host", "place"), [("db.example", "db.example"), ("/var/run/postgresql", "localhost"), ("::1", "[::1]")]
)
def test_server_is_named_as_a_url_has_it(host: str, place: str, three: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = MagicMock()
    connection.__enter__.return_value.info = SimpleNamespace(host=host, port=5433)
    monkeypatch.setattr("etl.outcome.datasets.connect", lambda _: connection)
    monkeypatch.setattr("etl.outcome.datasets.query", lambda *_: [("public", "", "stocks", "")])
    receipt = etl.Receipt.of_run(etl.Run.begin("test"), state=State.SUCCESS)
    table, *_ = etl.datasets(receipt, job=three.job(), target=etl.Target("")).outputs
    assert (table.namespace, table.uri) == (
        f"postgres://{place}:5433",
        f"postgres://{place}:5433/stocks/public/historical_stocks_data",
    )


def test_table_is_named_with_the_schema_that_the_load_finds_it_in(three: Files, database: Database) -> None:
    database.execute('CREATE SCHEMA "Mine/x"; ALTER TABLE historical_stocks_data SET SCHEMA "Mine/x"')
    where = make_dsn(database.url, options='-c search_path="Mine/x",public')
    receipt = etl.Receipt.of_run(etl.Run.begin("test"), state=State.SUCCESS)
    table, combined, _ = etl.datasets(receipt, job=three.job(), target=etl.Target(where)).outputs
    assert table.name == "stocks.Mine/x.historical_stocks_data"
    assert table.uri.endswith("/stocks/Mine%2Fx/historical_stocks_data")
    assert (combined.namespace, combined.uri) == ("file", f"file://{three.output}/historical_stock_data.csv")
