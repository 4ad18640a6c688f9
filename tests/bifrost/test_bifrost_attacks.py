"""Attempts of a client to read, change or learn about rows of another user.

The main idea: mallory sends the same requests to two databases that differ only in what other users do. If any response
or event differs, mallory has learned something about them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.database import Database
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import OPERATORS
from zcli_bifrost.data.model_file import parse_models
from zcli_bifrost.data.service import DataService
from zcli_bifrost.settings import Bifrost

MALLORY = Actor("application:default/mallory", "member", "application", "default")
VICTIM = Actor("application:default/anna", "member", "application", "default")
NAMESAKE = Actor("application:shop/mallory", "member", "application", "shop")
OPERATOR = Actor("zSession:mallory", "member", "zSession", None)
ADMIN = Actor("zSession:root", "admin", "zSession", None)
NOBODY = Actor()
OTHERS = (VICTIM, NAMESAKE, OPERATOR)
SECRET = "the-secret-of-another-user"

MODELS = {
    "notes": {
        "fields": {
            "key": {"type": "text", "pk": True},
            "title": {"type": "text", "required": True},
            "points": "int",
            "weight": "float",
            "done": "bool",
            "at": "datetime",
            "extra": "json",
            "nick": {"type": "text", "unique": "owner"},
            "parent": {"references": "notes"},
            "owner": "text",
        },
        "owner": "owner",
        "all_rows": ["admin"],
    },
    "board": {
        "fields": {"key": {"type": "text", "pk": True}, "text": "text"},
        "access": {
            "create": ["member", "admin"],
            "read": ["admin"],
            "update": ["member", "admin"],
            "delete": ["admin"],
        },
    },
    "staff": {"fields": {"name": "text"}, "access": dict.fromkeys(("create", "read", "update"), "admin")},
    "links": {"fields": {"key": {"type": "text", "pk": True}, "member": {"references": "staff"}}},
}


class World:
    """A database with its service. ``events`` are those that mallory's subscriptions get."""

    def __init__(self, service: DataService) -> None:
        self.service = service
        self.events: list[Any] = []

    def deliver(self, event: Any, subscribers: Any) -> None:
        if "mallory" in subscribers:
            data = json.loads(event.text)
            data.pop("version")
            self.events.append(data)

    async def call(self, actor: Actor, action: str, model: Any, *arguments: Any, **options: Any) -> Any:
        """Return what a client sees of a request, without versions."""
        if action == "subscribe":
            options["subscriber"] = "mallory" if actor == MALLORY else "other"
        try:
            found = await getattr(self.service, action)(actor, model, *arguments, **options)
        except DataError as error:
            return {"error": error.text, "code": error.code, "fields": error.fields}
        if action == "read":
            return json.loads(found.text)
        return found[0] if action == "subscribe" else [found.count, found.rows]

    async def settled(self) -> None:
        """Wait until all changes have been delivered."""
        service = self.service
        version = await service.database.read(_version)
        while service._follower.known < version or service._follower._woken.is_set():
            service._follower.wake()
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.005)
        # After a refresh, the keys are loaded again; a change meanwhile would give its event later.
        while not all(group.loaded for groups in service._live.subscriptions.groups().values() for group in groups):
            await asyncio.sleep(0.005)


def _version(connection: Any) -> int:
    return int(connection.exec_driver_sql("SELECT version FROM zcli_bifrost_version").scalar_one())


@contextlib.asynccontextmanager
async def opened(url: str, models: Any = MODELS, **options: Any) -> AsyncIterator[World]:
    log = logging.getLogger("zcli.tests.attacks")
    values = {**Bifrost().__dict__, **options}
    section = Bifrost(**{name: values[name] for name in Bifrost.declarations})
    service = DataService(parse_models(models, "test"), Database(url, section.query_timeout, log), section, log)
    world = World(service)
    await service.start(world.deliver)
    try:
        yield world
    finally:
        await service.close()


