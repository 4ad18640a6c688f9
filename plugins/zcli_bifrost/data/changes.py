"""The change table: every write appends a row in its own transaction, with the next version of the database.

Versions become visible in their order. A transaction gets its version by an update of the one row of the version table,
as its last step, and holds the lock of that row until it is committed. So the next version is given out only when all
earlier ones are visible. SQLite has one writer at a time anyway.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    insert,
    select,
)

#: Most keys that a change names; a larger change says only that the model has changed.
MAX_KEYS = 500
#: Number of changes that are kept.
KEPT = 10_000
_TRIM_EVERY = 256


class Change(NamedTuple):
    """One write.

    Attributes:
        version: Version of the database after it.
        model: Name of the model.
        keys: Keys of the rows that it has made, changed or deleted; None if there are more than :data:`MAX_KEYS`.
    """

    version: int
    model: str
    keys: list[Any] | None


class Changes(NamedTuple):
    """The changes after a version.

    Attributes:
        version: Version of the database.
        changes: The changes, oldest first. None if some of them are no longer in the table, or if the version is higher
            than that of the database, because an older copy has replaced it.
    """

    version: int
    changes: list[Change] | None

    def keys(self, model: str) -> dict[Any, int] | None:
        """Return the keys of all changed rows of a model, with the version of the last change of each.

        None if they are too many, or not known.
        """
        if self.changes is None:
            return None
        found: dict[Any, int] = {}
        for change in self.changes:
            if change.model == model:
                if change.keys is None:
                    return None
                found.update(dict.fromkeys(change.keys, change.version))
        return found if len(found) <= MAX_KEYS else None


def change_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Add the tables of versions and changes to metadata, and return them."""
    version = Table(
        "zcli_bifrost_version",
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("version", BigInteger, nullable=False),
    )
    changes = Table(
        "zcli_bifrost_changes",
        metadata,
        Column("version", BigInteger, primary_key=True, autoincrement=False),
        Column("model", Text, nullable=False),
        Column("row_keys", Text),
    )
    return version, changes


_VERSION, _CHANGES = change_tables(MetaData())
_NEXT = "UPDATE zcli_bifrost_version SET version = version + 1 RETURNING version"
_RECORD = insert(_CHANGES)
_TRIM = delete(_CHANGES).where(_CHANGES.c.version <= bindparam("_until"))
#: The current version in each row, and the changes after a version; without changes one row with nulls.
_SINCE = (
    select(_VERSION.c.version.label("current"), *_CHANGES.c)
    .outerjoin_from(
        _VERSION,
        _CHANGES,
        and_(_CHANGES.c.version > bindparam("_known"), _CHANGES.c.version <= _VERSION.c.version),
    )
    .order_by(_CHANGES.c.version)
    .limit(KEPT)
)

#: The version of the database as a column of a statement: it belongs to the same state as the statement's rows.
CURRENT_VERSION = select(_VERSION.c.version).scalar_subquery().label("zcli_version")


def set_up(connection: Connection) -> None:
    """Make the one row of the version table if it is missing. The caller holds the lock for making tables."""
    if connection.execute(select(_VERSION.c.version)).first() is None:
        connection.execute(insert(_VERSION).values(id=1, version=0))


def version_of(connection: Connection) -> int:
    """Return the version of the database that the transaction of a connection sees."""
    return int(connection.exec_driver_sql("SELECT version FROM zcli_bifrost_version").scalar_one())


def record(connection: Connection, model: str, keys: list[Any]) -> int:
    """Record a write and return its version. It must be the last step of the transaction."""
    version = int(connection.exec_driver_sql(_NEXT).scalar_one())
    text = json.dumps(keys) if len(keys) <= MAX_KEYS else None
    connection.execute(_RECORD, {"version": version, "model": model, "row_keys": text})
    if version % _TRIM_EVERY == 0:
        connection.execute(_TRIM, {"_until": version - KEPT})
    return version


def changes_since(connection: Connection, version: int) -> Changes:
    """Return the changes after a version. It needs no transaction, because it is one statement."""
    rows = connection.execute(_SINCE, {"_known": version}).all()
    (current, *_), *_ = rows  # a ValueError, so a failure of the database, if another program has emptied the table
    found = [Change(changed, model, keys and json.loads(keys)) for _, changed, model, keys in rows if changed]
    return Changes(current, found if len(found) == current - version else None)
