"""A listener that stops while a client is being accepted, and TLS buffers."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import errno
import gc
import socket
import ssl
import sys
from typing import Any, cast

import pytest
from websocket_transports import PROVIDERS, on_every_transport

from zcli_core.testing.certificates import client_tls, server_tls
from zcli_core.testing.contract import make_context
from zcli_core.testing.websocket.client import (
    read_all,
    reset,
    upgrade_request,
)
from zcli_core.websocket.contract import Endpoint, Limits, PlainResponse, Request


class _Refuses:
    def upgrade(self, request: Request) -> PlainResponse:
        return PlainResponse(403)

    def http(self, request: Request) -> PlainResponse:
        return PlainResponse(426)

    def refused(self, cause: str, address: Any, request: Request | None = None) -> float:
        return 0.0


@on_every_transport
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("said", ["nothing", "hello"])
@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
def test_tls_handshake_while_stopping_is_dropped(name: str, turns: int, said: str, loop: str) -> None:
    """The listener does not wait for the client, and no task is left."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = client_tls().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()

    async def run() -> None:
        before = asyncio.all_tasks()
        transport = PROVIDERS[name].factory(make_context())
        endpoint = Endpoint(port=0, tls=server_tls())
        listener = await transport.listen(endpoint, cast("Any", _Refuses()), Limits())
        address = listener.addresses[0]
        assert address is not None
        with socket.create_connection(address[:2], timeout=10) as client:
            if said == "hello":
                client.sendall(outgoing.read())
            for _ in range(turns):
                await asyncio.sleep(0.001)
            await asyncio.wait_for(listener.close(), 20)
            reading = asyncio.get_running_loop().run_in_executor(None, read_all, client)
            await reading
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.001)

    asyncio.run(run()) if loop == "asyncio" else pytest.importorskip("uvloop").run(run())


def _buffers() -> int:
    """Return the bytes of asyncio's TLS buffers, including those of lost connections."""
    found = [item for item in gc.get_objects() if isinstance(item, asyncio.sslproto.SSLProtocol)]
    return sum(len(getattr(item, "_ssl_buffer", b"")) for item in found)


@on_every_transport
@pytest.mark.parametrize("how", ["closes", "resets", "speaks no TLS", "leaves", "asks", "is refused"])
def test_tls_buffer_of_a_lost_client_is_freed(name: str, how: str) -> None:
    """It is freed at once, because the garbage collector counts objects and not their size."""
    request = {"leaves": b"", "asks": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "is refused": upgrade_request()}

    def visit(address: tuple[str, int]) -> None:
        with socket.create_connection(address, timeout=10) as client:
            if how == "resets":
                reset(client)
            elif how == "speaks no TLS":
                client.sendall(request["asks"])
                read_all(client)
            elif how in request:
                with client_tls().wrap_socket(client, server_hostname="localhost") as secured:
                    secured.sendall(request[how])
                    if request[how]:
                        read_all(secured)

    async def run() -> None:
        transport = PROVIDERS[name].factory(make_context())
        endpoint = Endpoint(port=0, tls=server_tls())
        listener = await transport.listen(endpoint, cast("Any", _Refuses()), Limits(close_timeout=0.1))
        address = listener.addresses[0]
        assert address is not None
        before = _buffers()
        for _ in range(3):
            await asyncio.get_running_loop().run_in_executor(None, visit, address[:2])
        async with asyncio.timeout(20) if sys.version_info >= (3, 11) else contextlib.AsyncExitStack():
            while _buffers() > before:
                await asyncio.sleep(0.001)
        await listener.close()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


@on_every_transport
@pytest.mark.parametrize("turns", range(6))
def test_client_accepted_while_stopping_is_closed(name: str, turns: int) -> None:
    """The client came so many turns of the loop before; asyncio takes two of them to accept it."""

    async def run() -> bytes:
        transport = PROVIDERS[name].factory(make_context())
        listener = await transport.listen(Endpoint(port=0), cast("Any", _Refuses()), Limits())
        address = listener.addresses[0]
        assert address is not None
        with socket.create_connection(address[:2], timeout=10) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            listener.stop_accepting()
            await asyncio.sleep(0)
            with socket.create_server(address[:2], reuse_port=False):
                pass  # the port is free
            await listener.close()
            reading = asyncio.get_running_loop().run_in_executor(None, client.recv, 1)
            try:
                return await reading
            except ConnectionResetError:
                return b""

    assert asyncio.run(run()) == b""


@on_every_transport
@pytest.mark.parametrize("failing", [0, 1])
def test_listener_failing_to_accept_closes_sockets(name: str, failing: int) -> None:
    """It closes the sockets on which it accepts already, and those on which it does not yet."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        sockets = tuple(socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        descriptors = [sock.fileno() for sock in sockets]
        add_reader = loop.add_reader

        def add_or_fail(sock: Any, *arguments: Any) -> None:
            if sock is sockets[failing]:
                raise OSError(errno.ENOSPC, "no epoll watch is left")
            add_reader(sock, *arguments)

        loop.add_reader = add_or_fail  # type: ignore[method-assign]
        transport = PROVIDERS[name].factory(make_context())
        with pytest.raises(OSError, match="no epoll watch is left"):
            await transport.listen(Endpoint(sockets=sockets), cast("Any", _Refuses()), Limits())
        assert [sock.fileno() for sock in sockets] == [-1, -1]
        assert not any(map(loop.remove_reader, descriptors))

    asyncio.run(run())
