"""The command `mbd grant-reader`: makes the login of somebody who reads, or takes it away."""

from __future__ import annotations

import argparse
import getpass
import os
import secrets
import sys
from urllib.parse import urlencode

from psycopg2.extensions import parse_dsn

from etl.errors import SettingsError
from etl.table.database import connect
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
    print(f'psql "{_url_for(name, database)}"')
    return 0


def _url_for(name: str, database: str) -> str:
    """Where this login finds the database: as its owner did, with TLS where the owner's connection has it."""
    with connect(database) as connection:
        info = connection.info
        host, port, dbname, has_tls = info.host, info.port, info.dbname, info.ssl_in_use
    if host.startswith(("/", "@")):  # a socket
        return f"postgresql://{name}@/{dbname}?{urlencode({'host': host, 'port': port})}"
    sslmode = parse_dsn(database.strip()).get("sslmode") or ("require" if has_tls else "prefer")
    return f"postgresql://{name}@{f'[{host}]' if ':' in host else host}:{port}/{dbname}?sslmode={sslmode}"


def _ask(name: str) -> str:
    if not sys.stdin.isatty():
        raise SettingsError("Nobody is there to be asked for a password. Set MBD_READER_PASSWORD instead.")
    password = getpass.getpass(f"Password of {name}: ")
    if not password or password != getpass.getpass("Again: "):
        raise SettingsError("The two passwords are not the same, or empty. Nothing was changed.")
    return password
