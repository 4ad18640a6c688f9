"""Creating, changing and deleting rows, each in one transaction with its entry in the change table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from zcli_bifrost.data import changes
from zcli_bifrost.data.access import Sight, actions_of, may, sight_of
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import MAX_IN, NO_FILTERS
from zcli_bifrost.data.queries import Queries, Selection


@dataclass(frozen=True)
class Written:
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
        all_queries: The queries of all models, by name.
        queries: Those of the model that is written.
        actor: Who writes.
    """

    connection: Connection
    all_queries: Mapping[str, Queries]
    queries: Queries
    actor: Actor

    def create(self, rows: list[dict[str, Any]]) -> tuple[list[Any], int]:
        """Insert rows and return them, in their order, with the version."""
        self._require_references(rows)
        table = self.queries.table
        statement = self.queries.kept("create", lambda: insert(table).returning(*table.c, sort_by_parameter_order=True))
        found = list(self.connection.execute(statement, rows))
        keys = [row._mapping[self.queries.key] for row in found]
        return found, changes.record(self.connection, self.queries.model.name, keys)

    def update(self, selection: Selection, values: dict[str, Any]) -> Written:
        """Change the selected rows."""
        self._require_references([values])
        columns = [self.queries.table.c[name] for name in values]

        def make() -> ReturningUpdate[Any]:
            new = {column: bindparam(f"_v{number}", type_=column.type) for number, column in enumerate(columns)}
            statement = update(self.queries.table).values(new).where(*self.queries.where(selection))
            return statement.returning(self.queries.key)

        statement = self.queries.kept(("update", tuple(values), selection.shape), make)
        return self._write(statement, selection, {f"_v{number}": value for number, value in enumerate(values.values())})

    def delete(self, selection: Selection) -> Written:
        """Delete the selected rows."""
        table, queries = self.queries.table, self.queries
        statement = queries.kept(
            ("delete", selection.shape), lambda: delete(table).where(*queries.where(selection)).returning(queries.key)
        )
        return self._write(statement, selection, {})

    def _write(self, statement: Any, selection: Selection, values: dict[str, Any]) -> Written:
        parameters = {**selection.parameters(self.queries.dialect), **values}
        keys = list(self.connection.execute(statement, parameters).scalars())
        if not keys:
            return Written(0, [], changes.version_of(self.connection))
        return Written(len(keys), [], changes.record(self.connection, self.queries.model.name, keys))

    def _require_references(self, rows: list[dict[str, Any]]) -> None:
        """Check that the actor may read each row that these rows refer to.

        A row that does not exist and a row that the actor may not see give the same error.
        """
        for name, field in self.queries.model.fields.items():
            if field.references is None:
                continue
            wanted = {row[name] for row in rows if row.get(name) is not None}
            if wanted and wanted - self._readable(self.all_queries[field.references], wanted):
                is_known = actions_of(self.actor, self.all_queries[field.references].model)
                problem = f"no row of {field.references!r} has this key" if is_known else "no row has this key"
                raise DataError("invalid", "the data refers to a row that does not exist", {name: problem})

    def _readable(self, target: Queries, keys: set[Any]) -> set[Any]:
        sight = sight_of(self.actor, target.model)
        if sight is None or not may(self.actor, target.model, "read"):
            return set()
        selection = Selection(NO_FILTERS, sight)
        named = target.comparable(target.model.pk).in_(keys)
        statement = select(target.key).where(named, *target.where(selection))
        return set(self.connection.execute(statement, selection.parameters(target.dialect)).scalars())


def visible_clashes(
    connection: Connection, queries: Queries, sight: Sight, rows: list[dict[str, Any]]
) -> dict[str, str]:
    """Return the unique fields whose values a row has that the actor may see, with an error for each."""
    selection = Selection(NO_FILTERS, sight)
    seen, parameters = queries.where(selection), selection.parameters(queries.dialect)
    found = {}
    for name in [field.name for field in queries.model.fields.values() if field.unique or field.pk]:
        values = list({row[name] for row in rows if row.get(name) is not None})[:MAX_IN]
        same = select(queries.key).where(queries.comparable(name).in_(values), *seen).limit(1)
        if values and connection.execute(same, parameters).first():
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
