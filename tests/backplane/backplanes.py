"""Backplanes for the tests of the link: the real ``local`` one, with faults that a test turns on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

from zcli_local.backplane import LocalBackplane, LocalConnection

from zcli_core.backplane.contract import Capability, EngineConnection, Member, Sink
from zcli_core.backplane.envelope import Envelope, Kind
from zcli_core.backplane.link import Link
from zcli_core.errors import BackplaneFailure
from zcli_core.testing import make_context

OWN = b"own-8888"
OTHER = b"other888"
LONG = 20.0


class FaultyBackplane(LocalBackplane):
    """The backplane ``local`` with presence, a record of its calls, and faults."""

    capabilities = Capability.COUNTS | Capability.REMOTE | Capability.PRESENCE

    def __init__(self) -> None:
        super().__init__()
        #: Names of the calls of all connections, with their arguments.
        self.calls: list[tuple[str, Any]] = []
        #: What happens before a call, by its name. It may wait or raise.
        self.faults: dict[str, Callable[[], Any]] = {}
        #: Whether messages are lost on the way.
        self.silent = False
        self.members: dict[tuple[str, str], Member] = {}
        self.max_payload: int | None = None

    async def meet(self, name: str, argument: Any = None) -> None:
        self.calls.append((name, argument))
        fault = self.faults.get(name)
        if fault is not None:
            outcome = fault()
            if outcome is not None:
                await outcome

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)

    async def connect(self, process: str, sink: Sink) -> LocalConnection:
        await self.meet("connect", process)
        connection = FaultyConnection(self, sink)
        connection.max_payload = self.max_payload
        self.connections.append(connection)
        return connection

    def kill(self, failure: BackplaneFailure | None = None) -> None:
        """End all connections, as the end of an engine does."""
        for connection in list(self.connections):
            connection._closed = True
            self.connections.remove(connection)
            connection._sink.lost(failure or BackplaneFailure("down", "the engine was killed"))


class FaultyConnection(LocalConnection):
    _backplane: FaultyBackplane

    async def subscribe(self, channels: Collection[str]) -> None:
        await self._backplane.meet("subscribe", tuple(channels))
        await super().subscribe(channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        await self._backplane.meet("unsubscribe", tuple(channels))
        await super().unsubscribe(channels)

    async def publish(self, channel: str, data: bytes) -> int:
        await self._backplane.meet("publish", channel)
        if self._backplane.silent:
            return 0
        return await super().publish(channel, data)

    async def close(self) -> None:
        await self._backplane.meet("close")
        await super().close()

    async def beat(self, seconds: float) -> None:
        await self._backplane.meet("beat", seconds)

    async def enter(self, members: Collection[tuple[str, Member]]) -> None:
        await self._backplane.meet("enter", len(members))
        self._backplane.members.update({(room, member.connection): member for room, member in members})

    async def leave(self, members: Collection[tuple[str, str]]) -> None:
        await self._backplane.meet("leave", len(members))
        for key in members:
            self._backplane.members.pop(key, None)

    async def present(self, room: str, limit: int) -> tuple[Member, ...]:
        await self._backplane.meet("present", room)
        return tuple(member for (name, _), member in self._backplane.members.items() if name == room)[:limit]


class Watched:
    """A link with what it received and which states it reported."""

    def __init__(
        self, backplane: Any, *, listens: bool = True, process: str = "0011223344556677", **settings: Any
    ) -> None:
        fast = {"timeout": 0.2, "probe_interval": 0.02, "probe_timeout": 0.2, "linger": 0, "first_retry": 0.001}
        context = make_context(backplane={**fast, "max_retry": 0.01, **settings})
        self.received: list[tuple[str, Envelope]] = []
        self.states: list[tuple[str, str | None]] = []
        self._changed = asyncio.Event()
        self.link = Link(
            backplane,
            context.config.backplane,
            process=process,
            name="faulty",
            max_message=100,
            origin=OWN,
            receive=(lambda channel, envelope: self.received.append((channel, envelope))) if listens else None,
            changed=self._note,
            log=context.log,
        )

    def _note(self, state: str, failure: BackplaneFailure | None) -> None:
        self.states.append((state, failure and failure.kind))
        self._changed.set()

    async def until(self, *states: str) -> None:
        """Wait until the link has reported these states, in this order."""
        await until(lambda: [state for state, _ in self.states][: len(states)] == list(states))

    async def __aenter__(self) -> Watched:
        self.link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.link.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, and let the event loop run meanwhile."""
    end = asyncio.get_running_loop().time() + LONG
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it does not become true"
        await asyncio.sleep(0.001)


def message(payload: str | bytes = "hello", origin: bytes = OWN, number: int = 1) -> Envelope:
    return Envelope(Kind.MESSAGE, origin, number, payload)


async def publish_as_other(backplane: LocalBackplane, channel: str, data: bytes) -> None:
    """Publish bytes on another connection of the backplane."""

    class Nothing:
        def message(self, channel: str, data: bytes) -> None: ...

        def lost(self, failure: BackplaneFailure) -> None: ...

    connection: EngineConnection = LocalConnection(backplane, Nothing())
    await connection.publish(channel, data)


async def wait_stubbornly(event: asyncio.Event) -> None:
    """Wait for an event and ignore every cancellation."""
    while not event.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await event.wait()
