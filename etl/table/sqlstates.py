"""Says what each SQLSTATE of PostgreSQL means to a load: whether it can pass by itself, and what a person does next."""

from __future__ import annotations

from dataclasses import dataclass

from etl.errors import EtlError, NoConnectionError, ServiceError, SettingsError


@dataclass(frozen=True)
class Meaning:
    """What an error of the server means. `error` decides whether the load is tried again."""

    error: type[EtlError]
    advice: str = ""

    @property
    def verb(self) -> str:
        """What the database does, for the beginning of a message."""
        return "gave up" if issubclass(self.error, ServiceError) else "refuses"


def _lost(advice: str = "") -> Meaning:
    """The connection is gone: the load connects again, at once and a few times more."""
    return Meaning(NoConnectionError, advice)


def _gave_up(advice: str) -> Meaning:
    """The server could not do it now: another run may succeed."""
    return Meaning(ServiceError, advice)


def _refuses(advice: str = "") -> Meaning:
    """The same again would end in the same error: a person has to change something."""
    return Meaning(SettingsError, advice)


_FOREIGN_CODE = "Look for a trigger, rule or function of somebody else on the table."
_OLD_TABLES = "Run init-db, which brings the tables to this version."
_TIMEOUT = "Raise that timeout for this user, or ask who cancelled the statement; then run it again."

MEANINGS = {
    "": _lost(),  # libpq's own errors: no server said anything
    "08": _lost("The server, or the pooler before it, ends the conversation. If it stays so, correct what it names."),
    "09": _refuses(_FOREIGN_CODE),
    "0A": _refuses("Is the table an ordinary table, of a version that this pipeline supports?"),
    "22": _refuses(f"{_FOREIGN_CODE} If somebody wrote a row that no load writes, load with --reload."),
    "22023": _refuses(),  # a parameter of the URL, or what stock_load_as_of raises
    "23": _refuses("Look for a constraint or a unique index of somebody else on the table."),
    "25": _refuses(),
    "25006": _refuses("Connect to the primary server, or let this user write (default_transaction_read_only)."),
    "25P03": _gave_up(_TIMEOUT),
    "25P04": _gave_up(_TIMEOUT),
    "27": _refuses(_FOREIGN_CODE),
    "28": _refuses("The server does not let this user in from here. Check the user, pg_hba.conf and sslmode."),
    "28P01": _refuses(
        "The server refuses the user name or the password. Check both where they are set: in MBD_DATABASE_URL, or in "
        "Airflow's connection stocks_database."
    ),
    "38": _refuses(_FOREIGN_CODE),
    "39": _refuses(_FOREIGN_CODE),
    "3D": _refuses("There is no such database. Check its name, or create it."),
    "3F": _refuses("Check the search_path of this user: it names no schema that is there."),
    "40": _gave_up("Run it again."),
    "42": _refuses(),
    "42501": _refuses("Grant this user that right; init-db --loader NAME makes a role that may load."),
    "42703": _refuses(_OLD_TABLES),
    "42883": _refuses(_OLD_TABLES),
    "42P01": _refuses("Run init-db first."),
    "44": _refuses(_FOREIGN_CODE),
    "53": _gave_up("Look at the server's memory, disk and limits; then run it again."),
    "53100": _gave_up("Make room on the disk of the database server, then run it again."),
    "53200": _gave_up("Give the database server more memory, then run it again."),
    "53300": _gave_up("There are too many connections: end some that nobody needs, or raise the limit."),
    "53400": _gave_up("Raise the limit that it names, then run it again."),
    "54": _gave_up("Raise the limit that it names, then run it again."),
    "55": _refuses("Bring the table or the database into the state that it asks for."),
    "55006": _gave_up("Somebody else uses it. Try again when they are done."),
    "55P03": _gave_up("Somebody else holds the lock. Try again when they are done."),
    "57": _gave_up("Ask who runs the server; then run it again."),
    "57014": _gave_up(_TIMEOUT),
    "57P01": _lost(),
    "57P02": _lost(),
    "57P03": _lost("The server is starting up, shutting down or recovering. If it stays so, look into its log."),
    "57P04": _refuses("The database was dropped. Check its name, or create it."),
    "57P05": _gave_up(_TIMEOUT),
    "58": _gave_up("Look at the disk of the database server and into its log; then run it again."),
    "F0": _refuses("Look at the configuration files of the server."),
    "HV": _refuses("Is the table an ordinary table? A foreign table cannot be loaded."),
    "P0": _refuses(_FOREIGN_CODE),
    "XX": _gave_up("Look into the log of the database server, then run it again."),
}
"""By SQLSTATE, or its first two characters; any other is refused without advice.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""


def meaning_of(sqlstate: str | None) -> Meaning:
    """What an error with this SQLSTATE means; with none, that no server answered."""
    code = sqlstate or ""
    return MEANINGS.get(code) or MEANINGS.get(code[:2]) or _refuses()
