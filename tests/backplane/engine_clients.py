"""Connections to engines for tests, made as zCLI makes them, and peers that are not what they should be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

import pytest
from engines import Inbox

from zcli_core.backplane.contract import Backplane, EngineConnection
from zcli_core.errors import BackplaneFailure
from zcli_core.testing import make_context


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run the scenario of a test in an event loop of its own. It must leave no task and no open file behind."""
    files = _open_files()
    asyncio.run(_without_leaks(coroutine))
    assert _open_files() <= files


async def _without_leaks(coroutine: Coroutine[Any, Any, None]) -> None:
    await coroutine
    left = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]  # there is one
    assert not left, left


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def make(name: str, namespace: str | None = None, **settings: Any) -> Backplane:
    """Return a backplane as the factory of its provider makes it; the settings are those of ``backplane.<name>``."""
    from zcli_nats import zcli_backplanes as nats
    from zcli_redis_backplane import zcli_backplanes as redis

    (provider,) = {"redis": redis, "nats": nats}[name]()
    section = {"namespace": namespace or f"test-{secrets.token_hex(6)}", name: settings}
    return provider.factory(make_context(backplane=section))


@contextlib.asynccontextmanager
async def connected(backplane: Backplane, process: str | None = None) -> AsyncIterator[tuple[EngineConnection, Inbox]]:
    """Connect until the block ends."""
    inbox = Inbox()
    connection = await backplane.connect(process or secrets.token_hex(8), inbox)
    try:
        yield connection, inbox
    finally:
        await connection.close()


async def refused(call: Awaitable[Any], kind: str, *words: str) -> None:
    """Check that a call fails with this kind, and that the error has these words."""
    with pytest.raises(BackplaneFailure) as raised:
        await call
    assert raised.value.kind == kind, raised.value
    for word in words:
        assert word in str(raised.value), raised.value


@contextlib.asynccontextmanager
async def peer(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """Run a server on loopback, and give its port."""
    open_writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await talk(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]  # there is one
        await asyncio.wait(others) if others else None


@contextlib.asynccontextmanager
async def resp_server(replies: Mapping[bytes, bytes]) -> AsyncIterator[str]:
    """Run a server that speaks Redis's protocol and sends these replies, by command; give its URL.

    ``+OK`` is the reply to other commands.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            command = []
            for _ in range(int(line[1:])):
                length = int((await reader.readline())[1:])
                command.append((await reader.readexactly(length + 2))[:-2])
            writer.write(replies.get(command[0], b"+OK\r\n"))

    async with peer(talk) as port:
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def frozen(engine: Any) -> Iterator[None]:
    """Freeze an engine until the block ends."""
    engine.freeze()
    try:
        yield
    finally:
        engine.thaw()
