"""Filters: which rows a read, update, delete or subscription is about.

A filter is an object. A row must meet the condition of each field in it::

    {"state": "open"}                                   equal
    {"state": ["!=", "done"], "points": [">=", 3]}      an operator and a value
    {"points": [[">=", 3], ["<", 8]]}                   several conditions for one field
    {"state": ["in", ["open", "waiting"]]}              one of several values
    {"title": ["like", "%milk%"]}                       a pattern

The same filter selects the same rows in SQLite, in PostgreSQL and in :meth:`Filters.matches`:

- ``null`` can be compared with ``=`` and ``!=`` only. ``!=`` selects all rows that ``=`` does not, those with null too.
  All other operators never select null.
- Texts are compared by the numbers of their characters in Unicode, so upper case comes before lower case.
- ``like`` compares the whole text, and upper and lower case differ. ``%`` stands for any characters, ``_`` for one, and
  a backslash takes the meaning from the ``%``, ``_`` or backslash that follows it.
- ``json`` fields can be compared with null only.

Every value is a bound parameter, and every name is looked up in the model.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.like import MAX_LIKE, Like
from zcli_bifrost.data.models import Field, Model
from zcli_bifrost.data.values import check_text, parse_value, shown_name

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in", "like")
#: Limits, so that no filter is slow to check or to run.
MAX_CONDITIONS = 50
MAX_IN = 1000
MAX_TEXT = 10_000
#: Most values of all lists together; by default SQLite takes 32,766 parameters.
MAX_VALUES = 10_000
#: Types by operator; ``=`` and ``!=`` take all types, ``json`` only with null.
_TYPES = {
    "in": ("int", "float", "text", "bool", "datetime"),
    "like": ("text",),
    **dict.fromkeys(("<", "<=", ">", ">="), ("int", "float", "text", "datetime")),
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "in": lambda value, values: value in values,
    "like": lambda value, pattern: pattern.matches(value),
}


class Condition(NamedTuple):
    """One condition.

    Attributes:
        field: The field.
        op: One of :data:`OPERATORS`.
        value: The value to compare with; a set for ``in``, and :class:`.like.Like` for ``like``.
    """

    field: Field
    op: str
    value: Any

    def matches(self, value: Any) -> bool:
        """Return whether a value of the field meets the condition."""
        if self.op == "!=":
            return bool(value != self.value)
        if value is None or self.value is None:
            return value is None and self.value is None
        return bool(_COMPARE[self.op](value, self.value))


class Filters(NamedTuple):
    """All conditions of a request, in the order of their fields."""

    conditions: tuple[Condition, ...]

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row, with the values that the database gives, meets all conditions."""
        return all(condition.matches(row[condition.field.name]) for condition in self.conditions)

    def effort(self, row: Mapping[str, Any]) -> int:
        """Return how many steps the patterns take to be compared with a row, at most."""
        patterns = [(row[each.field.name], each.value) for each in self.conditions if each.op == "like"]
        return sum(len(text) * pattern.steps for text, pattern in patterns if text is not None)

    def only_about(self, name: str) -> bool:
        """Return whether the filters select rows by the values of one field only, and not by a part of them."""
        return all(each.field.name == name and each.op in ("=", "in") for each in self.conditions)


NO_FILTERS = Filters(())


def parse_filters(model: Model, given: Any) -> Filters:
    """Check filters of a client.

    Args:
        model: The model.
        given: The filters as JSON has them; None for none.

    Raises:
        DataError: ``invalid``, with what is wrong with each field.
    """
    if given is None:
        return NO_FILTERS
    if not isinstance(given, Mapping):
        raise DataError("invalid", 'filters must be an object, such as {"state": "open"}')
    if len(given) > MAX_CONDITIONS:
        raise DataError("invalid", f"filters must have at most {MAX_CONDITIONS} conditions")
    problems: dict[str, str] = {}
    found: list[Condition] = []
    for name, condition in given.items():
        field = model.fields.get(name) if isinstance(name, str) else None
        if field is None:
            problems[shown_name(name)] = "unknown field"
            continue
        try:
            found += [_condition(field, op, value) for op, value in _pairs(condition)]
        except ValueError as error:
            problems[field.name] = str(error)
    if len(found) > MAX_CONDITIONS:
        raise DataError("invalid", f"filters must have at most {MAX_CONDITIONS} conditions")
    if problems:
        raise DataError("invalid", "the filters have invalid fields", problems)
    if sum(len(each.value) for each in found if each.op == "in") > MAX_VALUES:
        raise DataError("invalid", f"filters must have at most {MAX_VALUES} values in lists, all together")
    if sum(each.value.length for each in found if each.op == "like") > MAX_LIKE:
        raise DataError("invalid", f"filters must have at most {MAX_LIKE} characters in patterns, all together")
    return Filters(tuple(found))


def _pairs(condition: Any) -> list[tuple[Any, Any]]:
    """Return the operators and values for one field."""
    if not isinstance(condition, list):
        return [("=", condition)]
    several = bool(condition) and all(isinstance(each, list) for each in condition)
    pairs = condition if several else [condition]
    if len(pairs) > MAX_CONDITIONS:
        raise ValueError(f"must have at most {MAX_CONDITIONS} conditions")
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError("must be a value, [operator, value], or a list of these pairs")
    return [(op, value) for op, value in pairs]


def _condition(field: Field, op: Any, raw: Any) -> Condition:
    if not isinstance(op, str) or op not in OPERATORS:
        raise ValueError(f"the operator must be one of {', '.join(OPERATORS)}")
    if field.type not in _TYPES.get(op, (field.type,)):
        raise ValueError(f"the operator {op} is not for the type {field.type}")
    if op == "in":
        return Condition(field, op, _values(field, raw))
    if op == "like":
        return Condition(field, op, Like(check_text(raw)))
    if raw is None:
        if op not in ("=", "!="):
            raise ValueError("null can be compared with = and != only")
        return Condition(field, op, None)
    if field.type == "json":
        raise ValueError("a json field can be compared with null only")
    return Condition(field, op, _value(field, raw))


def _values(field: Field, raw: Any) -> frozenset[Any]:
    if not isinstance(raw, list) or len(raw) > MAX_IN:
        raise ValueError(f"the operator in needs a list of at most {MAX_IN} values")
    return frozenset(_value(field, each) for each in raw)


def _value(field: Field, raw: Any) -> Any:
    if isinstance(raw, str) and len(raw) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT} characters")
    return parse_value(field.type, raw)