def note(key: str, title: str = SECRET, **more: Any) -> dict[str, Any]:
    filled = {"points": 7, "weight": 1.5, "done": True, "at": "2026-11-29T08:00:00Z", "extra": {"s": SECRET}}
    return {"key": key, "title": title, "nick": "nick", **filled, **more}


async def others_write(world: World) -> None:
    """Rows of other users, some like those of mallory."""
    for number, actor in enumerate(OTHERS):
        rows = [note(f"other-{number}-1"), note(f"other-{number}-2", nick="b", points=None)]
        created = await world.call(actor, "create", "notes", rows)
        assert created[0] == 2, created
    assert (await world.call(ADMIN, "create", "staff", [{"name": SECRET}, {"name": "x"}]))[0] == 2
    assert (await world.call(ADMIN, "create", "board", {"key": "secret", "text": SECRET}))[0] == 1


async def others_change(world: World) -> None:
    """What other users do while mallory is connected."""
    mine = {"key": ["like", "other%"]}
    for actor in OTHERS:
        assert (await world.call(actor, "update", "notes", mine, {"points": 1, "title": f"{SECRET}!"}))[0] == 2
    assert (await world.call(VICTIM, "create", "notes", note("other-new", nick="new")))[0] == 1
    assert (await world.call(VICTIM, "delete", "notes", {"key": "other-0-1"}))[0] == 1
    assert (await world.call(ADMIN, "update", "notes", {"key": "other-0-2"}, {"title": "by admin"}))[0] == 1


async def compare(
    make_database: Callable[[], str],
    attack: Callable[[World], Awaitable[Any]],
) -> list[Any]:
    """Return what mallory sees in a world with others, after comparing it with a world without them."""
    seen = []
    for with_others in (False, True):
        async with opened(make_database()) as world:
            assert (await world.call(MALLORY, "create", "notes", [note("mine-1", "a"), note("mine-2", "b", nick="b")]))[
                0
            ] == 2
            if with_others:
                await others_write(world)
            await world.settled()
            results = await attack(world)
            if with_others:
                await others_change(world)
                await world.settled()
            results.append(await world.call(MALLORY, "read", "notes"))
            seen.append([results, world.events])
    assert seen[0] == seen[1]
    return results


# --- reading ---------------------------------------------------------------------------------------------------

VALUES = [
    None, SECRET, VICTIM.identity, "%secret%", 7, 1.5, True, "2026-11-29T08:00:00Z", ["other-0-1", SECRET],
    {"s": SECRET}, "' OR '1'='1",
]  # fmt: skip
FIELDS = list(MODELS["notes"]["fields"])


def test_read_filters_tell_nothing_about_others(make_database: Callable[[], str]) -> None:
    """Every operator with every field and value, in rows and totals."""

    async def attack(world: World) -> list[Any]:
        filters: list[Any] = [{field: [op, value]} for field in FIELDS for op in OPERATORS for value in VALUES]
        return [await world.call(MALLORY, "read", "notes", each, no_cache=True) for each in filters]

    results = asyncio.run(compare(make_database, attack))
    assert any(result.get("total") == 2 for result in results)


def test_read_options_tell_nothing_about_others(make_database: Callable[[], str]) -> None:
    """Order, fields, limit, offset, versions and hostile forms of them."""
    options: list[dict[str, Any]] = [{"order_by": order} for field in FIELDS for order in (field, f"-{field}")]
    options += [
        {"order_by": [field, "-owner"], "limit": 1, "offset": offset} for field in FIELDS for offset in range(4)
    ]
    options += [{"fields": [field]} for field in FIELDS]
    options += [{"limit": limit, "offset": offset} for limit in (0, 1, 1000) for offset in (0, 1, 2, 3, 2**63 - 1)]
    options += [
        {"fields": fields}
        for fields in (
            [],
            ["*"],
            ["rowid"],
            ["owner", "owner"],
            ["title, owner"],
            [["owner"]],
            "owner",
            {"owner": 1},
            [None],
        )
    ]
    options += [
        {"order_by": order}
        for order in (
            "--owner", "-", "", "rowid", "owner DESC", "1", ["owner"] * 20, [["owner"]], {"owner": 1}, 1, True,
            "(SELECT 1)", "extra", "CASE WHEN 1=1 THEN owner END",
        )
    ]  # fmt: skip
    options += [
        {name: value}
        for name in ("limit", "offset", "seen", "cache_ttl")
        for value in (-1, 1.5, True, "1", "1 OFFSET 0", [1], {}, 10**30, 2**63, float("1e308"))
    ]

    async def attack(world: World) -> list[Any]:
        return [await world.call(MALLORY, "read", "notes", None, **each) for each in options]

    asyncio.run(compare(make_database, attack))


