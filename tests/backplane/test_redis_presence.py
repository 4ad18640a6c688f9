"""Presence on Redis beyond the contract suite: crashes, lost data, leftovers and the keys themselves."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
from engine_clients import connected, make, refused, run
from engines import Inbox, RedisEngine
from zcli_redis_backplane.backplane import RedisConnection

from zcli_core.backplane.contract import EngineConnection, Member

_ONE, _TWO = "1" * 16, "2" * 16
_ALIVE = 30.0
_BRIEF = 0.05


@pytest.fixture(scope="module")
def engine() -> Iterator[RedisEngine]:
    with RedisEngine() as running:
        yield running


class Scene:
    """Two processes in a namespace of their own, and a client of the engine."""

    def __init__(self, engine: RedisEngine, client: redis.Redis, namespace: str) -> None:
        self.backplane = make("redis", namespace, url=engine.url)
        self.namespace = namespace
        self.client = client
        self.one: EngineConnection
        self.two: EngineConnection

    def left(self) -> list[str]:
        return sorted(
            key.decode().removeprefix(f"{self.namespace}:") for key in self.client.keys(f"{self.namespace}:*")
        )

    async def room(self, room: str = "r") -> list[tuple[str, str]]:
        """Return who is in a room, as the first process sees it; both ways to count must agree."""
        found = await self.one.present(room, 1000)
        assert await self.one.count(room) == len(found)
        return sorted((member.process, member.connection) for member in found)


@contextlib.asynccontextmanager
async def scene(engine: RedisEngine) -> AsyncIterator[Scene]:
    with redis.Redis(port=engine.port) as client:
        made = Scene(engine, client, f"presence-{secrets.token_hex(6)}")
        async with connected(made.backplane, _ONE) as (made.one, _), connected(made.backplane, _TWO) as (made.two, _):
            await made.one.beat(_ALIVE)
            await made.two.beat(_ALIVE)
            yield made


def member(process: str, connection: str, **data: str) -> Member:
    return Member(process, connection, None, data)


async def until(condition: Any) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not become true")


async def sweep(connection: EngineConnection) -> None:
    """Let a process remove what is left of others, as every third heartbeat does."""
    for _ in range(3):
        await connection.beat(_ALIVE)
    assert isinstance(connection, RedisConnection)
    task = connection._presence._sweeping
    assert task is not None
    await asyncio.wait({task})


def test_presence_closed_process_is_gone_at_once(engine: RedisEngine) -> None:
    """A process that ends in order does not stay for the time of a crashed one."""

    async def scenario() -> None:
        async with scene(engine) as here:
            await here.one.enter([("r", member(_ONE, "a"))])
            await here.two.enter([("r", member(_TWO, "b"))])
            await here.two.close()
            await until(lambda: not here.client.keys(f"{here.namespace}:alive:{_TWO}*"))
            assert await here.room() == [(_ONE, "a")]
            assert await here.one.processes() == (_ONE,)

    run(scenario())


def test_presence_crashed_process_is_removed(engine: RedisEngine) -> None:
    """Its members are not shown once its time is over, and the next sweep removes all of its keys."""

    async def scenario() -> None:
        async with scene(engine) as here:
            await here.two.enter([(room, member(_TWO, str(number))) for room in "rs" for number in range(600)])
            await here.one.enter([("r", member(_ONE, "a"))])
            assert len(await here.room()) == 601
            await here.two.beat(_BRIEF)
            await until(lambda: not here.client.keys(f"{here.namespace}:alive:{_TWO}*"))
            assert await here.room() == [(_ONE, "a")]
            await sweep(here.one)
            assert not any(_TWO in key for key in here.left())
            assert here.client.hlen(f"{here.namespace}:here:r") == 1
            assert "here:s" not in here.left()

    run(scenario())


@pytest.mark.parametrize("call", ["beat", "enter"])
def test_presence_late_process_ends(engine: RedisEngine, call: str) -> None:
    """A process whose members may have been removed by others ends its connection, so that it enters them again."""

    async def scenario() -> None:
        async with scene(engine) as here:
            inbox = Inbox()
            late = await here.backplane.connect("3" * 16, inbox)
            await late.enter([("r", member("3" * 16, "a"))])
            await late.beat(_BRIEF)
            await until(lambda: not here.client.keys(f"{here.namespace}:alive:{'3' * 16}*"))
            again = late.beat(_ALIVE) if call == "beat" else late.enter([("s", member("3" * 16, "b"))])
            await refused(again, "down", "forgotten this process")
            assert (await inbox.ended()).kind == "down"
            await late.close()
            await sweep(here.one)
            assert not any("3" * 16 in key or "here" in key for key in here.left())

    run(scenario())


def test_presence_engine_that_lost_its_data_ends(engine: RedisEngine) -> None:
    """After a restart without data, each process notices it with its next heartbeat."""

    async def scenario() -> None:
        async with scene(engine) as here:
            await here.one.enter([("r", member(_ONE, "a"))])
            for key in here.left():
                here.client.delete(f"{here.namespace}:{key}")
            await refused(here.one.beat(_ALIVE), "down", "the server has lost its data")
            await refused(here.one.publish("r", b"x"), "down")

    run(scenario())


def test_presence_new_connection_replaces_the_old(engine: RedisEngine) -> None:
    """After a cut, the members of the old connection are gone as soon as the process is there again."""

    async def scenario() -> None:
        async with scene(engine) as here:
            await here.two.enter([("r", member(_TWO, "left-meanwhile")), ("r", member(_TWO, "stays"))])
            again = await here.backplane.connect(_TWO, Inbox())
            await again.beat(_ALIVE)
            await again.enter([("r", member(_TWO, "stays"))])
            assert await here.room() == [(_TWO, "stays")]
            await again.close()

    run(scenario())


def test_presence_empty_rooms_leave_no_keys(engine: RedisEngine) -> None:
    """Many rooms that come and go cost nothing afterwards."""

    async def scenario() -> None:
        async with scene(engine) as here:
            before = here.left()
            rooms = [f"room {number}" for number in range(1200)]
            await here.one.enter([(room, member(_ONE, "a", name="Ann")) for room in rooms])
            assert await here.one.present("room 7", 5) == (Member(_ONE, "a", None, {"name": "Ann"}),)
            await here.one.leave([(room, "a") for room in rooms])
            assert here.left() == before

    run(scenario())


def test_presence_foreign_field_is_ignored(engine: RedisEngine) -> None:
    """What another program writes into a room is not a member; what it damages has no data."""

    async def scenario() -> None:
        async with scene(engine) as here:
            await here.one.enter([("r", member(_ONE, "a", name="Ann"))])
            key = f"{here.namespace}:here:r"
            (field,) = here.client.hkeys(key)
            here.client.hset(key, "foreign", "x")
            here.client.hset(key, b"\xff/\xfe", "x")
            for damage in (b"\x80\x04K\x01.", b"[1, 2]", b'{"a": 1}', b'["x", []]', b"[" * 5000):
                here.client.hset(key, field, damage)
                assert await here.one.present("r", 10) == (Member(_ONE, "a", None, {}),)
            here.client.sadd(f"{here.namespace}:lives", "f" * 16 + "-over")  # now the fields are counted one by one
            assert await here.one.count("r") == 1

    run(scenario())


def test_presence_full_memory_is_refused(engine: RedisEngine) -> None:
    """An engine that takes no more data says so, and the connection stays usable."""

    async def scenario() -> None:
        async with scene(engine) as here:
            here.client.config_set("maxmemory", "1mb")
            try:
                await refused(here.one.enter([("r", member(_ONE, "a"))]), "refused", "maxmemory")
                assert await here.one.publish("r", b"x") == 0
            finally:
                here.client.config_set("maxmemory", "0")
            await here.one.beat(_ALIVE)

    run(scenario())
