"""Filters: what they select, and what they refuse."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from data_services import ADMIN, EVERYTHING, in_loop, refused, rows_of, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import OPERATORS, parse_filters
from zcli_bifrost.data.like import Like
from zcli_bifrost.data.model_file import parse_models
from zcli_bifrost.data.service import DataService
from zcli_bifrost.data.values import parse_value

MODEL = parse_models(EVERYTHING, "test")["things"]

texts = st.text(st.sampled_from("aAbBzÄä%_\\*?[]^-é😀 \n'\""), max_size=5)
numbers = st.one_of(st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1]))
ratios = st.one_of(st.sampled_from([-1.5, 0.0, 0.1, 1e300, 5e-324]), st.integers(-2, 2))
instants = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.000001Z", "0999-12-31T23:59:59Z"]
)
VALUES = {"name": texts, "number": numbers, "ratio": ratios, "flag": st.booleans(), "at": instants}
extras = st.one_of(st.none(), st.just({"a": [1, None]}), st.just([]))


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    row = {name: draw(values if name == "name" else st.none() | values) for name, values in VALUES.items()}
    return {**row, "extra": draw(extras)}


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    found = {}
    for name in draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=3, unique=True)):
        conditions = draw(st.lists(_condition(name), min_size=1, max_size=2))
        found[name] = conditions[0] if len(conditions) == 1 else conditions
    if draw(st.booleans()):
        found["extra"] = [draw(st.sampled_from(["=", "!="])), None]
    return found


@st.composite
def _condition(draw: st.DrawFn, name: str) -> list[Any]:
    ops = ["=", "!=", "in"]
    if name != "flag":
        ops += ["<", "<=", ">", ">="]
    if name == "name":
        ops += ["like"]
    op = draw(st.sampled_from(ops))
    if op == "in":
        return [op, draw(st.lists(VALUES[name], max_size=3))]
    if op == "like":
        return [
            op,
            draw(st.lists(st.sampled_from(["%", "_", r"\%", r"\_", r"\\", *"aAÄ*?[]^"]), max_size=5).map("".join)),
        ]
    return [op, draw(st.none() | VALUES[name] if op in ("=", "!=") else VALUES[name])]


def expected(row: dict[str, Any], given_filters: dict[str, Any]) -> bool:
    """Return whether a filter selects a row, as the documentation says it, independently of the code."""
    for name, condition in given_filters.items():
        for op, value in condition if isinstance(condition[0], list) else [condition]:
            if not _meets(name, row[name], op, value):
                return False
    return True


def _meets(name: str, held: Any, op: str, value: Any) -> bool:
    kind = MODEL.fields[name].type
    if kind == "json":
        return (held is None) is (op == "=")
    if op in ("=", "!="):
        return (_ready(name, held) == _ready(name, value)) is (op == "=")
    if held is None:
        return False
    if op == "in":
        return _ready(name, held) in [_ready(name, each) for each in value]
    if op == "like":
        parts = re.findall(r"\\.|[^\\]", value, re.DOTALL)
        pattern = "".join(".*" if p == "%" else "." if p == "_" else re.escape(p[-1]) for p in parts)
        return re.fullmatch(pattern, held, re.DOTALL) is not None
    left, right = _ready(name, held), _ready(name, value)
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[op]


def _empty(connection: Any) -> None:
    connection.exec_driver_sql("DELETE FROM things")


async def _check(service: DataService, given_rows: list[dict[str, Any]], all_filters: list[dict[str, Any]]) -> None:
    await service.database.write(_empty)
    if given_rows:
        await service.create(ADMIN, "things", given_rows)
    everything = await rows_of(service, ADMIN, "things")
    ready = [{name: _ready(name, value) for name, value in row.items() if name != "id"} for row in everything]
    for each in all_filters:
        wanted = [row for row in everything if expected(row, each)]
        assert await rows_of(service, ADMIN, "things", each) == wanted, each
        parsed = parse_filters(MODEL, each)
        assert [row for row, values in zip(everything, ready, strict=True) if parsed.matches(values)] == wanted, each


@pytest.mark.parametrize("examples", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_filters_select_as_documented(url: str, examples: int) -> None:
    """Both databases, and the evaluation in Python, select the rows that the documentation says."""
    loop = asyncio.new_event_loop()
    running = serving(url, EVERYTHING)
    service = loop.run_until_complete(running.__aenter__())

    @settings(max_examples=examples)
    @given(st.lists(rows(), max_size=10), st.lists(filters(), min_size=6, max_size=6))
    def all_examples(given_rows: list[dict[str, Any]], all_filters: list[dict[str, Any]]) -> None:
        loop.run_until_complete(_check(service, given_rows, all_filters))

    try:
        all_examples()
    finally:
        loop.run_until_complete(running.__aexit__(None, None, None))
        loop.close()


def _ready(name: str, value: Any) -> Any:
    return None if value is None else parse_value(MODEL.fields[name].type, value)


@in_loop
async def test_order_is_the_same_in_all_databases(url: str) -> None:
    """Texts are in the order of Unicode, null comes first, equal rows are in the order of their keys."""
    names = ["b", "B", "ä", "a", "Z", "", "😀", "\uffee"]
    async with serving(url, EVERYTHING) as service:
        await service.create(ADMIN, "things", [{"name": name, "number": i % 3 or None} for i, name in enumerate(names)])
        assert [r["name"] for r in await rows_of(service, ADMIN, "things", order_by="name")] == sorted(names)
        found = await rows_of(service, ADMIN, "things", order_by=["-number", "-name"])
        key = [(r["number"] if r["number"] is not None else -1, r["name"]) for r in found]
        assert key == sorted(key, reverse=True)
        found = await rows_of(service, ADMIN, "things", order_by="number")
        assert [r["id"] for r in found] == [r["id"] for r in sorted(found, key=lambda r: (r["number"] or 0, r["id"]))]


HOSTILE: list[tuple[Any, str]] = [
    ([], "filters must be an object"),
    ("name = 'x'", "filters must be an object"),
    ({"name; DROP TABLE things": 1}, "unknown field"),
    ({"name\0": "x"}, "unknown field"),
    ({"\ud800": "x"}, "unknown field"),
    ({"x" * 100_000: 1}, "unknown field"),
    ({"name": ["= '' OR 1=1 --", "x"]}, "the operator must be one of"),
    ({"name": [["="], "x"]}, "the operator must be one of"),
    ({"name": [None, "x"]}, "the operator must be one of"),
    ({"name": ["="]}, "must be a value, [operator, value]"),
    ({"name": []}, "must be a value, [operator, value]"),
    ({"name": [["=", "x"], ["=", "y", "z"]]}, "must be a value, [operator, value]"),
    ({"name": {"$gt": ""}}, "must be a text"),
    ({"name": ["=", ["x"]]}, "must be a text"),
    ({"name": 5}, "must be a text"),
    ({"name": "a\0b"}, "U+0000"),
    ({"name": "\udc80"}, "surrogate"),
    ({"name": "x" * 10_001}, "at most 10000 characters"),
    ({"number": True}, "must be an integer"),
    ({"number": 1.0}, "must be an integer"),
    ({"number": "1"}, "must be an integer"),
    ({"number": 2**63}, "at most 64 bits"),
    ({"number": 10**4000}, "at most 64 bits"),
    ({"ratio": float("nan")}, "finite"),
    ({"ratio": float("inf")}, "finite"),
    ({"ratio": 10**400}, "finite"),
    ({"flag": 1}, "true or false"),
    ({"flag": ["<", True]}, "not for the type bool"),
    ({"at": "yesterday"}, "date and time"),
    ({"at": "2026-01-01T00:00:00"}, "with an offset"),
    ({"at": "2026-01-01"}, "with an offset"),
    ({"at": "0001-01-01T00:00:00+14:00"}, "date and time"),
    ({"extra": {"a": 1}}, "null only"),
    ({"extra": ["in", [None]]}, "not for the type json"),
    ({"number": ["<", None]}, "= and != only"),
    ({"number": ["in", None]}, "a list of at most 1000"),
    ({"number": ["in", list(range(100_000))]}, "a list of at most 1000"),
    ({"number": ["in", [1, "2"]]}, "must be an integer"),
    ({"number": ["like", "1%"]}, "not for the type int"),
    ({"name": ["like", 5]}, "must be a text"),
    ({"name": ["like", "a\\"]}, "backslash"),
    ({"name": ["like", "\\a"]}, "backslash"),
    ({"name": ["like", "%" * 9]}, "at most 8"),
    ({"name": ["like", "a" * 257]}, "at most 256"),
    ({"name": [["=", "x"]] * 60}, "50 conditions"),
    ({f"f{i}": 1 for i in range(60)}, "50 conditions"),
]  # fmt: skip


@pytest.mark.parametrize(("hostile", "problem"), HOSTILE, ids=range(len(HOSTILE)))
def test_filters_hostile_are_refused(hostile: Any, problem: str) -> None:
    """Each is an error of the client, with the field that is wrong."""
    with pytest.raises(DataError) as error:
        parse_filters(MODEL, hostile)
    assert error.value.code == "invalid"
    said = f"{error.value.text} {error.value.fields}"
    assert problem in said
    assert len(said) < 1000


def test_operators_all_are_tested() -> None:
    """The strategy above knows each operator."""
    assert set(OPERATORS) == {"=", "!=", "<", "<=", ">", ">=", "in", "like"}


@in_loop
async def test_filters_sql_in_a_value_is_a_value(url: str) -> None:
    """Texts that look like SQL are compared as they are."""
    evil = ["'; DROP TABLE things; --", '" OR "1"="1', "%s", ":f0", "$1", "?", "x' COLLATE NOCASE"]
    async with serving(url, EVERYTHING) as service:
        await service.create(ADMIN, "things", [{"name": name} for name in evil])
        for name in evil:
            assert [row["name"] for row in await rows_of(service, ADMIN, "things", {"name": name})] == [name]
        assert len(await rows_of(service, ADMIN, "things", {"name": ["in", evil]})) == len(evil)


def test_like_cost_is_bounded() -> None:
    """A pattern with all its wildcards does not go back and forth in a long text."""
    assert not Like("%a%a%a%a%a%a%ab").matches("a" * 100_000)
    assert Like("%a_a%a%").matches("a" * 100_000)


@in_loop
async def test_filters_of_a_request_are_not_changed(sqlite_url: str) -> None:
    """The caller's objects stay as they are."""
    given_filters = {"name": [["!=", "x"], ["like", "%"]], "number": ["in", [1, 2]]}
    copy = {"name": [["!=", "x"], ["like", "%"]], "number": ["in", [1, 2]]}
    async with serving(sqlite_url, EVERYTHING) as service:
        await service.read(ADMIN, "things", given_filters)
        with refused("invalid", "filters are required"):
            await service.update(ADMIN, "things", {}, {"name": "x"})
    assert given_filters == copy
