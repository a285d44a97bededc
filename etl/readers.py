"""The command `mbd grant-reader`: makes the login of somebody who reads, or takes it away."""

from __future__ import annotations

import argparse
import getpass
import os
import secrets
import sys

from psycopg2.extensions import parse_dsn

from etl.errors import SettingsError
from etl.table.roles import has_reader, make_reader, remove_reader

_PASSWORD_BYTES = 18  # 24 characters; more than anybody can try


def grant(options: argparse.Namespace, *, database: str) -> int:
    """Make the login, or give it its rights again. Only a random password is printed, and only once."""
    name = options.name
    is_there = has_reader(database, name=name)
    if options.revoke:
        if not is_there:
            print(f"There is no login {name}: nothing to take away.")
            return 0
        remove_reader(database, name=name)
        print(f"The login {name} may read nothing any more.")
        return 0
    given = _ask(name) if options.ask_password else os.environ.get("MBD_READER_PASSWORD")
    password = given
    if not given and (options.new_password or not is_there):
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
    make_reader(database, name=name, password=password or None)
    print(f"The login {name} may read the prices, and nothing else.")
    if not password:
        print("Its password is as it was; --new-password gives it another.")
    elif not given:
        print(f"Its password, which is shown only now: {password}")
    facts = parse_dsn(database.strip())
    where = f"{facts.get('host', 'localhost')}:{facts.get('port', '5432')}/{facts.get('dbname', '')}"
    print(f'psql "postgresql://{name}@{where}?sslmode={facts.get("sslmode", "require")}"')
    return 0


def _ask(name: str) -> str:
    if not sys.stdin.isatty():
        raise SettingsError("Nobody is there to be asked for a password. Set MBD_READER_PASSWORD instead.")
    password = getpass.getpass(f"Password of {name}: ")
    if not password or password != getpass.getpass("Again: "):
        raise SettingsError("The two passwords are not the same, or empty. Nothing was changed.")
    return password