# --- time ------------------------------------------------------------------------------------------------------

#: The operator of ``like`` in PostgreSQL, which fails for the text SECRET; found before the one of pg_catalog.
SPY = """
    CREATE SCHEMA spy;
    CREATE FUNCTION spy.compare(text, text) RETURNS boolean LANGUAGE plpgsql COST 1 AS $$
        BEGIN
            IF $1 OPERATOR(pg_catalog.=) 'the-secret-of-another-user' THEN RAISE 'compared'; END IF;
            RETURN $1 OPERATOR(pg_catalog.~~) $2;
        END $$;
    CREATE OPERATOR spy.~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = spy.compare)
"""


@contextlib.contextmanager
def spied(url: str) -> Iterator[str]:
    """Let a request fail if the database compares the text SECRET with a pattern; give the URL to use."""

    def fail_for_secret(pattern: str, text: str) -> bool:
        assert text != SECRET
        return True

    def prepare(raw: Any, record: Any) -> None:
        raw.create_function("glob", 2, fail_for_secret)

    if url.startswith("postgresql"):
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute(SPY)
        yield f"{url}?options=-csearch_path%3Dpublic,spy,pg_catalog"
        return
    event.listen(Engine, "connect", prepare)
    try:
        yield url
    finally:
        event.remove(Engine, "connect", prepare)


def test_patterns_are_not_compared_with_rows_of_others(make_database: Callable[[], str]) -> None:
    """A slow pattern takes no time for a row of another user, so the time does not tell what is in it."""
    pattern = {"title": ["like", "%"]}
    found_by = [{}, {"key": "other-0-1"}, {"key": ["in", ["other-0-1"]]}, {"points": 7}, {"nick": "nick"}]
    filters = [{**more, **pattern} for more in found_by] + [{**pattern, **more} for more in found_by]

    async def scenario(url: str) -> None:
        async with opened(url) as world:
            await others_write(world)
            assert (await world.call(ADMIN, "read", "notes", pattern))["code"] == "failed"
            for each in filters:
                assert await world.call(MALLORY, "read", "notes", each) == {"rows": [], "total": 0}
                assert await world.call(MALLORY, "update", "notes", each, {"points": 1}) == [0, []]
                assert await world.call(MALLORY, "delete", "notes", each) == [0, []]
                assert isinstance(await world.call(MALLORY, "subscribe", "notes", each), str)

    with spied(make_database()) as url:
        asyncio.run(scenario(url))


def test_steps_do_not_depend_on_rows_of_others(tmp_path: Any) -> None:
    """SQLite does the same work for each filter, whatever other users have in their rows."""
    values = [7, [">", 1], ["in", list(range(40))], [["=", 7], ["in", list(range(40))]], ["!=", None], None]
    tests = [{"points": value} for value in values] + [{"done": True, "title": SECRET}, {"title": ["like", "the%"]}]
    keys: list[Any] = ["other-0-1", ["in", ["other-0-1", "other-0-2"]], [["=", "other-0-1"], ["!=", None]], ["!=", ""]]
    filters = [{**test, **more} for test in tests for more in ({}, {"parent": None}, *({"key": key} for key in keys))]

    async def count(name: str, points: int | None, title: str) -> list[int]:
        counted = itertools.count()

        def prepare(raw: Any, *_: Any) -> None:
            raw.set_progress_handler(lambda: next(counted) < 0, 1)

        async with opened(f"sqlite:///{tmp_path / name}") as world:
            await world.call(MALLORY, "create", "notes", note("mine"))
            others = [note(f"other-0-{number}", title, points=points, nick=None) for number in range(5)]
            await world.call(VICTIM, "create", "notes", others)
            await world.settled()
            await world.service._follower.stop()  # its polls are work too
            event.listen(world.service.database._reading, "checkout", prepare)
            found = []
            for each in filters:
                before = next(counted)
                await world.call(MALLORY, "read", "notes", each, no_cache=True)
                found.append(next(counted) - before)
            return found

    assert asyncio.run(count("a.db", 7, SECRET)) == asyncio.run(count("b.db", None, "x"))


