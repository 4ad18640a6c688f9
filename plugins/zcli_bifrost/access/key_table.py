"""The tables of the keys of application users. Every function waits for the database."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable

import sqlalchemy as sa

from zcli_bifrost.access.keys import KeyRecord, NewKey, make_key
from zcli_bifrost.access.names import MAX_BYTES, name_problem
from zcli_bifrost.data.database import Database

#: Most ids in one query.
_CHUNK = 500
#: Number of the advisory lock that a process holds while it makes the tables.
_LOCK = 0x7A_43_4C_4B

_metadata = sa.MetaData()
_table = sa.Table(
    "zcli_bifrost_keys",
    _metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("app", sa.String(MAX_BYTES), nullable=False),
    sa.Column("name", sa.String(MAX_BYTES), nullable=False),
    sa.Column("role", sa.String(MAX_BYTES), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Index("zcli_bifrost_keys_user", "app", "name"),
)
#: One row: how often keys were added or revoked. Its lock also makes these transactions follow each other.
_state = sa.Table(
    "zcli_bifrost_keys_version",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class UserError(Exception):
    """A user or key cannot be added, found or revoked. The message says why."""


class KeyTable:
    """The keys in one database."""

    def __init__(self, database: Database) -> None:
        """Use a database, which :meth:`create` prepares."""
        self.database = database
        # Strategies are not closed, and a SQLite connection that is left open is a warning of Python 3.13.
        weakref.finalize(self, database.dispose)

    def create(self) -> None:
        """Make the tables that are absent, one process at a time.

        Raises:
            ConfigError: The database cannot be reached or used.
        """
        self.database.set_up()
        with self.database.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            _metadata.create_all(connection)
            if connection.execute(sa.select(_state.c.id)).first() is None:
                connection.execute(_state.insert().values(id=1, version=0))

    def exist(self) -> bool:
        """Return whether the tables are there."""
        return self.database.read_in_thread(
            lambda connection: all(sa.inspect(connection).has_table(name) for name in _metadata.tables)
        )

    def close(self) -> None:
        """Disconnect from the database."""
        self.database.dispose()

    def version(self) -> int:
        """Return a number that differs after each change."""
        query = sa.select(_state.c.version)
        return self.database.read_in_thread(lambda connection: int(connection.execute(query).scalar_one()))

    def find(self, key_id: str) -> KeyRecord | None:
        """Return the key with an id."""
        found = self.database.read_in_thread(lambda connection: _select(connection, _table.c.id == key_id))
        return found[0] if found else None

    def valid_among(self, ids: Iterable[str]) -> dict[str, KeyRecord]:
        """Return those of some keys that admit their user now, by id."""
        wanted, now = list(ids), time.time()
        chunks = [_table.c.id.in_(wanted[start : start + _CHUNK]) for start in range(0, len(wanted), _CHUNK)]
        found = self.database.read_in_thread(
            lambda connection: [record for chunk in chunks for record in _select(connection, chunk)]
        )
        return {record.id: record for record in found if record.problem(now) is None}

    def all(self) -> list[KeyRecord]:
        """Return all keys, sorted by app, name and age."""
        found = self.database.read_in_thread(_select)
        return sorted(found, key=lambda record: (record.app, record.name, record.created_at, record.id))

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
        with self.database.writing() as connection:
            _begin_change(connection)  # so that two commands cannot give one user two roles
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
        if name_problem(name_or_id) or (app is not None and name_problem(app)):
            raise UserError(_not_found(name_or_id, app))  # PostgreSQL raises for texts that it cannot store
        now = time.time()
        with self.database.writing() as connection:
            _begin_change(connection)
            chosen = [record for record in self._named(connection, name_or_id, app) if record.revoked_at is None]
            ids = [record.id for record in chosen]
            for start in range(0, len(ids), _CHUNK):
                query = _table.update().where(_table.c.id.in_(ids[start : start + _CHUNK]))
                connection.execute(query.values(revoked_at=now))
        return chosen

    def _named(self, connection: sa.Connection, name_or_id: str, app: str | None) -> list[KeyRecord]:
        keys = _select(connection, _table.c.id == name_or_id) if app is None else []
        users = self._of_user(connection, name_or_id, app)
        if keys and users:
            raise UserError(f"{name_or_id!r} is the id of a key and the name of a user; name the app of the user")
        apps = sorted({record.app for record in users})
        if len(apps) > 1:
            raise UserError(f"users of several apps are named {name_or_id!r}: {', '.join(apps)}; name the app")
        if not keys and not users:
            raise UserError(_not_found(name_or_id, app))
        return keys or users

    def _of_user(self, connection: sa.Connection, name: str, app: str | None) -> list[KeyRecord]:
        conditions = [_table.c.name == name] + ([] if app is None else [_table.c.app == app])
        return _select(connection, *conditions)


def _begin_change(connection: sa.Connection) -> None:
    """Wait for other transactions that change keys, and note the change."""
    connection.execute(_state.update().values(version=_state.c.version + 1))


def _select(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[KeyRecord]:
    return [KeyRecord(*row) for row in connection.execute(sa.select(_table).where(*conditions))]


def _not_found(name_or_id: str, app: str | None) -> str:
    if app is None:
        return f"no user has the name {name_or_id!r}, and no key has this id; 'zcli bifrost users' shows them"
    return f"no user of the app {app!r} has the name {name_or_id!r}; 'zcli bifrost users' shows them"
