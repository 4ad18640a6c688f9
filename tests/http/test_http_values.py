"""Values of params, form and multipart fields: the same rules for all, and no value is sent by its str()."""

from __future__ import annotations

import enum
import io
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest
from in_memory import in_memory

URL = "http://host.example/"


class Color(str, enum.Enum):
    RED = "red"

    def __str__(self) -> str:
        return "Color.RED"


class Level(enum.IntEnum):
    HIGH = 3


class Day(enum.Enum):
    FIRST = date(2026, 11, 28)


class Odd(enum.Enum):
    LIST = (1, 2)


def as_params(value: Any) -> list[bytes]:
    http, transport = in_memory()
    http.get(URL, params={"a": value})
    query = transport.last.target.partition("?")[2]
    return [found.encode("latin-1") for _, found in parse_qsl(query, encoding="latin-1", keep_blank_values=True)]


def as_form(value: Any) -> list[bytes]:
    http, transport = in_memory()
    http.post(URL, form={"a": value})
    body = transport.last.body.decode()
    return [found.encode("latin-1") for _, found in parse_qsl(body, encoding="latin-1", keep_blank_values=True)]


def _parts(body: bytes) -> list[bytes]:
    boundary = body.partition(b"\r\n")[0]
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in body.split(boundary)[1:-1]]


def as_multipart_form(value: Any) -> list[bytes]:
    http, transport = in_memory()
    http.post(URL, form={"other": "1", "a": value}, files={})
    return _parts(transport.last.body)[1:]


def as_multipart_field(value: Any) -> list[bytes]:
    http, transport = in_memory()
    http.post(URL, files=[("a", (None, value)), ("other", b"")])
    return _parts(transport.last.body)[:-1]


everywhere = pytest.mark.parametrize(
    "sent", [as_params, as_form, as_multipart_form, as_multipart_field], ids=lambda sent: sent.__name__
)


@everywhere
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ü €", ["ü €".encode()]),
        ("", [b""]),
        (0, [b"0"]),
        (-1.5, [b"-1.5"]),
        (True, [b"true"]),
        (False, [b"false"]),
        (b"\xff\x00", [b"\xff\x00"]),
        (Color.RED, [b"red"]),
        (Level.HIGH, [b"3"]),
        (Day.FIRST, [b"2026-11-28"]),
        (date(2026, 1, 2), [b"2026-01-02"]),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), [b"2026-01-02T03:04:05+00:00"]),
        (time(3, 4), [b"03:04:00"]),
        (uuid.UUID(int=5), [b"00000000-0000-0000-0000-000000000005"]),
        (Decimal("1.50"), [b"1.50"]),
        ([1, None, Color.RED], [b"1", b"red"]),
        ((), []),
        ({7}, [b"7"]),
        (range(2), [b"0", b"1"]),
        ({"x": 1}.keys(), [b"x"]),
    ],
    ids=lambda value: type(value).__name__ + repr(value)[:12],
)
def test_value_of_known_type_is_sent(sent: Callable[[Any], list[bytes]], value: Any, expected: list[bytes]) -> None:
    """A value is sent in its one certain form, an iterable as several values."""
    assert sent(value) == expected


@everywhere
def test_value_from_a_generator_is_several(sent: Callable[[Any], list[bytes]]) -> None:
    """What a generator yields is sent in its order, not the generator's repr."""
    assert sent(letter for letter in "ba") == [b"b", b"a"]


@everywhere
@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"b": 1},
        [[1]],
        [{"b": 1}],
        bytearray(b"x"),
        memoryview(b"x"),
        Color,
        Odd.LIST,
        timedelta(1),
        len,
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_of_other_type_raises_type_error(sent: Callable[[Any], list[bytes]], value: Any) -> None:
    """Anything else raises TypeError that names the value and the argument."""
    with pytest.raises(TypeError, match=r"'a' in (params|form|files) must be str, int"):
        sent(value)


@pytest.mark.parametrize("sent", [as_params, as_form, as_multipart_form])
def test_value_that_is_a_file_raises_type_error(sent: Callable[[Any], list[bytes]]) -> None:
    """The lines of a file are not several values."""
    with pytest.raises(TypeError, match=r"'a' in (params|form) must be str, int"):
        sent(io.BytesIO(b"lines\nof\na file"))


@everywhere
@pytest.mark.parametrize("value", [float("inf"), float("nan"), Decimal("NaN"), "\ud800", [float("-inf")]])
def test_value_without_written_form_raises(sent: Callable[[Any], list[bytes]], value: Any) -> None:
    """A number that is not finite and a lone surrogate raise ValueError."""
    with pytest.raises(ValueError, match=r"'a' in (params|form|files)"):
        sent(value)


def test_value_none_is_left_out() -> None:
    """None leaves a name out, in params and form."""
    http, transport = in_memory()
    http.post(URL, params={"a": None, "b": 1}, form={"a": None})
    assert (transport.last.target, transport.last.body) == ("/?b=1", b"")


@pytest.mark.parametrize("argument", ["params", "form"])
@pytest.mark.parametrize("name", [b"a", None, True, 1.5, object()])
def test_name_of_other_type_raises_type_error(argument: str, name: Any) -> None:
    """A name is text or a whole number."""
    with pytest.raises(TypeError, match=f"a name in {argument} must be str or int"):
        in_memory()[0].post(URL, **{argument: {name: "1"}})


def test_name_may_be_an_enum_member() -> None:
    """An enum member as a name is its value, in every argument."""
    http, transport = in_memory()
    http.post(URL, params={Color.RED: 1, Level.HIGH: 2}, files={Color.RED: b"x"}, headers={Color.RED: Level.HIGH})
    assert transport.last.target == "/?red=1&3=2"
    assert b'name="red"; filename="red"' in transport.last.body
    assert [type(name) for name, _ in transport.last.request.headers.items()] == [str] * 6
    assert transport.last.header("red") == "3"


@pytest.mark.parametrize("argument", ["params", "form", "files", "headers"])
@pytest.mark.parametrize("given", [["ab"], [("a", 1, 2)], [("a",)], b"ab", 5, [5]], ids=repr)
def test_pairs_of_other_shape_raise_type_error(argument: str, given: Any) -> None:
    """A string of two letters is not a name with a value."""
    with pytest.raises(TypeError, match=f"{argument} must be a mapping or an iterable of"):
        in_memory()[0].post(URL, **{argument: given})


def test_enum_member_in_auth_is_its_value() -> None:
    """A token that is an enum member is not sent as Token.PROD."""
    http, transport = in_memory()
    http.get(URL, auth=Color.RED)
    assert transport.last.header("Authorization") == "Bearer red"
    http.get(URL, auth=(Color.RED, Color.RED))
    assert transport.last.header("Authorization") == "Basic cmVkOnJlZA=="


@pytest.mark.parametrize("data", [{b"x"}, frozenset({b"x"}), Color], ids=repr)
def test_data_without_an_order_raises_type_error(data: Any) -> None:
    """A body is not made from a set, whose order is arbitrary."""
    with pytest.raises(TypeError, match="data must be"):
        in_memory()[0].post(URL, data=data)


def test_json_of_too_deep_nesting_raises_value_error() -> None:
    """Data that is nested too deeply is a mistake in an argument."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="json is nested too deeply"):
        in_memory()[0].post(URL, json=deep)
    while deep:  # freeing it at once would recurse
        deep = deep[0]
