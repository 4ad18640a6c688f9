"""Tables of models: made if they are missing, compared if they exist, and never altered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Inspector,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import CITEXT, JSONB
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import CHAR, Enum, Float, TypeDecorator, TypeEngine

from zcli_bifrost.data.changes import change_tables
from zcli_bifrost.data.models import Field, Model, Models

#: Number of the advisory lock that a process holds while it makes tables.
_LOCK = 0x7A_43_4C_49


class UtcDateTime(TypeDecorator[datetime]):
    """An instant. SQLite stores it as a text in UTC of a fixed length, which has the same order."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the instant in UTC."""
        return None if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the instant with UTC, which SQLite does not store."""
        return value.replace(tzinfo=timezone.utc) if value is not None and value.tzinfo is None else value


def _type_of(field: Field, dialect: str) -> TypeEngine[Any]:
    if field.type == "int":
        # SQLite makes keys for the type INTEGER only; it has 64 bits there.
        return Integer() if dialect == "sqlite" else BigInteger()
    if field.type == "text":
        return Text(collation=collation(dialect))
    if field.type == "json":
        return JSON(none_as_null=True) if dialect == "sqlite" else JSONB(none_as_null=True)
    kinds: dict[str, TypeEngine[Any]] = {"float": Double(), "bool": Boolean(), "datetime": UtcDateTime()}
    return kinds[field.type]


def collation(dialect: str) -> str:
    """Return the collation that compares texts by the numbers of their characters."""
    return "BINARY" if dialect == "sqlite" else "C"


def make_tables(models: Models, dialect: str) -> tuple[MetaData, dict[str, Table]]:
    """Return the tables of models, by the names of the models, and their metadata. Every name is quoted."""
    metadata = MetaData()
    return metadata, {model.name: _table(model, models, metadata, dialect) for model in models.values()}


def _table(model: Model, models: Models, metadata: MetaData, dialect: str) -> Table:
    columns = [_column(field, models, dialect) for field in model.fields.values()]
    extras: list[Any] = []
    for field in model.fields.values():
        if field.unique == "table":
            extras.append(UniqueConstraint(field.name))
        elif field.unique == "owner" and model.owner:
            extras.append(UniqueConstraint(model.owner, field.name))
        if field.references or field.name == model.owner:
            extras.append(Index(f"zcli_{model.name}_{field.name}"[:60], field.name))
    return Table(quoted_name(model.name, quote=True), metadata, *columns, *extras, sqlite_autoincrement=True)


def _column(field: Field, models: Models, dialect: str) -> Column[Any]:
    keys: list[Any] = []
    if field.references:
        target = models[field.references]
        keys.append(ForeignKey(f"{target.name}.{target.pk}"))
    return Column(
        quoted_name(field.name, quote=True),
        _type_of(field, dialect),
        *keys,
        primary_key=field.pk,
        nullable=not field.required,
        autoincrement=field.pk and field.type == "int",
    )


def create_missing(connection: Connection, models: Models) -> None:
    """Make the tables that are missing, one process at a time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    metadata, _ = make_tables(models, connection.dialect.name)
    change_tables(metadata)
    metadata.create_all(connection)


def differences(connection: Connection, models: Models) -> list[str]:
    """Return a sentence for each way in which an existing table does not fit its model. A missing table fits."""
    inspector = inspect(connection)
    existing = set(inspector.get_table_names())
    found: list[str] = []
    for model in models.values():
        if model.name in existing:
            found += [f"table {model.name!r}: {each}" for each in _differences(inspector, model, models)]
        elif model.name.casefold() in {name.casefold() for name in existing}:
            found.append(
                f"table {model.name!r}: the database has a table whose name differs in upper and lower case only"
            )
        elif model.name in inspector.get_view_names():
            found.append(f"table {model.name!r}: the database has a view of this name")
    return found


def _differences(inspector: Inspector, model: Model, models: Models) -> Iterator[str]:
    columns = {column["name"]: column for column in inspector.get_columns(model.name)}
    for field in model.fields.values():
        column = columns.pop(field.name, None)
        if column is None:
            yield f"column {field.name!r} is missing; {_advice_to_add(model, field, inspector.dialect)}"
            continue
        if not _fits(field, column["type"], inspector.dialect.name):
            expected = _shown_type(field, inspector.dialect.name)
            yield f"column {field.name!r} must have the type {expected}, got {column['type']}"
        if not field.pk and column["nullable"] and field.required:
            yield f"column {field.name!r} must be NOT NULL, because the field is required"
        if not field.pk and not column["nullable"] and not field.required:
            yield f"column {field.name!r} is NOT NULL; set required: true for the field"
        if field.pk and field.type == "int" and not _makes_keys(column, inspector.dialect.name):
            yield f"column {field.name!r} must make its values: GENERATED BY DEFAULT AS IDENTITY"
    for name, column in columns.items():
        if not column["nullable"] and column.get("default") is None and not column.get("identity"):
            yield f"column {name!r} is NOT NULL without a default, and the model has no such field"
    yield from _different_constraints(inspector, model, models)