# --- changing --------------------------------------------------------------------------------------------------


def test_writes_tell_nothing_about_others(make_database: Callable[[], str]) -> None:
    """Counts, errors and effects of updates and deletes by everything that others have in their rows."""
    filters: list[Any] = [
        {"key": "other-0-1"}, {"key": ["in", ["other-0-1", "other-1-1", "mine-1"]]}, {"owner": VICTIM.identity},
        {"owner": ["!=", MALLORY.identity]}, {"title": SECRET}, {"title": ["like", "%"]}, {"points": 7},
        {"parent": None}, {"key": [[">=", "n"], ["<", "p"]]}, {"nick": ["!=", None]},
    ]  # fmt: skip
    data: list[Any] = [
        {"title": "changed"}, {"nick": "b"}, {"parent": "other-0-1"}, {"parent": "no-such-row"},
        {"owner": VICTIM.identity}, {"owner": MALLORY.identity}, {"key": "other-0-1"},
        {"extra": {"$set": {"owner": "x"}}}, {"points": "7"},
        {"rowid": 1}, {}, None, [], [{"title": "x"}], {"title": None}, {"owner": None},
    ]  # fmt: skip

    async def attack(world: World) -> list[Any]:
        found = [await world.call(MALLORY, "update", "notes", each, value) for each in filters for value in data]
        return found + [await world.call(MALLORY, "delete", "notes", each) for each in filters]

    asyncio.run(compare(make_database, attack))


def test_creates_tell_nothing_about_others(make_database: Callable[[], str]) -> None:
    """Foreign owners and references, and values that are unique among the rows of one owner."""
    rows: list[Any] = [
        {"title": "x", "owner": VICTIM.identity}, {"title": "x", "owner": None, "key": "k1"},
        {"title": "x", "key": "k2", "parent": "other-0-1"}, {"title": "x", "key": "k2", "parent": "no-such-row"},
        {"title": "x", "key": "k3", "nick": "nick"}, {"title": "x", "key": "k4", "nick": "new"},
        [{"title": "x", "key": "k5"}, {"title": "x", "key": "k6", "parent": "other-1-1"}],
        {"title": "x", "key": "mine-1"}, {"title": "x", "Owner": VICTIM.identity},
        {"title": SECRET, "key": "k7", "rowid": 1},
    ]  # fmt: skip

    async def attack(world: World) -> list[Any]:
        found = [await world.call(MALLORY, "create", "notes", each) for each in rows]
        return found + [
            await world.call(MALLORY, "create", "links", {"key": f"l{n}", "member": n}) for n in (1, 2, 999)
        ]

    results = asyncio.run(compare(make_database, attack))
    assert results[2] == results[3]  # a row of another user is like one that does not exist


