"""SQL for filters and for the rows that an actor may see. All values are bound parameters."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table
from zcli_bifrost.data.access import Sight
from zcli_bifrost.data.filters import Condition, Filters
from zcli_bifrost.data.models import Model
from zcli_bifrost.data.tables import collation


def where(table: Table, model: Model, dialect: str, filters: Filters, sight: Sight) -> list[ColumnElement[bool]]:
    """Return the conditions for rows that the filters select and the actor may see."""
    found = [_condition(comparable(table, each.field.name, dialect), each, dialect) for each in filters.conditions]
    if sight.owner is not None and model.owner is not None:
        found.append(comparable(table, model.owner, dialect) == sight.owner)
    return found


def comparable(table: Table, name: str, dialect: str) -> ColumnElement[Any]:
    """Return a column; a text with the collation that the filters promise, whatever an existing table has."""
    column = table.c[name]
    return column.collate(collation(dialect)) if column.type.python_type is str else column


def order_of(table: Table, model: Model, dialect: str, name: str, descending: bool) -> ColumnElement[Any]:
    """Return the order by a field: null comes before all values, and in descending order after them."""
    column = comparable(table, name, dialect)
    ordered = column.desc() if descending else column.asc()
    if dialect == "sqlite" or model.fields[name].required:  # SQLite has this order by itself
        return ordered
    return ordered.nulls_last() if descending else ordered.nulls_first()


def _condition(column: ColumnElement[Any], condition: Condition, dialect: str) -> ColumnElement[bool]:
    op, value = condition.op, condition.value
    if op == "=":
        return column.is_(None) if value is None else column == value
    if op == "!=":
        return column.is_not(None) if value is None else column.is_distinct_from(value)
    if op == "in":
        return column.in_(value)
    if op == "like":
        if dialect == "sqlite":
            return column.op("GLOB", is_comparison=True)(value.for_glob())
        return column.like(value.for_like(), escape="\\")
    return column.op(op, is_comparison=True)(value)