def _advice_to_add(model: Model, field: Field, dialect: Dialect) -> str:
    kind = _shown_type(field, dialect.name)
    if field.required or field.unique or field.references:  # depends on the rows that the table has
        return f"add it with the type {kind}"
    quote = dialect.identifier_preparer.quote
    return f"add it: ALTER TABLE {quote(model.name)} ADD COLUMN {quote(field.name)} {kind};"


def _different_constraints(inspector: Inspector, model: Model, models: Models) -> Iterator[str]:
    key = inspector.get_pk_constraint(model.name)["constrained_columns"]
    if key != [model.pk]:
        yield f"its primary key must be {model.pk!r}, got {', '.join(key) or 'none'}"
    unique, references = _unique_columns(inspector, model.name), _references(inspector, model.name)
    for field in model.fields.values():
        wanted = {field.name} if field.unique == "table" else {str(model.owner), field.name}
        if field.unique and wanted not in unique:
            yield f"column {field.name!r} needs a unique constraint over {', '.join(sorted(wanted))}"
        if field.references:
            target = models[field.references]
            found = references.get(field.name)
            if found is None or found.table != target.name or found.column not in (target.pk, None):
                yield f"column {field.name!r} needs a foreign key to {target.name!r} ({target.pk})"
            elif found.on_delete not in ("NO ACTION", "RESTRICT"):
                yield f"the foreign key of column {field.name!r} must not have ON DELETE, which changes rows unnoticed"


def _unique_columns(inspector: Inspector, table: str) -> list[set[str | None]]:
    """Return the columns of each unique constraint and each unique index over all rows."""
    # SQLAlchemy finds only some constraints of SQLite, but all of their indexes.
    options: Any = {"include_auto_indexes": True} if inspector.dialect.name == "sqlite" else {}
    indexes = [
        set(index["column_names"])
        for index in inspector.get_indexes(table, **options)
        if index["unique"] and not any(name.endswith("where") for name in index.get("dialect_options", {}))
    ]
    return indexes + [set(each["column_names"]) for each in inspector.get_unique_constraints(table)]


class _Reference(NamedTuple):
    table: str
    column: str | None
    on_delete: str


def _references(inspector: Inspector, table: str) -> dict[str, _Reference]:
    """Return the foreign keys of one column each, by this column."""
    if (
        isinstance(inspector.bind, Connection) and inspector.dialect.name == "sqlite"
    ):  # SQLAlchemy finds ON DELETE only where a table names the constraint
        statement = text('SELECT "from", "table", "to", on_delete, id FROM pragma_foreign_key_list(:name)')
        rows = inspector.bind.execute(statement, {"name": table}).all()
        ids = [row[4] for row in rows]
        return {row[0]: _Reference(row[1], row[2], row[3]) for row in rows if ids.count(row[4]) == 1}
    return {
        each["constrained_columns"][0]: _Reference(
            each["referred_table"], each["referred_columns"][0], each.get("options", {}).get("ondelete", "NO ACTION")
        )
        for each in inspector.get_foreign_keys(table)
        if len(each["constrained_columns"]) == 1
    }


def _shown_type(field: Field, dialect: str) -> str:
    postgresql = {"int": "BIGINT", "float": "DOUBLE PRECISION", "datetime": "TIMESTAMP WITH TIME ZONE", "json": "JSONB"}
    sqlite = {"int": "INTEGER", "float": "DOUBLE", "datetime": "DATETIME", "json": "JSON"}
    names = sqlite if dialect == "sqlite" else postgresql
    return {"text": "TEXT", "bool": "BOOLEAN", **names}[field.type]


def _fits(field: Field, kind: TypeEngine[Any], dialect: str) -> bool:
    if field.type == "int":
        return isinstance(kind, Integer)
    if field.type == "float":
        return isinstance(kind, (Float, Double))
    if field.type == "bool":
        return isinstance(kind, Boolean)
    if field.type == "json":
        return isinstance(kind, JSON)
    if field.type == "datetime":
        return isinstance(kind, DateTime) and (dialect == "sqlite" or bool(kind.timezone))
    if not isinstance(kind, String) or isinstance(kind, (CHAR, CITEXT, Enum)):
        return False
    return kind.length is None or (field.max_length is not None and field.max_length <= kind.length)


def _makes_keys(column: Any, dialect: str) -> bool:
    return dialect == "sqlite" or bool(column.get("identity") or "nextval" in str(column.get("default")))