def test_writes_do_not_change_rows_of_others(make_database: Callable[[], str]) -> None:
    """After all writes of mallory, the rows of others are as they were."""

    async def scenario() -> None:
        async with opened(make_database()) as world:
            await others_write(world)
            before = await world.call(ADMIN, "read", "notes")
            assert before["total"] == 6
            for actor in (
                MALLORY,
                NOBODY,
                Actor("", "member"),
                Actor(None, "member"),
                Actor(VICTIM.identity.upper(), "x"),
            ):
                for filters in (
                    {"key": ["like", "%"]},
                    {"key": ["!=", None]},
                    {"owner": VICTIM.identity},
                    {"points": 7},
                ):
                    await world.call(actor, "update", "notes", filters, {"title": "changed"})
                    await world.call(actor, "delete", "notes", filters)
                assert (await world.call(actor, "read", "notes")).get("total", 0) == 0
            assert await world.call(ADMIN, "read", "notes") == before

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "filters", [None, {}, [], "", 0, False, {"key": []}, {"key": [[]]}, "key = key", ["key", "=", "x"]]
)
def test_writes_without_filters_change_nothing(tmp_path: Any, filters: Any) -> None:
    """No form of missing filters selects all rows, also for the admin."""

    async def scenario() -> None:
        async with opened(f"sqlite:///{tmp_path}/d.db") as world:
            await others_write(world)
            for actor in (ADMIN, VICTIM):
                assert (await world.call(actor, "update", "notes", filters, {"title": "x"}))["code"] == "invalid"
                assert (await world.call(actor, "delete", "notes", filters))["code"] == "invalid"

    asyncio.run(scenario())


# --- models without the right to read --------------------------------------------------------------------------


def test_blind_writes_do_not_reveal_values(make_database: Callable[[], str]) -> None:
    """A role that may update and not read cannot find values by counting, by conflicts or by the result."""

    async def scenario() -> None:
        async with opened(make_database()) as world:
            await others_write(world)
            for filters in ({"text": SECRET}, {"text": ["like", "t%"]}, {"key": ["like", "s%"]}, {"key": [">", "a"]},
                            {"key": "secret", "text": ["!=", SECRET]}, {"key": ["!=", "x"]}):  # fmt: skip
                found = await world.call(MALLORY, "update", "board", filters, {"text": "x"})
                assert found["code"] == "forbidden", filters
            for action in (("read", "board"), ("subscribe", "board"), ("delete", "board", {"key": "secret"})):
                assert (await world.call(MALLORY, *action))["code"] == "forbidden"
            count, rows = await world.call(MALLORY, "create", "board", {"key": "k", "text": "mine"})
            assert (count, rows) == (1, [{"key": "k"}])
            taken = await world.call(MALLORY, "create", "board", {"key": "secret", "text": "mine"})
            assert (taken["code"], taken["fields"]) == ("conflict", {})

    asyncio.run(scenario())


def test_hidden_model_is_like_an_unknown_one(make_database: Callable[[], str]) -> None:
    """Every request for a model of another role gives the error of a model that does not exist."""

    async def scenario() -> None:
        async with opened(make_database()) as world:
            await others_write(world)
            shown = []
            for model in ("staff", "ffats"):
                requests = [("read", model), ("create", model, {"name": "x"}),
                            ("update", model, {"id": 1}, {"name": "x"}), ("update", model, None, None),
                            ("delete", model, {"id": 1}), ("subscribe", model),
                            ("read", model, {"no": 1}), ("create", model, None)]  # fmt: skip
                found = [await world.call(MALLORY, *request) for request in requests]
                with contextlib.suppress(DataError):
                    world.service.describe(MALLORY, model)
                    pytest.fail("the model is described")
                shown.append(json.dumps(found).replace(model, "MODEL"))
            assert shown[0] == shown[1]
            assert "staff" not in json.dumps(world.service.models(MALLORY))
            assert "staff" in json.dumps(world.service.describe(ADMIN, "links"))
            assert "staff" not in json.dumps(await world.call(MALLORY, "create", "links", {"key": "k", "member": 1}))
            for name in (
                "zcli_bifrost_keys",
                "zcli_bifrost_changes",
                "sqlite_master",
                "pg_authid",
                "Notes",
                "notes ",
                "\0",
            ):
                assert (await world.call(ADMIN, "read", name))["code"] == "not_found"

    asyncio.run(scenario())


# --- the cache -------------------------------------------------------------------------------------------------


