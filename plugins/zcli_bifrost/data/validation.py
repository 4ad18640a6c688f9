"""Checks the data of a create or update, with an error for each field."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.models import NOW, Field, Model
from zcli_bifrost.data.values import parse_value, shown_name

#: Highest length of a text that a pattern is matched with, if the field has no ``max_length``, in characters.
MAX_PATTERN_TEXT = 10_000


def check_value(field: Field, raw: Any) -> Any:
    """Convert a value of a client, which is not None, and check all rules of its field.

    Raises:
        ValueError: The value is invalid. The message says what it must be.
    """
    value = parse_value(field.type, raw)
    if field.enum is not None and value not in field.enum:
        raise ValueError(f"must be one of {', '.join(map(str, field.enum))}")
    if field.type == "text":
        _check_text(field, value)
    elif field.type == "json":
        _check_length(field, json.dumps(value, ensure_ascii=False))
    elif field.minimum is not None and value < field.minimum:
        raise ValueError(f"must be at least {_shown(field.minimum)}")
    elif field.maximum is not None and value > field.maximum:
        raise ValueError(f"must be at most {_shown(field.maximum)}")
    return value


def _check_text(field: Field, value: str) -> None:
    if len(value) < (field.min_length or 0):
        raise ValueError(f"must have at least {_characters(field.min_length)}")
    _check_length(field, value)
    if field.pattern is not None:
        if len(value) > MAX_PATTERN_TEXT:
            raise ValueError(f"must have at most {MAX_PATTERN_TEXT} characters")
        if not field.pattern.matches(value):
            raise ValueError(f"must match the pattern {field.pattern.text}")


def _check_length(field: Field, text: str) -> None:
    if field.max_length is not None and len(text) > field.max_length:
        raise ValueError(f"must have at most {_characters(field.max_length)}")


def _characters(count: int | None) -> str:
    return "1 character" if count == 1 else f"{count} characters"


def _shown(bound: Any) -> str:
    return bound.isoformat().replace("+00:00", "Z") if isinstance(bound, datetime) else str(bound)


def new_rows(model: Model, actor: Actor, data: Any, most: int) -> list[dict[str, Any]]:
    """Return the rows that a create inserts: each field of the model has a value or None, but an ``int`` key has not.

    Args:
        model: The model.
        actor: Becomes the owner.
        data: A mapping or a list of mappings, as the client sent it.
        most: Highest number of rows.

    Raises:
        DataError: ``invalid``, with all mistakes.
    """
    several = isinstance(data, list)
    given = data if several else [data]
    if not given or not all(isinstance(row, Mapping) for row in given):
        raise DataError("invalid", "data must be an object with the fields of a row, or a list of such objects")
    if len(given) > most:
        raise DataError("invalid", f"data must have at most {most} rows, got {len(given)}")
    problems: dict[str, str] = {}
    rows = []
    for number, row in enumerate(given):
        prefix = f"[{number}]." if several else ""
        rows.append(_new_row(model, actor, row, problems, prefix))
    _refuse(problems)
    return rows


def changed_values(model: Model, data: Any) -> dict[str, Any]:
    """Return the values that an update sets.

    Raises:
        DataError: ``invalid``, with all mistakes.
    """
    if not isinstance(data, Mapping) or not data:
        raise DataError("invalid", "data must be an object with the fields to change")
    problems: dict[str, str] = {}
    values = {}
    for name, raw in data.items():
        field = model.fields.get(name)
        if field is None:
            problems[shown_name(name)] = "unknown field"
        elif field.pk:
            problems[name] = "the key of a row cannot be changed"
        elif name == model.owner:
            problems[name] = "the owner of a row cannot be changed"
        elif raw is None and field.required:
            problems[name] = "is required"
        else:
            values[name] = _checked(field, raw, problems, "")
    _refuse(problems)
    return values


def _new_row(
    model: Model, actor: Actor, given: Mapping[str, Any], problems: dict[str, str], prefix: str
) -> dict[str, Any]:
    for name in given:
        if name not in model.fields:
            problems[prefix + shown_name(name)] = "unknown field"
    row = {}
    for name, field in model.fields.items():
        raw = given.get(name)
        if name == model.owner:
            if raw not in (None, actor.identity):
                problems[prefix + name] = "must be your own identity, or left out"
            row[name] = actor.identity
        elif field.pk and field.type == "int":
            if raw is not None:
                problems[prefix + name] = "the database makes the key; leave it out"
        elif field.pk and raw is None:
            row[name] = uuid.uuid4().hex
        elif name not in given and field.default is not None:
            row[name] = _default(field)
        elif raw is None and field.required:
            problems[prefix + name] = "is required"
        else:
            row[name] = _checked(field, raw, problems, prefix)
    return row


def _default(field: Field) -> Any:
    if field.type == "datetime" and field.default == NOW:
        return datetime.now(timezone.utc)
    return parse_value(field.type, field.default)


def _checked(field: Field, raw: Any, problems: dict[str, str], prefix: str) -> Any:
    if raw is None:
        return None
    try:
        return check_value(field, raw)
    except ValueError as error:
        problems[prefix + field.name] = str(error)
        return None


def _refuse(problems: Mapping[str, str]) -> None:
    if problems:
        raise DataError("invalid", "the data has invalid fields", dict(list(problems.items())[:100]))
