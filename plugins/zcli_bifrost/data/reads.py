"""Reading rows: the request of a client, and its result as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Select, bindparam, func, select

from zcli_bifrost.data.access import Sight
from zcli_bifrost.data.changes import CURRENT_VERSION
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import Filters, parse_filters
from zcli_bifrost.data.models import Model
from zcli_bifrost.data.queries import Queries, Selection
from zcli_bifrost.data.values import MAX_INT, TO_JSON, shown_name

#: Most fields that a request orders by.
MAX_ORDER = 8
#: Texts whose ``max_length`` is at most this are not counted.
MAX_SHORT = 1000
_CHUNK = 50
#: How often a read is tried again because a change came between its two statements.
_ATTEMPTS = 5


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


class FoundRows(NamedTuple):
    """The result of a read, in one state of the database.

    Attributes:
        rows: Values in the order of the fields of the request; the last value is not a field.
        total: Number of rows without limit and offset.
        version: Version of the database.
    """

    rows: list[Any]
    total: int
    version: int


def read_rows(connection: Connection, queries: Queries, request: ReadRequest, sight: Sight, max_size: int) -> FoundRows:
    """Read the rows of a request.

    Each statement also selects the version, so that one statement shows one state without a transaction around it. The
    number of all rows is counted only where the rows do not say it.

    Raises:
        DataError: ``failed``: other clients changed the model all the time. ``too_many``: the texts and json values
            have more than ``max_size`` characters.
    """
    selection = Selection(request.filters, sight)
    parameters = selection.parameters(queries.dialect)
    page = {**parameters, "_limit": request.limit, "_offset": request.offset}
    wide = _wide(queries.model, request.fields)
    for _ in range(_ATTEMPTS):
        rows = (
            _fetch(connection.execute(_page(queries, request, selection), page), wide, max_size)
            if request.limit
            else []
        )
        if rows and len(rows) < request.limit:
            return FoundRows(rows, request.offset + len(rows), rows[0][-1])
        total, version = connection.execute(_count(queries, selection), parameters).one()
        if rows:
            # Rows that came in between are counted in the total already; the next read has them.
            return FoundRows(rows, max(total, request.offset + len(rows)), rows[0][-1])
        if total <= request.offset or not request.limit:
            return FoundRows([], total, version)
    raise DataError("failed", "the model is being changed all the time; send the request again")


def _wide(model: Model, names: Collection[str]) -> list[int]:
    """Return the places of the fields whose values may be large."""
    fields = [model.fields[name] for name in names]
    return [
        place
        for place, field in enumerate(fields)
        if field.type == "json" or (field.type == "text" and (field.max_length or MAX_SHORT + 1) > MAX_SHORT)
    ]


def _fetch(result: Any, wide: list[int], max_size: int) -> list[Any]:
    """Return the rows of a result, unless their large values have more than ``max_size`` characters together.

    It stops there, because a few clients with large rows would otherwise take all memory and all threads.

    Raises:
        DataError: ``too_many``.
    """
    if not wide:
        return list(result)
    rows: list[Any] = []
    size = 0
    while chunk := result.fetchmany(_CHUNK):
        rows += chunk
        size += sum(_size(row[place]) for row in chunk for place in wide)
        if size > max_size:
            result.close()  # else SQLite keeps this state of the database for all later reads of the connection
            raise DataError("too_many", f"the result has more than {max_size} bytes; ask for fewer rows or fields")
    return rows


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0 if value is None else len(dumps(value))


def _page(queries: Queries, request: ReadRequest, selection: Selection) -> Select[Any]:
    def make() -> Select[Any]:
        columns = [queries.table.c[name] for name in request.fields]
        order = [queries.order(name, descending) for name, descending in request.order]
        limit, offset = (bindparam(name, type_=BigInteger()) for name in ("_limit", "_offset"))
        statement = select(*columns, CURRENT_VERSION).where(*queries.where(selection)).order_by(*order)
        return statement.limit(limit).offset(offset)

    return queries.kept((request.fields, request.order, selection.shape), make)


def _count(queries: Queries, selection: Selection) -> Select[Any]:
    def make() -> Select[Any]:
        return select(func.count(), CURRENT_VERSION).select_from(queries.table).where(*queries.where(selection))

    return queries.kept(selection.shape, make)


def result_text(model: Model, fields: tuple[str, ...], rows: Collection[Any], total: int) -> str:
    """Return the result of a read as JSON."""
    return f'{{"rows": {dumps(ready_rows(model, fields, rows))}, "total": {total}}}'


def ready_rows(model: Model, fields: tuple[str, ...], rows: Collection[Any]) -> list[dict[str, Any]]:
    """Return rows as mappings ready for JSON. A row may have further values, which are left out."""
    found = [dict(zip(fields, row)) for row in rows]  # noqa: B905 - a row may be longer
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
    connection: Connection, queries: Queries, keys: Collection[Any], max_size: int
) -> dict[Any, Mapping[str, Any]] | None:
    """Return the rows with these keys, of all owners, by key; None if they are too large together."""
    names = tuple(queries.model.fields)
    found = list(keys)
    one = len(found) == 1  # most changes are of one row, and SQLAlchemy takes longer for a list
    statement = queries.kept(("rows by keys", one), lambda: _by_keys(queries, names, one))
    result = connection.execute(statement, {"_keys": found[0] if one else found})
    try:
        rows = _fetch(result, _wide(queries.model, names), max_size)
    except DataError:
        return None
    place = names.index(queries.model.pk)
    return {row[place]: dict(zip(names, row, strict=True)) for row in rows}


def _by_keys(queries: Queries, names: tuple[str, ...], one: bool) -> Select[Any]:
    keys: Any = bindparam("_keys", type_=queries.key.type, expanding=not one)
    named = queries.key == keys if one else queries.key.in_(keys)
    return select(*(queries.table.c[name] for name in names)).where(named)


def keys_of(connection: Connection, queries: Queries, selection: Selection, most: int) -> set[Any] | None:
    """Return the keys of the rows of a selection; None if there are more than ``most``."""
    statement = select(queries.key).where(*queries.where(selection)).limit(most + 1)
    keys = set(connection.execute(statement, selection.parameters(queries.dialect)).scalars())
    return keys if len(keys) <= most else None
