"""Values of fields: from JSON to Python, and from the database to JSON.

A value is int, float, str, bool, an aware datetime in UTC, or for ``json`` anything that JSON has. Nothing is converted
by a guess: ``"1"`` and ``true`` are not integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

MIN_INT, MAX_INT = -(2**63), 2**63 - 1
#: How deep a ``json`` value may be nested.
MAX_DEPTH = 32


def parse_value(kind: str, raw: Any) -> Any:
    """Convert a value of a client.

    Args:
        kind: Type of the field.
        raw: Value as JSON has it, not None.

    Raises:
        ValueError: The value does not have the type. The message says what it must be: ``"must be an integer"``.
    """
    return _PARSERS[kind](raw)


def check_text(raw: Any) -> str:
    """Return a text that both databases can store.

    Raises:
        ValueError: It is not a text, or has a character U+0000 or half of a surrogate pair.
    """
    if not isinstance(raw, str):
        raise ValueError("must be a text")  # noqa: TRY004 - every complaint is a ValueError
    if "\0" in raw:
        raise ValueError("must not contain the character U+0000")
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode; it contains half of a surrogate pair") from None
    return raw


def shown_name(name: object) -> str:
    """Return a name that a client has sent, short and valid, for an error."""
    try:
        return check_text(name)[:100]
    except ValueError:
        return "?"


def _int(raw: Any) -> int:
    if type(raw) is not int:
        raise ValueError("must be an integer")
    if not MIN_INT <= raw <= MAX_INT:
        raise ValueError("must be an integer of at most 64 bits")
    return raw


def _float(raw: Any) -> float:
    if type(raw) not in (int, float):
        raise ValueError("must be a number")
    try:
        value = float(raw)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _bool(raw: Any) -> bool:
    if type(raw) is not bool:
        raise ValueError("must be true or false")
    return raw


def _datetime(raw: Any) -> datetime:
    expected = "must be a date and time with an offset, such as 2026-11-29T08:30:00Z"
    if not isinstance(raw, str) or len(raw) > 40 or not raw.isascii():
        raise ValueError(expected)
    text = raw[:-1] + "+00:00" if raw[-1:] in ("Z", "z") else raw
    try:
        value = _from_iso(text)
        if value.tzinfo is None or len(text) < len("2026-11-29T08:30+00:00"):
            raise ValueError(expected)  # noqa: TRY301 - one message for all invalid times
        return value.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None


def _from_iso(text: str) -> datetime:
    """Parse RFC 3339. Python 3.10 takes only 3 or 6 digits of a second, so others are filled up or cut to 6."""
    head, dot, rest = text.partition(".")
    if dot:
        digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))]
        if not digits:
            raise ValueError(text)
        text = f"{head}.{digits[:6]:0<6}{rest[len(digits) :]}"
    return datetime.fromisoformat(text)


def _json(raw: Any) -> Any:
    _check_json(raw, 0)
    return raw


def _check_json(raw: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"must not be nested more than {MAX_DEPTH} levels deep")
    if isinstance(raw, str):
        check_text(raw)
    elif isinstance(raw, dict):
        for key, item in raw.items():
            check_text(key)
            _check_json(item, depth + 1)
    elif isinstance(raw, list):
        for item in raw:
            _check_json(item, depth + 1)
    elif type(raw) is int:
        _int(raw)
    elif type(raw) is float:
        _float(raw)
    elif raw is not None and type(raw) is not bool:
        raise ValueError("must be a value that JSON has")


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "text": check_text,
    "bool": _bool,
    "datetime": _datetime,
    "json": _json,
}


def _float_to_json(value: Any) -> float | None:
    """Return None for NaN and infinity, which JSON does not have and another program may have stored."""
    return float(value) if value is not None and math.isfinite(value) else None


def _datetime_to_json(value: datetime | None) -> str | None:
    if value is None:
        return None
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"


#: By type: the function that makes a value of the database ready for JSON, where that is needed.
TO_JSON: dict[str, Callable[[Any], Any]] = {"float": _float_to_json, "datetime": _datetime_to_json}
