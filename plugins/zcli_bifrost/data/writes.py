"""Creating, changing and deleting rows, each in one transaction with its entry in the change table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, delete, insert, select, update
from zcli_bifrost.data import changes
from zcli_bifrost.data.access import Sight, may, sight_of
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import MAX_IN, Filters
from zcli_bifrost.data.models import Model, Models
from zcli_bifrost.data.queries import comparable, where


class Written(NamedTuple):
    """The result of a create, update or delete.

    Attributes:
        count: Number of rows.
        rows: The new rows after a create, else an empty list.
        version: Version of the database that the write has made. A client that sends it as ``seen`` reads this write.
    """

    count: int
    rows: list[dict[str, Any]]
    version: int


class Writer(NamedTuple):
    """What a write of an actor needs.

    Attributes:
        connection: A connection in a transaction.
        models: All models.
        tables: Their tables.
        model: The model that is written.
        actor: Who writes.
    """

    connection: Connection
    models: Models
    tables: Mapping[str, Table]
    model: Model
    actor: Actor

    def create(self, rows: list[dict[str, Any]]) -> tuple[list[Any], int]:
        """Insert rows and return them, in their order, with the version."""
        self._require_references(rows)
        table = self._table
        statement = insert(table).returning(*table.c, sort_by_parameter_order=True)
        found = list(self.connection.execute(statement, rows))
        keys = [row._mapping[table.c[self.model.pk]] for row in found]
        return found, changes.record(self.connection, self.model.name, keys)

    def update(self, filters: Filters, sight: Sight, values: dict[str, Any]) -> Written:
        """Change the rows that the actor may see."""
        self._require_references([values])
        statement = update(self._table).where(*self._where(filters, sight)).values(values)
        return self._write(statement)

    def delete(self, filters: Filters, sight: Sight) -> Written:
        """Delete the rows that the actor may see."""
        return self._write(delete(self._table).where(*self._where(filters, sight)))

    def _write(self, statement: Any) -> Written:
        keys = list(self.connection.execute(statement.returning(self._table.c[self.model.pk])).scalars())
        if not keys:
            return Written(0, [], changes.version_of(self.connection))
        return Written(len(keys), [], changes.record(self.connection, self.model.name, keys))

    @property
    def _table(self) -> Table:
        return self.tables[self.model.name]

    def _where(self, filters: Filters, sight: Sight) -> list[Any]:
        return where(self._table, self.model, self.connection.dialect.name, filters, sight)

    def _require_references(self, rows: list[dict[str, Any]]) -> None:
        """Check that the actor may read each row that these rows refer to.

        A row that does not exist and a row that the actor may not see give the same error.
        """
        for name, field in self.model.fields.items():
            if field.references is None:
                continue
            wanted = {row[name] for row in rows if row.get(name) is not None}
            if wanted and wanted - self._readable(self.models[field.references], wanted):
                problem = f"no row of {field.references!r} has this key"
                raise DataError("invalid", "the data refers to a row that does not exist", {name: problem})

    def _readable(self, target: Model, keys: set[Any]) -> set[Any]:
        sight = sight_of(self.actor, target)
        if sight is None or not may(self.actor, target, "read"):
            return set()
        table, dialect = self.tables[target.name], self.connection.dialect.name
        key = comparable(table, target.pk, dialect)
        seen = where(table, target, dialect, Filters(()), sight)
        return set(self.connection.execute(select(table.c[target.pk]).where(key.in_(keys), *seen)).scalars())


def visible_clashes(
    connection: Connection, table: Table, model: Model, sight: Sight, rows: list[dict[str, Any]]
) -> dict[str, str]:
    """Return the unique fields whose values a row has that the actor may see, with an error for each."""
    dialect = connection.dialect.name
    seen = where(table, model, dialect, Filters(()), sight)
    found = {}
    for name in [field.name for field in model.fields.values() if field.unique or field.pk]:
        values = list({row[name] for row in rows if row.get(name) is not None})[:MAX_IN]
        same = select(table.c[model.pk]).where(comparable(table, name, dialect).in_(values), *seen).limit(1)
        if values and connection.execute(same).first():
            found[name] = "another row has this value"
    return found


def conflict_of(error: BaseException, clashes: Mapping[str, str]) -> DataError:
    """Return what a client gets for a change that a constraint of the database forbids.

    It names a field only if the row with the same value is visible for the actor.
    """
    original: Any = getattr(error, "orig", None)
    state, text = getattr(original, "sqlstate", None), str(original)
    if state == "23503" or text.startswith("FOREIGN KEY"):
        return DataError("conflict", "rows refer to it, or it refers to a row that does not exist any more")
    if state == "23505" or text.startswith("UNIQUE"):
        return DataError("conflict", "a field that must be unique has a value that is in use", clashes)
    return DataError("invalid", "the database does not accept a value")