def test_cache_of_another_user_or_role_is_not_used(make_database: Callable[[], str]) -> None:
    """Equal requests of the victim, of the admin and of users of the same name come first."""

    async def scenario() -> None:
        async with opened(make_database()) as world:
            await others_write(world)
            requests: list[dict[str, Any]] = [
                {},
                {"filters": {"points": 7}},
                {"fields": ["title"]},
                {"order_by": "title"},
            ]
            for request in requests:
                for actor in (ADMIN, VICTIM, NAMESAKE, OPERATOR):
                    for _ in range(2):
                        assert (await world.call(actor, "read", "notes", **request))["total"] > 0
                assert (await world.call(MALLORY, "read", "notes", **request))["rows"] == []
                assert (await world.call(NOBODY, "read", "notes", **request))["code"] == "not_found"
                assert (await world.call(ADMIN, "read", "staff"))["total"] == 2
                assert (await world.call(MALLORY, "read", "staff"))["code"] == "not_found"
            together = [world.call(actor, "read", "notes") for actor in (ADMIN, MALLORY, VICTIM) * 5]
            totals = [found["total"] for found in await asyncio.gather(*together)]
            assert totals == [6, 0, 2] * 5

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "identity",
    [
        'x", null], "y',
        "null",
        "[null]",
        "None",
        "*",
        "%",
        "application:default/anna\\",
        "application:default/ann_",
        "\u0000",
    ],
)
def test_cache_and_sight_of_hostile_identity(tmp_path: Any, identity: str) -> None:
    """An identity that looks like a part of a key, a pattern or nothing sees its own rows only."""

    async def scenario() -> None:
        async with opened(f"sqlite:///{tmp_path}/d.db") as world:
            await others_write(world)
            await world.call(ADMIN, "read", "notes")
            await world.call(VICTIM, "read", "notes")
            found = await world.call(Actor(identity, "member"), "read", "notes")
            assert found.get("rows", []) == []

    asyncio.run(scenario())


# --- subscriptions ---------------------------------------------------------------------------------------------


def test_subscriptions_tell_nothing_about_others(make_database: Callable[[], str]) -> None:
    """Rows of others that are made, enter or leave the filters, or are deleted, give no event."""
    subscriptions: list[Any] = [
        None, {"points": 7}, {"points": 1}, {"title": ["like", "%secret%"]}, {"owner": VICTIM.identity},
        {"owner": ["!=", MALLORY.identity]}, {"key": ["in", ["other-0-1", "other-new"]]}, {"nick": "new"},
    ]  # fmt: skip

    async def attack(world: World) -> list[Any]:
        found = [await world.call(MALLORY, "subscribe", "notes", each) for each in subscriptions]
        for each in subscriptions:  # groups of others with the same filters
            assert (await world.call(VICTIM, "subscribe", "notes", each)) in found
        await world.call(ADMIN, "subscribe", "notes")
        await world.call(MALLORY, "update", "notes", {"key": "mine-1"}, {"points": 1})
        await world.settled()
        return found

    asyncio.run(compare(make_database, attack))


def test_subscription_key_that_changes_hands_shows_no_row(make_database: Callable[[], str]) -> None:
    """A key that mallory has given up and another user takes: mallory gets the delete only."""

    async def scenario() -> None:
        async with opened(make_database()) as world:
            await world.call(MALLORY, "create", "notes", note("k", "mine"))
            await world.call(MALLORY, "subscribe", "notes")
            await world.call(MALLORY, "delete", "notes", {"key": "k"})
            await world.call(VICTIM, "create", "notes", note("k"))
            await world.call(VICTIM, "update", "notes", {"key": "k"}, {"points": 3})
            await world.settled()
            assert [(event["action"], event.get("keys")) for event in world.events] == [("delete", ["k"])]
            assert SECRET not in json.dumps(world.events)

    asyncio.run(scenario())


