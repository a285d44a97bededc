"""Builds the DSN that libpq connects with from the fields of a login, as Airflow keeps them."""

from __future__ import annotations

from collections.abc import Mapping

from etl.errors import SettingsError

# What Airflow's PostgresHook reads itself and does not pass on.
_OF_THE_HOOK = {
    "aws_conn_id", "azure_conn_id", "cluster-identifier", "cursor", "redshift", "redshift-serverless",
    "sqlalchemy_query", "sqlalchemy_scheme", "workgroup-name",
}  # fmt: skip


def database_dsn(
    *,
    host: str | None,
    port: int | None,
    login: str | None,
    password: str | None,
    schema: str | None,
    extra: Mapping[str, object],
) -> str:
    """The DSN of an Airflow connection, whose `schema` is the database and whose Extra holds further parameters.

    Numbers and booleans are written as libpq reads them. Raises SettingsError, which shows no value, for a parameter
    that libpq does not know or that is no text, number or boolean.
    """
    from psycopg2 import ProgrammingError, extensions  # noqa: PLC0415  the face is imported without a database too

    if extra.get("iam"):
        raise SettingsError("The Extra of Airflow's connection asks for iam: this pipeline logs in by password.")
    facts: dict[str, object] = {
        "host": _stripped(host),
        "port": port,
        "user": _stripped(login),
        "password": password,
        "dbname": _stripped(schema),
    }
    for name, value in extra.items():
        if name in _OF_THE_HOOK or name == "iam":
            continue
        try:
            one = {name: _as_libpq_reads(name, value)}
            extensions.make_dsn("", **one)
        except ProgrammingError:
            raise SettingsError(
                f"The Extra of Airflow's connection has {name!r}, which is no connection parameter of PostgreSQL. "
                "Correct or remove it."
            ) from None
        facts |= one
    return extensions.make_dsn("", **facts)


def _as_libpq_reads(name: str, value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(int(value))
        case int() | str():
            return str(value).strip()
        case float() if value.is_integer():
            return str(int(value))
        case float():
            return str(value)
        case _:
            raise SettingsError(
                f"The Extra of Airflow's connection has {name!r}, which is no text, number or boolean. Write it as one."
            )


def _stripped(text: str | None) -> str | None:
    return text.strip() or None if text else None
