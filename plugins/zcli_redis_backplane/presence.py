"""Who is in a room: the keys of one process, from its first heartbeat to its last.

A *life* is one connection of one process, from its first heartbeat to its last. Its name is ``<process>-<random>``. A
life that is over never comes back, so that every process can remove what is left of it at any time.

==============================  ======  ============================================================
``<ns>:alive:<life>``           string  expires when the heartbeat stops
``<ns>:lives``                  set     all lives, also those that are over and not removed yet
``<ns>:rooms:<life>``           set     the rooms in which it has members
``<ns>:here:<room>``            hash    the members: ``<life>/<connection>`` -> ``[identity, data]`` as JSON
==============================  ======  ============================================================

Only joining and leaving writes a member. Readers leave out the members of lives that are over. All times are those of
the engine, so the clocks of the processes do not matter.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing, suppress
from typing import Any, NoReturn

from zcli_core.backplane.contract import Member
from zcli_core.errors import BackplaneFailure
from zcli_redis_backplane.failures import refusal
from zcli_redis_backplane.resp import ErrorReply, encode
from zcli_redis_backplane.stream import RedisStream

#: Adds members, unless the life is over. Without a script, a late write could stay after the removal of the life.
_ENTER = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 3, #KEYS do
  local a = (i - 3) * 3
  redis.call('SADD', KEYS[2], ARGV[a + 1])
  redis.call('HSET', KEYS[i], ARGV[a + 2], ARGV[a + 3])
end
return 1
"""
#: How many members one command adds or one page of a hash has, so that no command blocks the engine for long.
_PAGE = 500
#: Every how many heartbeats a process removes what is left of others.
_SWEEP_EVERY = 3


