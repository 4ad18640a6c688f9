"""Creating, changing, deleting and reading rows, and the errors of each field."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from data_services import ADMIN, ANN, EVERYTHING, NOTES, Events, in_loop, refused, rows_of, serving, until
from zcli_bifrost.data.actor import Actor

ROW = {
    "name": "Größe 😀 \n'\"",
    "number": -(2**63),
    "ratio": 1.5e-300,
    "flag": False,
    "at": "2026-11-29T08:30:00.123456Z",
    "extra": {"a": [1, 2.5, None, True, "ü", {"": []}]},
}


@in_loop
async def test_values_of_all_types_come_back(url: str) -> None:
    """What a client stores is what it reads; an instant comes back in UTC."""
    async with serving(url, EVERYTHING) as service:
        created = await service.create(
            ANN, "things", [ROW, {"name": "", "at": "2026-11-29T10:30:00,5+02:00".replace(",", ".")}]
        )
        assert created.rows[0] == {"id": 1, **ROW}
        assert created.rows[1]["at"] == "2026-11-29T08:30:00.500000Z"
        assert await rows_of(service, ANN, "things") == created.rows
        nothing = {name: None for name in ROW if name != "name"}
        assert (await service.update(ANN, "things", {"id": 1}, nothing)).count == 1
        assert (await rows_of(service, ANN, "things"))[0] == {"id": 1, "name": ROW["name"], **nothing}


@in_loop
async def test_create_several_all_or_none(url: str) -> None:
    """One invalid or clashing row, and no row is there."""
    async with serving(url) as service:
        created = await service.create(ANN, "folders", [{"title": f"t{n}"} for n in range(150)])
        assert [row["title"] for row in created.rows] == [f"t{n}" for n in range(150)]
        assert [row["id"] for row in created.rows] == list(range(1, 151))
        with refused("invalid", **{"[1].title": "is required", "[2].color": "unknown field"}):
            await service.create(ANN, "folders", [{"title": "x"}, {}, {"title": "y", "color": "red"}])
        with refused("conflict", title="another row"):
            await service.create(ANN, "folders", [{"title": "x"}, {"title": "t7"}])
        with refused("conflict"):
            await service.create(ANN, "folders", [{"title": "x"}, {"title": "x"}])
        assert len(await rows_of(service, ANN, "folders")) == 150


@in_loop
async def test_fields_may_have_any_name(url: str) -> None:
    """Also names that look like parameters of statements."""
    names = ("f0", "v0", "owner_", "limit_", "version", "keys", "current", "model", "select")
    fields: dict[str, Any] = {name: {"type": "int", "default": 0} for name in names}
    async with serving(url, {"names": {"fields": {**fields, "who": {"type": "text"}}, "owner": "who"}}) as service:
        await service.create(ANN, "names", [{}, {}])
        for number, name in enumerate(names, 1):
            assert (await service.update(ANN, "names", {name: 0, "id": 1}, {name: number})).count == 1
        both = await rows_of(service, ANN, "names")
        assert both[0] == {"id": 1, "who": "ann", **{name: number for number, name in enumerate(names, 1)}}
        assert both[1] == {"id": 2, "who": "ann", **dict.fromkeys(names, 0)}
        assert (await service.delete(ANN, "names", {"f0": 1, "v0": 2})).count == 1


RULES: dict[str, Any] = {
    "rules": {
        "fields": {
            "code": {"type": "text", "pattern": "[A-Z]{2}-[0-9]+", "min_length": 4, "max_length": 6},
            "kind": {"type": "text", "enum": ["a", "b"], "default": "a"},
            "level": {"type": "int", "enum": [1, 2]},
            "share": {"type": "float", "min": 0, "max": 1},
            "at": {"type": "datetime", "min": "2026-01-01T00:00:00Z", "default": "now"},
            "must": {"type": "bool", "required": True},
            "data": "json",
        }
    }
}
BAD: list[tuple[str, Any, str]] = [
    ("code", "AB-", "at least 4"),
    ("code", "AB-1234", "at most 6 characters"),
    ("code", "ab-12", "must match the pattern"),
    ("code", "AB-12\n", "must match the pattern"),
    ("code", "AB-\0", "U+0000"),
    ("code", "\ud800AB-", "surrogate"),
    ("code", 12, "must be a text"),
    ("kind", "c", "one of a, b"),
    ("level", 3, "one of 1, 2"),
    ("level", True, "an integer"),
    ("share", 1.01, "at most 1"),
    ("share", -1, "at least 0"),
    ("share", "0.5", "a number"),
    ("share", float("nan"), "finite"),
    ("at", "2025-12-31T23:59:59Z", "at least 2026-01-01T00:00:00Z"),
    ("at", 1764400000, "date and time"),
    ("at", "2026-02-30T00:00:00Z", "date and time"),
    ("must", None, "is required"),
    ("must", "true", "true or false"),
    ("data", {"a": 2**64}, "64 bits"),
    ("data", {"a": float("inf")}, "finite"),
    ("data", {"\0": 1}, "U+0000"),
    ("data", "x" * 65_536, "at most 65536 characters"),
    ("data", json.loads("[" * 40 + "]" * 40), "levels deep"),
    ("id", 7, "the database makes the key"),
    ("nope", 1, "unknown field"),
    ("x" * 10_000, 1, "unknown field"),
]


@pytest.mark.parametrize(("field", "value", "problem"), BAD, ids=range(len(BAD)))
def test_create_invalid_field_is_named(field: str, value: Any, problem: str) -> None:
    """Each wrong value is an error of its field; the check needs no database."""
    from zcli_bifrost.data.errors import DataError
    from zcli_bifrost.data.model_file import parse_models
    from zcli_bifrost.data.validation import changed_values, new_rows

    model = parse_models(RULES, "test")["rules"]
    good = {"code": "AB-12", "must": True}
    assert new_rows(model, ANN, good, 10)[0]["kind"] == "a"
    for check in (
        lambda: new_rows(model, ANN, {**good, field: value}, 10),
        lambda: changed_values(model, {field: value}),
    ):
        with pytest.raises(DataError) as error:
            check()
        assert error.value.code == "invalid"
        [(name, said)] = error.value.fields.items()
        assert field.startswith(name)
        assert problem in said or (field == "id" and "cannot be changed" in said)
        assert len(repr(error.value)) < 500


def test_create_empty_text_names_one_character() -> None:
    """A bound of one is in the singular."""
    from zcli_bifrost.data.errors import DataError
    from zcli_bifrost.data.model_file import parse_models
    from zcli_bifrost.data.validation import new_rows

    model = parse_models({"words": {"fields": {"word": {"type": "text", "min_length": 1}}}}, "test")["words"]
    with pytest.raises(DataError) as error:
        new_rows(model, ANN, {"word": ""}, 10)
    assert error.value.fields == {"word": "must have at least 1 character"}


@in_loop
async def test_create_data_of_another_form_is_refused(sqlite_url: str) -> None:
    """No mapping, an empty list, a list with something else, too many rows."""
    async with serving(sqlite_url, rows_max=3) as service:
        for data in (None, [], "x", 5, [[]], [{"title": "x"}, None]):
            with refused("invalid", "data must be"):
                await service.create(ANN, "folders", data)
        with refused("invalid", "at most 3 rows"):
            await service.create(ANN, "folders", [{"title": "x"}] * 4)
        for data in (None, [], {}, "x"):
            with refused("invalid", "data must be"):
                await service.update(ANN, "folders", {"id": 1}, data)
        for model in ("nope", "folders; --", None, 5, "zcli_bifrost_changes", "sqlite_master"):
            with refused("not_found"):
                await service.create(ANN, model, {"title": "x"})  # type: ignore[arg-type]


@in_loop
async def test_write_without_filters_is_refused(sqlite_url: str) -> None:
    """No request changes or deletes all rows by leaving the filters out."""
    async with serving(sqlite_url) as service:
        await service.create(ANN, "folders", {"title": "x"})
        for filters in (None, {}, [], "", 0):
            with refused("invalid", "filters"):
                await service.update(ANN, "folders", filters, {"title": "y"})
            with refused("invalid", "filters"):
                await service.delete(ANN, "folders", filters)
        assert len(await rows_of(service, ANN, "folders")) == 1


@in_loop
async def test_delete_of_referenced_row_is_a_conflict(url: str) -> None:
    """Rows that refer to it keep a row."""
    async with serving(url) as service:
        await service.create(ANN, "folders", {"title": "x"})
        await service.create(ANN, "notes", {"text": "n", "folder": 1})
        with refused("conflict", "refer to it"):
            await service.delete(ANN, "folders", {"id": 1})
        await service.delete(ANN, "notes", {"id": 1})
        assert (await service.delete(ANN, "folders", {"id": 1})).count == 1


@in_loop
async def test_key_of_deleted_row_is_not_used_again(url: str) -> None:
    """A client that still shows a deleted row must not show another one in its place."""
    async with serving(url) as service:
        await service.create(ANN, "folders", [{"title": "a"}, {"title": "b"}])
        await service.delete(ANN, "folders", {"id": 2})
        assert (await service.create(ANN, "folders", {"title": "c"})).rows[0]["id"] == 3


@in_loop
async def test_text_key_is_given_or_random(url: str) -> None:
    """A client may choose a text key; a second row with it is a conflict."""
    models = {"pages": {"fields": {"slug": {"type": "text", "pk": True}, "at": {"type": "datetime", "default": "now"}}}}
    async with serving(url, models) as service:
        created = await service.create(ANN, "pages", [{"slug": "home"}, {}])
        assert len(created.rows[1]["slug"]) == 32
        with refused("conflict", slug="another row"):
            await service.create(ANN, "pages", {"slug": "home"})
        with refused("invalid", slug="cannot be changed"):
            await service.update(ANN, "pages", {"slug": "home"}, {"slug": "start"})


READS: list[tuple[dict[str, Any], str]] = [
    ({"limit": -1}, "limit must be"),
    ({"limit": 1001}, "between 0 and 1000"),
    ({"limit": 10**30}, "between 0 and 1000"),
    ({"limit": True}, "limit must be"),
    ({"limit": "5"}, "limit must be"),
    ({"offset": -1}, "offset must be"),
    ({"offset": 2**63}, "offset must be"),
    ({"fields": []}, "fields must be"),
    ({"fields": "title"}, "fields must be"),
    ({"fields": ["title", "nope"]}, "unknown field"),
    ({"fields": [["title"]]}, "unknown field"),
    ({"order_by": "title DESC; DROP TABLE folders"}, "unknown field"),
    ({"order_by": "--title"}, "unknown field"),
    ({"order_by": {"title": 1}}, "order_by must be"),
    ({"order_by": [1]}, "order_by must be"),
    ({"order_by": ["title"] * 9}, "order_by must be"),
    ({"cache_ttl": -1}, "time to live"),
    ({"cache_ttl": "1"}, "time to live"),
    ({"cache_ttl": float("nan")}, "time to live"),
    ({"seen": -1}, "seen must be"),
    ({"seen": 2**63}, "seen must be"),
    ({"seen": "1"}, "seen must be"),
]


@in_loop
async def test_read_invalid_request_is_refused(sqlite_url: str) -> None:
    """Limits, names and versions of every hostile form."""
    async with serving(sqlite_url) as service:
        for options, problem in READS:
            with refused("invalid", problem):
                await service.read(ANN, "folders", **options)


@in_loop
async def test_read_large_result_is_refused(sqlite_url: str) -> None:
    """The client asks for less; an event that would be as large says only that it should read again."""
    events = Events()
    async with serving(sqlite_url, EVERYTHING, events, result_max=2000) as service:
        await service.subscribe(ANN, "things", subscriber="s")
        await service.create(ANN, "things", [{"name": "ä" * 700}, {"name": "b" * 700}])
        with refused("too_many", "fewer rows or fields"):
            await service.read(ANN, "things")
        assert len(await rows_of(service, ANN, "things", limit=1)) == 1
        assert len(await rows_of(service, ANN, "things", fields=["id"])) == 2
        await service.create(ANN, "things", [{"name": "c" * 1500}] * 2)
        await until(lambda: [event["action"] for event in events.of("s")][-1:] == ["refresh"], "the event")


@in_loop
async def test_read_page_has_rows_and_total(url: str) -> None:
    """The total is that without limit and offset, for each place of the page."""
    async with serving(url) as service:
        await service.create(ANN, "folders", [{"title": f"t{n}"} for n in range(7)])
        for limit in (0, 1, 3, 7, 8, 1000):
            for offset in (0, 1, 5, 7, 8, 2**63 - 1):
                result = await service.read(
                    ANN, "folders", {"id": ["<=", 6]}, fields=["id"], limit=limit, offset=offset, no_cache=True
                )
                found = json.loads(result.text)
                assert found["total"] == 6
                assert [row["id"] for row in found["rows"]] == list(range(1, 7))[offset:][:limit]
                assert result.version == 1


@in_loop
async def test_writers_of_one_row_both_count(url: str) -> None:
    """The last write is in force; a filter on the old value decides which of two clients comes first."""
    async with serving(url) as service:
        await service.create(ANN, "notes", {"text": "x"})
        writes = [service.update(ANN, "notes", {"id": 1, "stars": 0}, {"stars": n}) for n in (1, 2, 3, 4)]
        counts = [written.count for written in await asyncio.gather(*writes)]
        assert sorted(counts) == [0, 0, 0, 1]
        assert (await rows_of(service, ANN, "notes"))[0]["stars"] == counts.index(1) + 1


@in_loop
async def test_identity_hostile_stays_a_value(url: str) -> None:
    """An identity with quotes, wildcards or another case is one identity only."""
    names = ["ann", "Ann", "ann ", "an%", "' OR 1=1 --", "\u00e4nn", "a\u0308nn"]
    async with serving(url, NOTES) as service:
        for name in names:
            await service.create(Actor(name, "user"), "notes", {"text": name})
        for name in names:
            assert [row["text"] for row in await rows_of(service, Actor(name, "user"), "notes")] == [name]
        assert len(await rows_of(service, ADMIN, "notes")) == len(names)
