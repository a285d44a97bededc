"""Lends the sessions of a database again, as good as new: a new one costs more than what is done in it."""

from __future__ import annotations

import select
from contextlib import suppress
from typing import Any

import psycopg2
from psycopg2 import extensions


class Sessions:
    """In the place of `psycopg2.connect`: who closes a connection of the class `kind` lends it to who asks next.

    What was done in it is gone as if it had ended: transaction, temporary tables, locks, settings. One that is broken,
    or whose server ended it, is not lent again.
    """

    def __init__(self, kind: type[extensions.connection]) -> None:
        self._open, self._kind, self._lent = psycopg2.connect, kind, type("_LentAs", (_Lent, kind), {})
        self._idle: dict[str, list[_Lent]] = {}

    def connect(self, dsn: str, *, connection_factory: Any = None, **options: Any) -> extensions.connection:  # noqa: ANN401
        if connection_factory is not self._kind:
            return self._open(dsn, connection_factory=connection_factory, **options)
        idle = self._idle.setdefault(dsn, [])
        while idle:
            one = idle.pop()
            if one.is_silent():
                one.idle = idle
                return one
            extensions.connection.close(one)
        made: Any = self._open(dsn, connection_factory=self._lent, **options)
        made.idle = idle
        return made

    def close(self) -> None:
        """End all that are not lent."""
        for idle in self._idle.values():
            while idle:
                extensions.connection.close(idle.pop())


class _Lent(extensions.connection):
    """It is cleaned by psycopg2's own methods: the product's are counted, and may be hit by a fault."""

    idle: list[_Lent] | None = None
    """Where it goes when it is closed; None once it is there."""

    def close(self) -> None:
        idle, self.idle = self.idle, None
        if idle is None:
            return
        with suppress(psycopg2.Error):
            if not self.closed:
                extensions.connection.rollback(self)
                self.autocommit = True
                with extensions.cursor(self) as cursor:
                    cursor.execute("DISCARD ALL")
                self.autocommit = False
                self.notices.clear()
                idle.append(self)
                return
        super().close()

    def is_silent(self) -> bool:
        """The server has said nothing meanwhile, as it does where it ends a session."""
        return not select.select([self], [], [], 0)[0]
