"""The log in JSON: one object per line, for programs that collect logs.

Every record gives one valid line, whatever its message, exception and ``extra`` hold. The lines are ASCII, so they are
valid in any encoding of a console.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from zcli_core.redaction import text_of

#: The keys that zCLI gives. A field of the caller with such a name gets another one.
KEYS = frozenset(("time", "level", "logger", "message", "pid", "worker", "exception", "stack"))
#: Attributes that every record has, or that formatters set. All others are fields that the caller gave as ``extra``.
_STANDARD = frozenset((*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"))
#: Marks that zCLI puts on records, for its own handlers.
_OUR_MARKS = "zcli_"

#: Larger integers do not fit into 64 bits, which many programs that read JSON use.
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
#: Most values of the containers of one record, and their deepest nesting. They end a container that holds itself.
_MOST_VALUES = 10_000
_DEEPEST = 20
_OMITTED = "..."

_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False)


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object in one line.

    Its keys are those of :data:`KEYS` that apply, then the fields that the caller gave as ``extra``, in their order. A
    field named like one of our keys gets ``_`` at its end. Values that JSON does not have are written as their text.
    """

    def __init__(self, worker: int | None = None, redact: Callable[[str], str] = str) -> None:
        """Prepare the formatter.

        Args:
            worker: Number of the worker that this process is.
            redact: Removes secrets from a text: from the names and values of ``extra``, which no filter has seen.
        """
        super().__init__()
        self._worker = worker
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": str(record.levelname),
            "logger": str(record.name),
            "message": _message(record),
            "pid": record.process,
        }
        if self._worker is not None:
            line["worker"] = self._worker
        if record.exc_info or record.exc_text:
            line["exception"] = record.exc_text or text_of(record.exc_info, self.formatException)
        if record.stack_info:
            line["stack"] = text_of(record.stack_info, self.formatStack)
        line = {key: _valid(value) if isinstance(value, str) else value for key, value in line.items()}
        values = _Values(self._redact)
        for name in [name for name in record.__dict__ if name not in _STANDARD]:
            key = values.text(name)
            if not key.startswith(_OUR_MARKS):
                while key in KEYS or key in line:
                    key += "_"
                line[key] = values.plain(record.__dict__[name])
        return _ENCODER.encode(line)


def _utc(seconds: float) -> str:
    """Return a time as RFC 3339 writes it, in milliseconds: ``2026-11-28T15:00:00.123Z``."""
    whole = math.floor(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((seconds - whole) * 1000):03}Z"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the arguments do not fit the message, or have no text
        message, arguments = text_of(record.msg, str), text_of(record.args, repr)
        return f"{message} (with invalid arguments: {arguments})"


def _valid(text: str) -> str:
    """Return a text of the type str with an escape for each lone surrogate, which many programs refuse in JSON."""
    plain = str.__str__(text)
    return plain if plain.isascii() else plain.encode("utf-8", "backslashreplace").decode("utf-8")


class _Values:
    """Turns the values of one record into those that JSON has.

    Types are looked up with ``type()`` and used through the builtin types, because the methods of a subclass may raise.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._left = _MOST_VALUES

    def text(self, value: Any) -> str:
        """Return a value as a text without secrets."""
        text = value if issubclass(type(value), str) else text_of(value, str)
        return self._redact(_valid(text))

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Return a value for JSON, without secrets."""
        self._left -= 1
        if depth > _DEEPEST:
            return _OMITTED
        kind = type(value)
        if value is None or kind is bool:
            return value
        try:
            if issubclass(kind, (int, float)):
                return self._number(value)
            if issubclass(kind, dict):
                return self._object(value, depth)
            if issubclass(kind, (list, tuple)):
                return self._list((list if issubclass(kind, list) else tuple).__iter__(value), depth)
        except Exception:  # noqa: BLE001 - another thread changes it, or an int is too large for a text
            return self.text(f"<{kind.__name__} without a text>")
        return self.text(value)

    def _number(self, value: float) -> int | float | str:
        number = int.__index__(value) if isinstance(value, int) else float.__pos__(value)
        text = repr(number)
        is_plain = _SMALLEST <= number <= _LARGEST if isinstance(number, int) else math.isfinite(number)
        return number if is_plain and self._redact(text) == text else self.text(text)

    def _list(self, items: Iterator[Any], depth: int) -> list[Any]:
        found: list[Any] = []
        for item in items:
            if self._left <= 0:
                return [*found, _OMITTED]
            found.append(self.plain(item, depth + 1))
        return found

    def _object(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in dict.items(value):
            if self._left <= 0:
                return {**found, _OMITTED: _OMITTED}
            key = self.text(name)
            while key in found:
                key += "_"
            found[key] = self.plain(item, depth + 1)
        return found
