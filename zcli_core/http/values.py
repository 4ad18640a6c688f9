"""Values of ``params``, ``form`` and multipart fields: the accepted types, and how each is encoded.

No object is sent by its ``str()``: a server would take ``<generator object ...>`` or ``Color.RED`` for the value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

#: What may be given as ``params`` or ``form``: names with values, in a mapping or as (name, value) pairs.
#:
#: A value is str, int, float, bool (sent as ``true`` or ``false``), bytes, an enum member (its value), a date, time or
#: datetime (ISO 8601), a UUID or a Decimal. An iterable of these is several values of the name; None is left out.
Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]

_ACCEPTED = "str, int, float, bool, bytes, an enum member, a date, time or datetime, a UUID, a Decimal or an iterable"


def name_values(pairs: Pairs, argument: str) -> list[tuple[bytes, bytes]]:
    """Return the names and values in UTF-8, with an item for each value of a name.

    Raises:
        TypeError: The argument is not a mapping or an iterable of pairs, or a value has a type that is not accepted.
        ValueError: A number is infinite or NaN, or a text contains a lone surrogate.
    """
    encoded = []
    for name, value in pairs_of(pairs, argument):
        key = encode_name(name, argument)
        if type(value) is str and value.isascii():  # as most are
            encoded.append((key, value.encode()))
        else:
            encoded += [(key, single) for single in encode_values(value, f"the value of {name!r} in {argument}")]
    return encoded


def pairs_of(given: Any, argument: str) -> list[tuple[Any, Any]]:
    """Return the (name, value) pairs of a mapping, or of an iterable of pairs.

    Raises:
        TypeError: It is neither.
    """
    if type(given) is dict:
        return list(given.items())
    expected = f"{argument} must be a mapping or an iterable of (name, value) pairs"
    if isinstance(given, (str, bytes, bytearray, memoryview)) or not isinstance(given, Iterable):
        raise TypeError(f"{expected}, got {type(given).__name__}")
    pairs = []
    for item in given.items() if isinstance(given, Mapping) else given:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(f"{expected}, got an item that is not a pair ({type(item).__name__})")
        pairs.append((item[0], item[1]))
    return pairs


def encode_name(name: Any, argument: str) -> bytes:
    """Return a name in UTF-8. A name is str, int, or an enum member with such a value."""
    if type(name) is str and name.isascii():
        return name.encode()
    plain = name.value if isinstance(name, Enum) else name
    if isinstance(plain, bool) or not isinstance(plain, (str, int)):
        raise TypeError(f"a name in {argument} must be str or int, got {type(plain).__name__}")
    return _encode(plain, f"the name {name!r} in {argument}")


def encode_values(value: Any, what: str) -> Iterator[bytes]:
    """Yield the encoded value, or each encoded item if it is an iterable. None is left out.

    Args:
        value: See :data:`Pairs`.
        what: What an error calls the value, such as ``the value of 'a' in params``.
    """
    if value is None:
        return
    if _is_several(value):
        for item in value:
            if item is not None:
                yield _encode(item, what)
    else:
        yield _encode(value, what)


def plain_text(text: str) -> str:
    """Return a str as plain str. A str that is an enum member would be formatted as ``Color.RED``."""
    return str.__str__(text)


def _is_several(value: Any) -> bool:
    # An enum class, a file and raw memory are iterable too, but are not several values.
    single = (str, bytes, bytearray, memoryview, Mapping, Enum, type)
    return isinstance(value, Iterable) and not isinstance(value, single) and not hasattr(value, "read")


def _encode(value: Any, what: str) -> bytes:
    while isinstance(value, Enum):
        value = value.value
    if isinstance(value, bytes):
        return bytes(value)
    text = _text(value, what)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} contains a lone surrogate, which cannot be encoded as UTF-8") from None


def _text(value: Any, what: str) -> str:
    # The methods of the base classes, because a subclass may have another __str__.
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        try:
            return int.__repr__(value)
        except ValueError as error:  # sys.set_int_max_str_digits
            raise ValueError(f"{what} cannot be sent: {error}") from None
    if isinstance(value, float):
        _require_finite(math.isfinite(value), what)
        return float.__repr__(value)
    return _rare_text(value, what)


def _rare_text(value: Any, what: str) -> str:
    from datetime import date, time
    from decimal import Decimal
    from uuid import UUID

    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, UUID):
        return UUID.__str__(value)
    if isinstance(value, Decimal):
        _require_finite(value.is_finite(), what)
        return Decimal.__str__(value)
    raise TypeError(f"{what} must be {_ACCEPTED} of these, got {type(value).__name__}")


def _require_finite(is_finite: bool, what: str) -> None:
    if not is_finite:
        raise ValueError(f"{what} must be a finite number, because infinity and NaN have no standard text form")