# --- hostile sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filters",
    [
        {name: ["in", ["x"] * 1001] for name in ("key",)},
        {"key": ["in", [f"k{n}" for n in range(100_000)]]},
        {"key": [["!=", "x"]] * 51},
        {f"f{n}": 1 for n in range(10_000)},
        {"title": ["like", "%a" * 9]},
        {"title": "x" * 1_000_000},
        {"title": ["like", "x" * 1_000_000]},
        {"title": [["like", "x" * 200], ["like", "y" * 57]]},
        {"points": 10**400},
        {"weight": 10**400},
        {"title": "\ud800"},
        {"\ud800": 1},
        {"title": "a\0b"},
        {"title": {"$gt": ""}},
        {"extra": {"s": SECRET}},
        {"at": "9" * 40},
        json.loads("[" * 500 + "]" * 500),
    ],
)
def test_hostile_filters_are_invalid(tmp_path: Any, filters: Any) -> None:
    """An error for the client, and nothing in the log."""

    async def scenario() -> None:
        async with opened(f"sqlite:///{tmp_path}/d.db") as world:
            for action in (("read", "notes", filters), ("delete", "notes", filters), ("subscribe", "notes", filters)):
                assert (await world.call(MALLORY, *action))["code"] == "invalid"

    asyncio.run(scenario())


def test_filters_of_greatest_size_are_no_failure(make_database: Callable[[], str]) -> None:
    """What the limits allow, the database can do."""

    async def scenario() -> None:
        async with opened(make_database()) as world:
            values = [["in", [f"k{n}-{m}" for m in range(1000)]] for n in range(11)]
            assert (await world.call(MALLORY, "read", "notes", {"key": values}))["code"] == "invalid"
            assert (await world.call(MALLORY, "read", "notes", {"key": values[:10]})) == {"rows": [], "total": 0}
            tests = [["!=", f"k{number}"] for number in range(50)]
            assert (await world.call(MALLORY, "read", "notes", {"key": tests})) == {"rows": [], "total": 0}

    asyncio.run(scenario())


def test_like_of_hostile_text_ends(make_database: Callable[[], str]) -> None:
    """A pattern that must try many ways does not occupy the database."""

    async def scenario() -> None:
        async with opened(make_database()) as world:
            await world.call(MALLORY, "create", "notes", [note(f"k{n}", "a" * 10_000, nick=None) for n in range(20)])
            for pattern in ("%a%a%a%a%a%a%a%b", "%" + "a_" * 60 + "%b%", "%aaaaaaaaab%aaaaaaab%aaaaab%"):
                found = await world.call(MALLORY, "read", "notes", {"title": ["like", pattern]})
                assert found == {"rows": [], "total": 0}

    asyncio.run(scenario())


@pytest.mark.slow
def test_like_of_large_texts_is_stopped_in_time(tmp_path: Any) -> None:
    """A pattern that SQLite compares for long with each row keeps no thread and no lock beyond the time limit."""
    url = f"sqlite:///{tmp_path / 'data.db'}"

    async def scenario() -> None:
        async with opened(url) as world:
            for part in range(10):
                rows = [{"key": f"k{part}-{number}", "title": "a" * 60_000} for number in range(10)]
                assert (await world.call(MALLORY, "create", "notes", rows))[0] == 10
        async with opened(url, query_timeout=1.0) as world:
            filters = {"title": ["like", f"%{'a' * 250}b%"]}
            requests = [("read", "notes", filters), ("update", "notes", filters, {"points": 1})]
            found = await asyncio.gather(*(world.call(MALLORY, *request) for request in requests))
            assert {each["error"] for each in found} == {"the request took too long and was stopped"}

    asyncio.run(scenario())


def test_subscriptions_with_slow_patterns_are_told_to_read(tmp_path: Any) -> None:
    """The event loop does not compare a slow pattern with large texts; other subscriptions get the row."""

    async def scenario() -> None:
        async with opened(f"sqlite:///{tmp_path / 'data.db'}") as world:
            slow = [{"title": ["like", f"%{letter}_{'a' * 240}b%"]} for letter in "ax"]
            for filters in [*slow, {"title": ["like", "%aaaa%"]}, {"points": 1}]:
                await world.call(MALLORY, "subscribe", "notes", filters)
            await world.settled()
            await world.call(MALLORY, "create", "notes", {"key": "k1", "title": "a" * 60_000, "points": 1})
            await world.settled()
            assert sorted(event["action"] for event in world.events) == ["insert", "insert", "refresh", "refresh"]
            world.events.clear()
            await world.call(MALLORY, "update", "notes", {"key": "k1"}, {"title": f"xa{'a' * 240}b"})
            await world.settled()
            assert sorted(event["action"] for event in world.events) == ["insert", "update", "update"]

    asyncio.run(scenario())


