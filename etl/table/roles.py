"""Makes the role that the pipeline loads as, with rights on its tables only."""

from __future__ import annotations

from psycopg2 import extensions, sql

from etl.table.database import connect, query
from etl.table.database import sql as sql_text
from etl.table.schema import SCHEMA_SECONDS, build_missing_index, lock_table


def make_loader(url: str, *, name: str, password: str) -> None:
    """Make the role, or give it this password and its rights again. `url` is the login of the tables' owner.

    Only the owner of a table may build an index, so the traders' index is built here and not by the first load. Raises
    SettingsError (no right to make roles) or ServiceError.
    """
    with connect(url) as connection, connection.cursor() as cursor:
        lock_table(cursor, timeout_seconds=SCHEMA_SECONDS)
        build_missing_index(cursor)
        schema, _, database, _ = query(cursor, "place_of_table")[0]
        verifier = extensions.encrypt_password(password, name, scope=connection, algorithm="scram-sha-256")
        cursor.execute(
            sql.SQL(sql_text("loader")).format(
                name=sql.Literal(name),
                role=sql.Identifier(name),
                password=sql.Literal(verifier),
                schema=sql.Identifier(schema),
                database=sql.Identifier(database),
            )
        )
        connection.commit()
