"""Attempts of a client to read, change or learn about rows of another user.

The main idea: mallory sends the same requests to two databases that differ only in what other users do. If any response
or event differs, mallory has learned something about them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from bifrost_databases import make_database, postgresql_server  # noqa: F401 - fixtures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
        "access": {"create": ["member", "admin"], "read": ["admin"], "update": ["member", "admin"], "delete": ["admin"]},
    },
    "staff": {"fields": {"name": "text"}, "access": {action: "admin" for action in ("create", "read", "update")}},
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
        version = await service.database.read(lambda connection: _version(connection))
        while service._follower.known < version or service._follower._woken.is_set():
            service._follower.wake()
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.005)


def _version(connection: Any) -> int:
    return int(connection.exec_driver_sql("SELECT version FROM zcli_bifrost_version").scalar_one())


@contextlib.asynccontextmanager
async def opened(url: str, models: Any = MODELS, **options: Any) -> AsyncIterator[World]:
    log = logging.getLogger("zcli.tests.attacks")
    values = {**Bifrost().__dict__, **options}
    section = Bifrost(**{name: values[name] for name in Bifrost.declarations})
    service = DataService(parse_models(models, "test"), Database(url, 5.0, log), section, log)
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
    make_database: Callable[[], str],  # noqa: F811
    attack: Callable[[World], Awaitable[Any]],
) -> list[Any]:
    """Return what mallory sees in a world with others, after comparing it with a world without them."""
    seen = []
    for with_others in (False, True):
        async with opened(make_database()) as world:
            assert (await world.call(MALLORY, "create", "notes", [note("mine-1", "a"), note("mine-2", "b", nick="b")]))[0] == 2
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
    None, SECRET, VICTIM.identity, "%secret%", 7, 1.5, True, "2026-11-29T08:00:00Z", ["other-0-1", SECRET], {"s": SECRET},
    "' OR '1'='1",
]  # fmt: skip
FIELDS = list(MODELS["notes"]["fields"])


def test_read_filters_tell_nothing_about_others(make_database: Callable[[], str]) -> None:  # noqa: F811
    """Every operator with every field and value, in rows and totals."""

    async def attack(world: World) -> list[Any]:
        filters: list[Any] = [{field: [op, value]} for field in FIELDS for op in OPERATORS for value in VALUES]
        return [await world.call(MALLORY, "read", "notes", each, no_cache=True) for each in filters]

    results = asyncio.run(compare(make_database, attack))
    assert any(result.get("total") == 2 for result in results)


def test_read_options_tell_nothing_about_others(make_database: Callable[[], str]) -> None:  # noqa: F811
    """Order, fields, limit, offset, versions and hostile forms of them."""
    options: list[dict[str, Any]] = [{"order_by": order} for field in FIELDS for order in (field, f"-{field}")]
    options += [{"order_by": [field, "-owner"], "limit": 1, "offset": offset} for field in FIELDS for offset in range(4)]
    options += [{"fields": [field]} for field in FIELDS]
    options += [{"limit": limit, "offset": offset} for limit in (0, 1, 1000) for offset in (0, 1, 2, 3, 2**63 - 1)]
    options += [
        {"fields": fields}
        for fields in ([], ["*"], ["rowid"], ["owner", "owner"], ["title, owner"], [["owner"]], "owner", {"owner": 1}, [None])
    ]
    options += [
        {"order_by": order}
        for order in (
            "--owner", "-", "", "rowid", "owner DESC", "1", ["owner"] * 20, [["owner"]], {"owner": 1}, 1, True, "(SELECT 1)",
            "extra", "CASE WHEN 1=1 THEN owner END",
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from([*VALUES, *OPERATORS]) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "or", "$ne", "owner."]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.slow
def test_random_requests_tell_nothing_about_others(tmp_path: Any) -> None:
    """Filters, options and data of any form, on both worlds side by side."""

    async def both(requests: list[tuple[str, Any, dict[str, Any]]]) -> None:
        found = []
        for world in worlds:
            found.append([await world.call(MALLORY, *request[:2], *request[2:]) for request in requests])
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
        arguments = {"read": (filters,), "subscribe": (filters,), "delete": (filters,), "create": (data,)}
        request = (action, "notes", *arguments.get(action, (filters, data)))
        loop.run_until_complete(both([request]))

    try:
        run()
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


def _takes_key_of_others(data: Any) -> bool:
    """Whether a new row has the key of another one: that a key is in use cannot be hidden."""
    rows = data if isinstance(data, list) else [data]
    return any(isinstance(row, dict) and str(row.get("key")).startswith("other") for row in rows)
