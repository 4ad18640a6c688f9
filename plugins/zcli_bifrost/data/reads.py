"""Reading rows: the request of a client, and its result as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select
from zcli_bifrost.data.access import Sight
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import Filters, parse_filters
from zcli_bifrost.data.models import Model
from zcli_bifrost.data.queries import order_of, where
from zcli_bifrost.data.values import MAX_INT, TO_JSON, shown_name

#: Most fields that a request orders by.
MAX_ORDER = 8


class ReadRequest(NamedTuple):
    """A valid request.

    Attributes:
        filters: Which rows.
        fields: Names of the fields to return.
        order: Names of fields, and whether their order is descending. The key is the last.
        limit: Highest number of rows.
        offset: Number of rows to skip.
    """

    filters: Filters
    fields: tuple[str, ...]
    order: tuple[tuple[str, bool], ...]
    limit: int
    offset: int


def parse_read(
    model: Model, filters: Any, fields: Any, order_by: Any, limit: Any, offset: Any, rows_max: int
) -> ReadRequest:
    """Check a request as a client has sent it.

    Raises:
        DataError: ``invalid``.
    """
    return ReadRequest(
        parse_filters(model, filters),
        _fields(model, fields),
        _order(model, order_by),
        rows_max if limit is None else _number("limit", limit, rows_max),
        0 if offset is None else _number("offset", offset, MAX_INT),
    )


def _number(name: str, value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise DataError("invalid", f"{name} must be an integer between 0 and {most}")
    return value


def _fields(model: Model, given: Any) -> tuple[str, ...]:
    if given is None:
        return tuple(model.fields)
    if not isinstance(given, list) or not given or len(given) > len(model.fields):
        raise DataError("invalid", "fields must be a list of names of fields, each of them once")
    for name in given:
        _require_field(model, name, "fields")
    return tuple(dict.fromkeys(given))


def _order(model: Model, given: Any) -> tuple[tuple[str, bool], ...]:
    names = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(names, list) or len(names) > MAX_ORDER or not all(isinstance(name, str) for name in names):
        raise DataError("invalid", f"order_by must be a name of a field, '-name', or a list of at most {MAX_ORDER}")
    order: dict[str, bool] = {}
    for name in names:
        field = name.removeprefix("-")
        _require_field(model, field, "order_by")
        if model.fields[field].type == "json":
            raise DataError("invalid", "rows cannot be ordered by a json field", {field: "cannot be used in order_by"})
        order.setdefault(field, name.startswith("-"))
    order.setdefault(model.pk, False)
    return tuple(order.items())


def _require_field(model: Model, name: Any, where_: str) -> None:
    if not isinstance(name, str) or name not in model.fields:
        raise DataError("invalid", f"{where_} has an unknown field", {shown_name(name): "unknown field"})


def read_rows(
    connection: Connection, table: Table, model: Model, request: ReadRequest, sight: Sight
) -> tuple[list[Any], int]:
    """Return the rows of a request, with its fields, and how many there are without limit and offset."""
    dialect = connection.dialect.name
    conditions = where(table, model, dialect, request.filters, sight)
    rows: list[Any] = []
    if request.limit:
        order = [order_of(table, model, dialect, name, descending) for name, descending in request.order]
        columns = [table.c[name] for name in request.fields]
        statement = select(*columns).where(*conditions).order_by(*order).limit(request.limit)
        rows = list(connection.execute(statement.offset(request.offset) if request.offset else statement))
    if len(rows) < request.limit and (rows or not request.offset):
        return rows, request.offset + len(rows)
    total = connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()
    return rows, int(total)


def result_text(model: Model, fields: tuple[str, ...], rows: Collection[Any], total: int) -> str:
    """Return the result of a read as JSON."""
    return f'{{"rows": {dumps(ready_rows(model, fields, rows))}, "total": {total}}}'


def ready_rows(model: Model, fields: tuple[str, ...], rows: Collection[Any]) -> list[dict[str, Any]]:
    """Return rows as mappings ready for JSON."""
    found = [dict(zip(fields, row, strict=True)) for row in rows]
    for name in fields:
        convert: Callable[[Any], Any] | None = TO_JSON.get(model.fields[name].type)
        if convert is not None:
            for row in found:
                row[name] = convert(row[name])
    return found


def dumps(value: Any) -> str:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def rows_by_keys(
    connection: Connection, table: Table, model: Model, keys: Collection[Any]
) -> dict[Any, Mapping[str, Any]]:
    """Return the rows with these keys, whoever may see them, by key."""
    found = connection.execute(select(*table.c).where(table.c[model.pk].in_(keys))).mappings()
    return {row[model.pk]: row for row in found}


def keys_of(
    connection: Connection, table: Table, model: Model, filters: Filters, sight: Sight, most: int
) -> set[Any] | None:
    """Return the keys of the rows that an actor may see; None if there are more than ``most``."""
    conditions = where(table, model, connection.dialect.name, filters, sight)
    keys = set(connection.execute(select(table.c[model.pk]).where(*conditions).limit(most + 1)).scalars())
    return keys if len(keys) <= most else None
