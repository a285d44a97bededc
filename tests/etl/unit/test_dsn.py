"""The fields of an Airflow connection, and its Extra, as libpq reads them."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2.extensions import parse_dsn

import etl

FIELDS: dict[str, Any] = {
    "host": "db.example", "port": 5433, "login": "loader", "password": "p w'@\\:/%41", "schema": "stocks", "extra": {},
}  # fmt: skip
PLAIN = {"host": "db.example", "port": "5433", "user": "loader", "password": "p w'@\\:/%41", "dbname": "stocks"}


def parsed(**changes: object) -> dict[str, str]:
    return parse_dsn(etl.database_dsn(**{**FIELDS, **changes}))


@pytest.mark.parametrize(
    ("extra", "read"),
    [
        ({}, {}),
        ({"sslmode": "require"}, {"sslmode": "require"}),
        ({"sslmode": "require\n"}, {"sslmode": "require"}),
        ({"keepalives": True, "keepalives_idle": 30}, {"keepalives": "1", "keepalives_idle": "30"}),
        ({"keepalives": False}, {"keepalives": "0"}),
        ({"connect_timeout": 10.0}, {"connect_timeout": "10"}),
        ({"options": "-c search_path=prices"}, {"options": "-c search_path=prices"}),
        ({"sslrootcert": None}, {}),
        ({"cursor": "dictcursor", "sqlalchemy_query": {"a": 1}, "aws_conn_id": "aws_default", "iam": False}, {}),
    ],
)
def test_extra_is_passed_on_as_libpq_reads_it(extra: dict[str, object], read: dict[str, str]) -> None:
    assert parsed(extra=extra) == {**PLAIN, **read}


@pytest.mark.parametrize(
    "extra", [{"sslmode": {"mode": "s3cr-et"}}, {"sslmode": ["s3cr-et"]}, {"color": "s3cr-et"}, {"a b": 1}, {"": "x"}]
)
def test_extra_that_is_no_parameter_is_named_without_its_value(extra: dict[str, object]) -> None:
    with pytest.raises(etl.SettingsError) as caught:
        parsed(extra=extra)
    assert repr(next(iter(extra))) in str(caught.value)
    assert "s3cr-et" not in str(caught.value)


def test_extra_that_wants_a_token_is_refused() -> None:
    with pytest.raises(etl.SettingsError, match="iam"):
        parsed(extra={"iam": True})


def test_blanks_around_fields_do_not_matter_but_in_the_password() -> None:
    assert parsed(host=" db.example\n", login="loader ", schema="stocks\n") == PLAIN
    assert parsed(password=" x ")["password"] == " x "


def test_field_that_is_left_out_is_libpqs_default() -> None:
    assert parsed(host=None, port=None, login="", password=None, schema=None) == {}
