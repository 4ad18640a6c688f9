"""SQL for filters and for the rows that an actor may see. All values are bound parameters.

Making a statement takes SQLAlchemy longer than running it. So statements have named parameters, and the requests of one
shape (the same fields, operators and order, with any values) share one. The names of parameters begin with ``_`` as no
field does, because SQLAlchemy names the new values of an update after their columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Table, and_, bindparam, case

from zcli_bifrost.data.access import Sight
from zcli_bifrost.data.filters import Condition, Filters
from zcli_bifrost.data.models import Model
from zcli_bifrost.data.tables import collation

T = TypeVar("T")

#: Most statements that are kept for each model.
MAX_STATEMENTS = 200
_OWNER = "_owner"


class Selection(NamedTuple):
    """Which rows of a model: those that filters select and an actor may see.

    Attributes:
        filters: The filters.
        sight: The rows that the actor may see.
    """

    filters: Filters
    sight: Sight

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two selections with the same SQL have in common."""
        conditions = self.filters.conditions
        return (self.sight.owner is None, *[(each.field.name, each.op, each.value is None) for each in conditions])

    def parameters(self, dialect: str) -> dict[str, Any]:
        """Return the values of the parameters of :meth:`Queries.where`."""
        found = {_OWNER: self.sight.owner} if self.sight.owner is not None else {}
        for number, each in enumerate(self.filters.conditions):
            if each.op == "like":
                found[f"_f{number}"] = each.value.for_glob() if dialect == "sqlite" else each.value.for_like()
            elif each.value is not None:
                found[f"_f{number}"] = each.value
        return found


class Queries:
    """Makes the statements of one model.

    Attributes:
        model: The model.
        table: Its table.
        dialect: ``"sqlite"`` or ``"postgresql"``.
    """

    def __init__(self, model: Model, table: Table, dialect: str) -> None:
        self.model = model
        self.table = table
        self.dialect = dialect
        self._statements: dict[Any, Any] = {}

    @property
    def key(self) -> ColumnElement[Any]:
        """The column of the key."""
        return self.table.c[self.model.pk]

    def kept(self, shape: Any, make: Callable[[], T]) -> T:
        """Return the statement of a shape; it is made if it is not kept."""
        statement: T | None = self._statements.get(shape)
        if statement is None:
            if len(self._statements) >= MAX_STATEMENTS:
                self._statements.clear()
            statement = self._statements[shape] = make()
        return statement

    def where(self, selection: Selection) -> list[ColumnElement[bool]]:
        """Return the conditions of a selection, with parameters in place of values.

        If the actor sees only its own rows, the database compares the owner of a row before anything else of it.
        Otherwise the time of a request would show whether a row of another owner meets the filters: a pattern or a
        long list takes milliseconds for each row that gets so far. A CASE forces this order in every plan. Only a key
        may be looked up before.
        """
        conditions = selection.filters.conditions
        found = [
            self._condition(self.comparable(each.field.name), each, f"_f{number}")
            for number, each in enumerate(conditions)
        ]
        if selection.sight.owner is None or self.model.owner is None:
            return found
        column = self.table.c[self.model.owner]
        owned = self.comparable(self.model.owner) == bindparam(_OWNER, type_=column.type)
        keys = [number for number, each in enumerate(conditions) if each.field.pk and each.op in ("=", "in")]
        first = [owned, found.pop(keys[0])] if keys else [owned]
        return [*first, case((owned, and_(*found)))] if found else first

    def comparable(self, name: str) -> ColumnElement[Any]:
        """Return a column; a text with the collation that the filters promise, whatever an existing table has."""
        column = self.table.c[name]
        return column.collate(collation(self.dialect)) if self.model.fields[name].type == "text" else column

    def order(self, name: str, descending: bool) -> ColumnElement[Any]:
        """Return the order by a field: null comes before all values, and in descending order after them."""
        ordered = self.comparable(name).desc() if descending else self.comparable(name).asc()
        if self.dialect == "sqlite" or self.model.fields[name].required:  # SQLite has this order by itself
            return ordered
        return ordered.nulls_last() if descending else ordered.nulls_first()

    def _condition(self, column: ColumnElement[Any], condition: Condition, name: str) -> Any:
        op = condition.op
        if condition.value is None:
            return column.is_(None) if op == "=" else column.is_not(None)
        parameter: Any = bindparam(name, type_=self.table.c[condition.field.name].type, expanding=op == "in")
        if op == "=":
            return column == parameter
        if op == "!=":
            return column.is_distinct_from(parameter)
        if op == "in":
            return column.in_(parameter)
        if op == "like":
            if self.dialect == "sqlite":
                return column.op("GLOB", is_comparison=True)(parameter)
            return column.like(parameter, escape="\\")
        return column.op(op, is_comparison=True)(parameter)
