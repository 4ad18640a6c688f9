"""The core's side of a connection for the suite: sinks that record, and functions that run a test in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import psutil
import pytest

from zcli_core.backplane.contract import Backplane, EngineConnection
from zcli_core.errors import BackplaneFailure

_T = TypeVar("_T")

#: Seconds after which a test that waits has failed.
LONGEST = 20.0


class Peer:
    """A connection of the backplane under test with its sink.

    Attributes:
        messages: What arrived, as pairs of channel and message.
        failures: What was reported with ``lost``.
        late: Messages that arrived after ``lost``.
    """

    connection: EngineConnection

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.failures: list[BackplaneFailure] = []
        self.late = 0

    def message(self, channel: str, data: bytes) -> None:
        """Record a message."""
        assert type(data) is bytes, f"a message must be bytes, got {type(data).__name__}"
        self.messages.append((channel, data))
        self.late += bool(self.failures)

    def lost(self, failure: BackplaneFailure) -> None:
        """Record the end."""
        assert isinstance(failure, BackplaneFailure)
        self.failures.append(failure)

    def on(self, channel: str) -> list[bytes]:
        """Return the messages of one channel."""
        return [data for name, data in self.messages if name == channel]

    async def until_message(self, count: int = 1) -> None:
        """Wait until so many messages have arrived."""
        await until(lambda: len(self.messages) >= count, lambda: f"{len(self.messages)} of {count} messages arrived")

    async def until_lost(self) -> BackplaneFailure:
        """Wait until the end was reported."""
        await until(lambda: bool(self.failures), lambda: "the end of the connection was not reported with lost()")
        return self.failures[0]


async def until(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    """Wait until a condition holds, and let the event loop run meanwhile."""
    end = time.monotonic() + LONGEST
    while not condition():
        if time.monotonic() > end:
            pytest.fail(explain())
        await asyncio.sleep(0.002)


async def within(awaitable: Awaitable[_T], what: str) -> _T:
    """Wait for a call of the plugin."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait({task}, timeout=LONGEST)
    if not task.done():
        pytest.fail(f"{what} did not return within {LONGEST:g} s")
    return task.result()


@contextlib.asynccontextmanager
async def connected(backplane: Backplane, process: str = "0011223344556677") -> AsyncIterator[Peer]:
    """Connect once, and close at the end."""
    peer = Peer()
    peer.connection = await within(backplane.connect(process, peer), "connect()")
    try:
        yield peer
    finally:
        await within(peer.connection.close(), "close()")
        assert peer.late == 0, f"{peer.late} messages arrived after lost()"
        assert len(peer.failures) <= 1, f"lost() was called {len(peer.failures)} times"


async def given_up(awaitable: Coroutine[Any, Any, Any], seconds: float) -> BaseException | None:
    """Wait for a call as the core does: cancel it after some seconds. Return what it raised, or None."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    await asyncio.wait({task}, timeout=LONGEST)
    if not task.done():
        pytest.fail("a cancelled call did not end")
    return None if task.cancelled() else task.exception()


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in a new event loop, and check that it leaves nothing behind: tasks, threads or descriptors."""

    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        asyncio.run(_and_nothing_left(test(*arguments, **fixtures)))

    return run


async def _and_nothing_left(test: Coroutine[Any, Any, None]) -> None:
    before = _Left()
    await test
    await until(lambda: not before.new(), lambda: f"after close() these are left: {', '.join(before.new())}")


class _Left:
    """What exists at one moment."""

    def __init__(self) -> None:
        self._tasks = asyncio.all_tasks()
        self._threads = set(threading.enumerate())
        self._sockets = self._own_sockets()

    @staticmethod
    def _own_sockets() -> set[Any]:
        # Only connections that something accepted or made: those of the suite's relays are closed by their threads.
        return {(each.fd, each.laddr, each.raddr) for each in psutil.Process().net_connections("all")}

    def new(self) -> list[str]:
        """Describe what exists now and did not exist then."""
        tasks = [f"the task {task.get_coro()!r}" for task in asyncio.all_tasks() - self._tasks]
        threads = [f"the thread {each.name}" for each in set(threading.enumerate()) - self._threads]
        sockets = [f"the socket {each[1]} -> {each[2]}" for each in self._own_sockets() - self._sockets]
        return tasks + threads + sockets