def test_rows_too_large_together_are_refused(make_database: Callable[[], str]) -> None:
    """A few large rows do not take the memory and the event loop of the server, neither in a read nor in an event."""

    async def scenario() -> None:
        async with opened(make_database()) as world:
            large = {"title": "x" * 60_000, "extra": "y" * 60_000}
            await world.call(MALLORY, "create", "notes", [{"key": f"k{number}", **large} for number in range(60)])
            assert (await world.call(MALLORY, "read", "notes"))["code"] == "too_many"
            assert (await world.call(MALLORY, "read", "notes", limit=10))["total"] == 60
            assert len((await world.call(MALLORY, "read", "notes", fields=["key"]))["rows"]) == 60
            await world.call(MALLORY, "subscribe", "notes", {"key": ["!=", None]})
            await world.settled()
            world.events.clear()
            await world.call(MALLORY, "update", "notes", {"key": ["!=", None]}, {"points": 5})
            await world.settled()
            assert [event["action"] for event in world.events] == ["refresh"]
            world.events.clear()
            await world.call(MALLORY, "update", "notes", {"key": "k1"}, {"title": "short"})
            await world.settled()
            assert [event["action"] for event in world.events] == ["update"]

    asyncio.run(scenario())


# --- random requests -------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([*VALUES, *OPERATORS])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "or", "$ne", "owner."]), inner, max_size=3)
    ),
    max_leaves=8,
)


def _without_random_keys(found: Any) -> Any:
    """Return what a client sees, without the keys that the database has made, which differ and decide the order."""

    def text(value: Any) -> str:
        return re.sub(r"\b[0-9a-f]{32}\b", "KEY", json.dumps(value))

    if isinstance(found, dict) and "rows" in found:
        return sorted(map(text, found["rows"])), found["total"]
    return text(found)


@pytest.mark.slow
def test_random_requests_tell_nothing_about_others(tmp_path: Any) -> None:
    """Filters, options and data of any form, on both worlds side by side."""

    async def both(request: tuple[Any, ...]) -> None:
        found = [_without_random_keys(await world.call(MALLORY, *request)) for world in worlds]
        assert found[0] == found[1]

    worlds: list[World] = []
    loop = asyncio.new_event_loop()
    stack = contextlib.AsyncExitStack()

    async def open_both() -> None:
        for number in range(2):
            world = await stack.enter_async_context(opened(f"sqlite:///{tmp_path}/w{number}.db"))
            await world.call(MALLORY, "create", "notes", [note("mine-1", "a"), note("mine-2", "b", nick="b")])
            worlds.append(world)
        await others_write(worlds[1])
        await others_change(worlds[1])

    loop.run_until_complete(open_both())

    @settings(max_examples=1500, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(["read", "update", "delete", "subscribe", "create"]), JSON, JSON)
    def run(action: str, filters: Any, data: Any) -> None:
        if action == "create" and _takes_key_of_others(data):
            return
        arguments: dict[str, tuple[Any, ...]] = {
            "read": (filters,),
            "subscribe": (filters,),
            "delete": (filters,),
            "create": (data,),
        }
        loop.run_until_complete(both((action, "notes", *arguments.get(action, (filters, data)))))

    try:
        run()
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


def _takes_key_of_others(data: Any) -> bool:
    """Whether a new row has the key of another one: that a key is in use cannot be hidden."""
    rows = data if isinstance(data, list) else [data]
    return any(isinstance(row, dict) and str(row.get("key")).startswith("other") for row in rows)
