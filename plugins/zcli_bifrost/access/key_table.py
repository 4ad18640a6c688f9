"""The table of the keys of application users. Every function waits for the database."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import sqlalchemy as sa

from zcli_bifrost.access.keys import NewKey, make_key
from zcli_bifrost.access.names import MAX_BYTES, name_problem

#: The name of the table, and of the users in the change table: no model may have it.
TABLE = "zbifrost_keys"
#: Most ids in one query.
_CHUNK = 500

_table = sa.Table(
    TABLE,
    sa.MetaData(),
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("app", sa.String(MAX_BYTES), nullable=False),
    sa.Column("name", sa.String(MAX_BYTES), nullable=False),
    sa.Column("role", sa.String(MAX_BYTES), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Index("zbifrost_keys_user", "app", "name"),
)


class KeyRecord(NamedTuple):
    """One key. Times are seconds since the epoch."""

    id: str
    app: str
    name: str
    role: str
    digest: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def problem(self, now: float) -> str | None:
        """Return why the key admits nobody, as the end of a sentence; None if it is valid."""
        if self.revoked_at is not None:
            return f"was revoked at {_utc(self.revoked_at)}"
        if self.expires_at is not None and self.expires_at <= now:
            return f"expired at {_utc(self.expires_at)}"
        return None

    def __repr__(self) -> str:
        return f"<KeyRecord {self.id} of {self.app}/{self.name}>"


class UserError(Exception):
    """A user or key cannot be added, found or revoked. The message says why."""


class KeyTable:
    """The table in one database."""

    def __init__(self, engine: sa.Engine, changed: Callable[[sa.Connection], None]) -> None:
        """Use a database.

        Args:
            engine: The database.
            changed: Notes in the change table that keys have changed, in the transaction of the connection.
        """
        self._engine = engine
        self._changed = changed

    def create(self) -> None:
        """Make the table if it is absent."""
        _table.create(self._engine, checkfirst=True)

    def find(self, key_id: str) -> KeyRecord | None:
        """Return the key with an id."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_table).where(_table.c.id == key_id)).first()
        return None if row is None else KeyRecord(*row)

    def valid_among(self, ids: Iterable[str]) -> dict[str, KeyRecord]:
        """Return those of some keys that admit their user now, by id."""
        wanted, now = list(ids), time.time()
        found: dict[str, KeyRecord] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(wanted), _CHUNK):
                query = sa.select(_table).where(_table.c.id.in_(wanted[start : start + _CHUNK]))
                found.update((row.id, KeyRecord(*row)) for row in connection.execute(query))
        return {key_id: record for key_id, record in found.items() if record.problem(now) is None}

    def all(self) -> list[KeyRecord]:
        """Return all keys, sorted by app, name and age."""
        order = (_table.c.app, _table.c.name, _table.c.created_at, _table.c.id)
        with self._engine.connect() as connection:
            return [KeyRecord(*row) for row in connection.execute(sa.select(_table).order_by(*order))]

    def add(self, name: str, role: str, app: str, expires_at: float | None = None) -> NewKey:
        """Add a user, or another key of a user.

        Raises:
            UserError: A name is invalid, or the user has another role.
        """
        for what, text in (("user", name), ("role", role), ("app", app)):
            problem = name_problem(text)
            if problem:
                raise UserError(f"{text!r} cannot be the name of a {what}: {problem}")
        key, now = make_key(), time.time()
        with self._engine.begin() as connection:
            self._changed(connection)  # first, because it locks: two commands then cannot give one user two roles
            for record in self._of_user(connection, name, app):
                if record.role != role and record.problem(now) is None:
                    raise UserError(
                        f"the user {name!r} of the app {app!r} has the role {record.role!r}; revoke it before you give "
                        "it another role"
                    )
            values = KeyRecord(key.id, app, name, role, key.digest, now, expires_at, None)
            connection.execute(_table.insert().values(values._asdict()))
        return key

    def revoke(self, name_or_id: str, app: str | None = None) -> list[KeyRecord]:
        """Revoke all keys of a user, or one key.

        Args:
            name_or_id: Name of the user, or id of the key.
            app: The app of the user. It may be left out if users of only one app have the name.

        Returns:
            The keys that were valid until now.

        Raises:
            UserError: There is no such user or key, or the name has several meanings.
        """
        now = time.time()
        with self._engine.begin() as connection:
            self._changed(connection)
            chosen = [record for record in self._named(connection, name_or_id, app) if record.revoked_at is None]
            ids = [record.id for record in chosen]
            for start in range(0, len(ids), _CHUNK):
                query = _table.update().where(_table.c.id.in_(ids[start : start + _CHUNK]))
                connection.execute(query.values(revoked_at=now))
        return chosen

    def _named(self, connection: sa.Connection, name_or_id: str, app: str | None) -> list[KeyRecord]:
        keys = self._select(connection, _table.c.id == name_or_id) if app is None else []
        users = self._of_user(connection, name_or_id, app)
        if keys and users:
            raise UserError(f"{name_or_id!r} is the id of a key and the name of a user; name the app of the user")
        apps = sorted({record.app for record in users})
        if len(apps) > 1:
            raise UserError(f"users of several apps are named {name_or_id!r}: {', '.join(apps)}; name the app")
        if not keys and not users:
            where = "" if app is None else f" in the app {app!r}"
            raise UserError(f"no user{where} has the name {name_or_id!r}" + (", and no key has the id" if not app else ""))
        return keys or users

    def _of_user(self, connection: sa.Connection, name: str, app: str | None) -> list[KeyRecord]:
        conditions = [_table.c.name == name] + ([] if app is None else [_table.c.app == app])
        return self._select(connection, *conditions)

    def _select(self, connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[KeyRecord]:
        return [KeyRecord(*row) for row in connection.execute(sa.select(_table).where(*conditions))]


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="seconds")
