"""Converts a raw value to the declared type of its setting, or says what is expected.

Text is accepted for every type, because environment variables hold only text.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from zcli_core.config.settings import Setting, alternatives, is_document, without_none
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from pathlib import Path

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class ConversionError(ValueError):
    """The value is invalid. The message says what it must be: ``"an integer between 0 and 65535"``.

    Attributes:
        suggestion: ``"; did you mean 'x'?"``, or an empty string.
    """

    def __init__(self, expected: str, suggestion: str = "") -> None:
        super().__init__(expected)
        self.suggestion = suggestion


def convert(raw: Any, setting: Setting, *, text: str | None = None) -> Any:
    """Convert a value to the declared type of its setting. A path is not resolved.

    Args:
        raw: Value as the layer found it.
        setting: The setting.
        text: The value as it is written in its source, if the layer knows it. It is used instead of ``raw``, because
            YAML reads ``0755`` as an octal number, ``1:30`` as 90 and ``off`` as false, whatever type is declared.

    Raises:
        ConversionError: The value is invalid.
    """
    expected = describe(setting)
    given = raw if text is None else text
    value = _to_first(alternatives(setting.type), given, expected)
    if setting.declaration.exact and value != given:
        raise ConversionError(expected, f"; did you mean {value!r}?")
    _check_bounds(value, setting, expected)
    if setting.declaration.check is not None:
        try:
            complaint = setting.declaration.check(value)
        except Exception as error:  # noqa: BLE001 - of a plugin; its message may quote a secret
            complaint = f"{expected} (the check of its plugin failed: {type(error).__name__})"
        if complaint:
            raise ConversionError(complaint)
    return value


def is_path(setting: Setting) -> bool:
    """Return whether the value of a setting is a path, or may be one."""
    from pathlib import Path

    declared = without_none(setting.type)
    return declared is Path or is_document(declared)


def describe(setting: Setting) -> str:
    """Return what the value of a setting must be: ``"an integer between 0 and 65535"``."""
    return " or ".join(_describe(declared, setting) for declared in alternatives(setting.type))


def _describe(declared: Any, setting: Setting) -> str:
    declaration = setting.declaration
    if declared is bool:
        return "true or false"
    if declared in (int, float):
        kind = "an integer" if declared is int else "a number"
        low, high = declaration.minimum, declaration.maximum
        if declaration.above is not None:
            return f"{kind} above {declaration.above:g}"
        if low is not None and high is not None:
            return f"{kind} between {low:g} and {high:g}"
        if low is not None:
            return f"{kind} of at least {low:g}"
        return f"{kind} of at most {high:g}" if high is not None else kind
    if get_origin(declared) is Literal:
        choices = get_args(declared)
        return f"one of {', '.join(choices)}" if len(choices) > 1 else str(choices[0])
    if get_origin(declared) is tuple:
        return "a list of strings (in a variable: separated by commas, or JSON)"
    if get_origin(declared) is Mapping:
        return "a mapping of strings (in a variable: name=value,name=value or JSON)"
    if is_document(declared):
        return "the path of a file, or a mapping"
    return "a string" if declared is str else "a path"


def _to_first(types: tuple[Any, ...], raw: Any, expected: str) -> Any:
    """Convert to the first type that fits."""
    for declared in types[:-1]:
        with contextlib.suppress(ConversionError):
            return _to(declared, raw, expected)
    return _to(types[-1], raw, expected)


def _to(declared: Any, raw: Any, expected: str) -> Any:
    origin = get_origin(declared)
    if declared is bool:
        return to_bool(raw, expected)
    if declared in (int, float):
        return _to_number(declared, raw, expected)
    if origin is Literal:
        return _to_choice(get_args(declared), raw, expected)
    if origin is tuple:
        return _to_list(raw, expected)
    if origin is Mapping:
        return _to_mapping(raw, expected)
    if is_document(declared):
        return _to_document(raw, expected)
    if declared is not str:
        return _to_path(raw, expected)
    if isinstance(raw, str):
        return raw
    raise ConversionError(expected)


def to_bool(raw: Any, expected: str) -> bool:
    """Convert true, 1, yes, on, false, 0, no or off, in any case, or a bool.

    Raises:
        ConversionError: The value is another one; the message is ``expected``.
    """
    if isinstance(raw, bool):
        return raw
    folded = raw.strip().casefold() if isinstance(raw, str) else None
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise ConversionError(expected)


def _to_number(declared: Any, raw: Any, expected: str) -> Any:
    if isinstance(raw, str):
        text = raw.strip()
        # int() and float() also accept digit groups, non-ASCII digits, "nan" and "infinity".
        if not text.isascii() or "_" in text:
            raise ConversionError(expected)
        try:
            raw = declared(text)
        except ValueError:
            raise ConversionError(expected) from None
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise ConversionError(expected)
    if declared is int and not isinstance(raw, int):
        raise ConversionError(expected)
    try:
        value = declared(raw)
    except OverflowError:
        raise ConversionError(expected) from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ConversionError(expected)
    return value


def _to_choice(choices: tuple[str, ...], raw: Any, expected: str) -> str:
    if isinstance(raw, str):
        for choice in choices:
            if choice.casefold() == raw.strip().casefold():
                return choice
        raise ConversionError(expected, suggestion(raw, choices))
    raise ConversionError(expected)


def _to_list(raw: Any, expected: str) -> tuple[str, ...]:
    if isinstance(raw, str):
        raw = _json(raw, expected) if raw.lstrip().startswith("[") else _comma_list(raw)
    # A generator is invalid, because a layer may be read twice.
    if isinstance(raw, (Mapping, bytes, bytearray)) or not isinstance(raw, Collection):
        raise ConversionError(expected)
    items = tuple(raw)
    if not all(isinstance(item, str) for item in items):
        raise ConversionError(expected)
    return items


def _to_mapping(raw: Any, expected: str) -> Mapping[str, str]:
    if isinstance(raw, str):
        if raw.lstrip().startswith("{"):
            raw = _json(raw, expected)
        else:
            pairs = [item.partition("=") for item in _comma_list(raw)]
            if not all(name and equals for name, equals, _ in pairs):
                raise ConversionError(expected)
            raw = {name.strip(): value.strip() for name, _, value in pairs}
    if not isinstance(raw, Mapping):
        raise ConversionError(expected)
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in raw.items()):
        raise ConversionError(expected)
    return types.MappingProxyType(dict(raw))


def _to_path(raw: Any, expected: str) -> Path:
    from pathlib import Path

    if isinstance(raw, Path):
        return raw
    if isinstance(raw, str) and raw.strip() and "\0" not in raw:
        return Path(raw)
    raise ConversionError(expected)


def _to_document(raw: Any, expected: str) -> Any:
    if isinstance(raw, str) and raw.lstrip().startswith("{"):
        raw = _json(raw, expected)
    if not isinstance(raw, Mapping):
        return _to_path(raw, expected)
    from copy import deepcopy

    # A copy, because the script may change its mapping later.
    return types.MappingProxyType(deepcopy(dict(raw)))


def _comma_list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _json(text: str, expected: str) -> Any:
    from json import loads

    try:
        return loads(text)
    except (ValueError, RecursionError):
        raise ConversionError(expected) from None


def _check_bounds(value: Any, setting: Setting, expected: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    limits = setting.declaration
    low, high, above = limits.minimum, limits.maximum, limits.above
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    ):
        raise ConversionError(expected)