class Presence:
    """The members of this process, and those of all."""

    def __init__(self, stream: RedisStream, address: str, prefix: str, process: str, seconds: float) -> None:
        """Prepare the presence of a connection.

        Args:
            stream: Connection for commands.
            address: Where the engine is, for errors.
            prefix: What all keys begin with.
            process: Identifier of the process.
            seconds: How long the process counts as alive if a member enters before the first heartbeat.
        """
        self._stream = stream
        self._address = address
        self._prefix = prefix
        self._process = process
        self._seconds = seconds
        self._life = f"{process}-{secrets.token_hex(4)}"
        self._has_begun = False
        self._beats = 0
        #: The connections of this process by room, in order to know which rooms it has left.
        self._connections: dict[str, set[str]] = {}
        self._sweeping: asyncio.Task[None] | None = None

    # This process -----------------------------------------------------------------------------------------------------

    async def beat(self, seconds: float) -> None:
        """Prolong the life of this process. If it is over, the connection ends, so that the core enters all again."""
        if not self._has_begun:
            await self._begin(seconds)
            return
        prolong = encode("SET", self._alive(self._life), "1", "PX", _milliseconds(seconds), "XX")
        (alive,) = await self._run(prolong)
        if alive is None:
            self._end()
        self._beats += 1
        if self._beats % _SWEEP_EVERY == 0:
            self._start_sweep()

    async def enter(self, members: Collection[tuple[str, Member]]) -> None:
        """Add members of this process. If its life is over, the connection ends."""
        if not self._has_begun:
            await self._begin(self._seconds)
        each = list(members)
        for start in range(0, len(each), _PAGE):
            await self._enter(each[start : start + _PAGE])

    async def _enter(self, members: list[tuple[str, Member]]) -> None:
        keys = [self._alive(self._life), self._key("rooms", self._life)]
        arguments: list[str] = []
        for room, member in members:
            self._connections.setdefault(room, set()).add(member.connection)
            keys.append(self._key("here", room))
            value = json.dumps([member.identity, dict(member.data)], separators=(",", ":"))
            arguments += [room, f"{self._life}/{member.connection}", value]
        (alive,) = await self._run(encode("EVAL", _ENTER, len(keys), *keys, *arguments))
        if not alive:
            self._end()

    async def leave(self, members: Collection[tuple[str, str]]) -> None:
        """Remove members of this process."""
        commands = []
        for room, connection in members:
            commands.append(encode("HDEL", self._key("here", room), f"{self._life}/{connection}"))
            here = self._connections.get(room, set())
            here.discard(connection)
            if not here:
                self._connections.pop(room, None)
                commands.append(encode("SREM", self._key("rooms", self._life), room))
        await self._run(*commands)

    def removal(self) -> bytes | None:
        """Return the command that ends the life at once; None if it never began."""
        return encode("DEL", self._alive(self._life)) if self._has_begun else None

    async def _begin(self, seconds: float) -> None:
        """Begin the life, and end an earlier one of this process whose end the engine may not have noticed."""
        _, _, lives = await self._run(
            encode("SET", self._alive(self._life), "1", "PX", _milliseconds(seconds)),
            encode("SADD", self._key("lives"), self._life),
            encode("SMEMBERS", self._key("lives")),
        )
        self._has_begun = True
        earlier = [life for life in _texts(lives) if _process_of(life) == self._process and life != self._life]
        if earlier:
            await self._run(encode("DEL", *(self._alive(life) for life in earlier)))
        self._start_sweep()

    def _end(self) -> NoReturn:
        """End the connection, because other processes may have removed the members of this one."""
        what = "the server has forgotten this process, because a heartbeat was late or the server has lost its data"
        failure = BackplaneFailure("down", f"{self._address}: {what}")
        self._stream.end(failure)
        raise failure

    # All processes ----------------------------------------------------------------------------------------------------

    async def present(self, room: str, limit: int) -> tuple[Member, ...]:
        """Return members of a room."""
        alive, _ = await self._lives()
        # A hash may give a field twice while it grows.
        found: dict[bytes, Member] = {}
        async with aclosing(self._pages("HSCAN", self._key("here", room))) as pages:
            async for page in pages:
                for field, value in zip(page[::2], page[1::2], strict=True):
                    life, _, connection = field.decode("utf-8", "replace").partition("/")
                    if life in alive:
                        found[field] = Member(_process_of(life), connection, *_read_member(value))
                if len(found) >= limit:
                    break
        return tuple(found.values())[: max(limit, 0)]

    async def count(self, room: str) -> int:
        """Return the number of members of a room."""
        alive, over = await self._lives()
        if not over:
            (count,) = await self._run(encode("HLEN", self._key("here", room)))
            return int(count)
        pages = [page async for page in self._pages("HSCAN", self._key("here", room))]
        living = {life.encode() for life in alive}
        return len({field for page in pages for field in page[::2] if field.partition(b"/")[0] in living})

    async def processes(self) -> tuple[str, ...]:
        """Return the processes that are alive."""
        alive, _ = await self._lives()
        return tuple(sorted({_process_of(life) for life in alive}))

    async def _lives(self) -> tuple[set[str], set[str]]:
        """Return the lives that go on, and those that are over and not removed yet."""
        (members,) = await self._run(encode("SMEMBERS", self._key("lives")))
        lives = _texts(members)
        if not lives:
            return set(), set()
        (values,) = await self._run(encode("MGET", *(self._alive(life) for life in lives)))
        alive = {life for life, value in zip(lives, values, strict=True) if value is not None}
        return alive, set(lives) - alive

    # What is left of others -------------------------------------------------------------------------------------------

    def _start_sweep(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep_quietly())

    async def _sweep_quietly(self) -> None:
        # A heartbeat reports the same failure, and readers leave out these members anyway.
        with suppress(BackplaneFailure):
            await self._sweep()

    def close(self) -> None:
        """End what runs by itself."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _sweep(self) -> None:
        """Remove what is left of lives that are over. Several processes may do so at the same time."""
        _, over = await self._lives()
        for life in over:
            async for rooms in self._pages("SSCAN", self._key("rooms", life)):
                for room in _texts(rooms):
                    await self._remove_members(life, room)
            await self._run(encode("DEL", self._key("rooms", life)), encode("SREM", self._key("lives"), life))

    async def _remove_members(self, life: str, room: str) -> None:
        key = self._key("here", room)
        async for page in self._pages("HSCAN", key, "MATCH", f"{life}/*"):
            if page:
                await self._run(encode("HDEL", key, *page[::2]))

    async def _pages(self, command: str, key: str, *options: str) -> AsyncGenerator[list[bytes], None]:
        cursor = b"0"
        while True:
            ((cursor, page),) = await self._run(encode(command, key, cursor, *options, "COUNT", _PAGE))
            yield page
            if cursor == b"0":
                return

    # Helpers ----------------------------------------------------------------------------------------------------------

    async def _run(self, *commands: bytes) -> list[Any]:
        replies = await self._stream.execute(*commands) if commands else []
        for reply in replies:
            if isinstance(reply, ErrorReply):
                failure = refusal(self._address, reply)
                if reply.word == "READONLY":  # the server has become a replica, and what is published here reaches few
                    self._stream.end(failure)
                raise failure
        return replies

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _alive(self, life: str) -> str:
        return self._key("alive", life)


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)


def _process_of(life: str) -> str:
    return life.partition("-")[0]


def _texts(items: Iterable[bytes]) -> list[str]:
    return [item.decode("utf-8", "replace") for item in items]


def _read_member(value: bytes) -> tuple[str | None, dict[str, str]]:
    """Return identity and data. What another program has written is read as no identity and no data."""
    try:
        identity, data = json.loads(value)
        if isinstance(data, dict) and (identity is None or isinstance(identity, str)):
            return identity, {str(name): str(text) for name, text in data.items()}
    except (ValueError, TypeError, RecursionError):
        pass
    return None, {}
