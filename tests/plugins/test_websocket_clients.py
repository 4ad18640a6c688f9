"""Clients of other packages, websockets and aiohttp, over TCP, TLS and Unix sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from websocket_transports import PROVIDERS, serve

from zcli_core.testing.websocket.client import until
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.websocket.contract import Compression, Endpoint, Limits

LOOPS = ["asyncio"]
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS.append("uvloop")


@pytest.fixture(scope="module")
def authority() -> Any:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module", params=LOOPS)
def run(request: pytest.FixtureRequest) -> Any:
    """The function that runs the server's event loop."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


@pytest.fixture(scope="module", params=PROVIDERS)
def transport(request: pytest.FixtureRequest) -> str:
    """The name of a transport."""
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=["plain", "deflate"])
def limits(request: pytest.FixtureRequest) -> Limits:
    compression = Compression() if request.param == "deflate" else None
    return Limits(max_size=1 << 22, compression=compression)


@pytest.fixture(scope="module", params=["tcp", "tls", "unix"])
def server(
    request: pytest.FixtureRequest, limits: Limits, run: Any, transport: str, tmp_path_factory: Any
) -> Iterator[ServerUnderTest]:
    """A server for every transport, kind of endpoint and event loop."""
    endpoint = Endpoint(port=0)
    if request.param == "unix":
        endpoint = Endpoint(host=None, port=0, unix_path=Path(tmp_path_factory.mktemp("ws")) / "s")
    elif request.param == "tls":
        endpoint = Endpoint(port=0, tls=request.getfixturevalue("server_tls"))
    with serve(transport, limits, endpoint, run=run) as running:
        yield running


@contextlib.asynccontextmanager
async def by_websockets(server: ServerUnderTest, tls: ssl.SSLContext) -> AsyncIterator[Any]:
    from websockets.asyncio.client import connect, unix_connect

    if server.endpoint.unix_path is not None:
        connecting: Any = unix_connect(str(server.endpoint.unix_path), "ws://localhost/chat", max_size=None)
    elif server.endpoint.tls is not None:
        connecting = connect(f"wss://localhost:{server.port}/chat", ssl=tls, max_size=None)
    else:
        connecting = connect(f"ws://localhost:{server.port}/chat", max_size=None)
    async with connecting as connection:
        yield connection


@contextlib.asynccontextmanager
async def by_aiohttp(server: ServerUnderTest, tls: ssl.SSLContext) -> AsyncIterator[Any]:
    unix = server.endpoint.unix_path
    connector = aiohttp.UnixConnector(str(unix)) if unix is not None else aiohttp.TCPConnector(ssl=tls)
    scheme = "wss" if server.endpoint.tls is not None else "ws"
    port = f":{server.port}" if unix is None else ""
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"{scheme}://localhost{port}/chat"
        async with session.ws_connect(url, max_msg_size=0, compress=15) as connection:
            yield connection


MESSAGES = ["", "hello", "é€😀" * 500, "x" * 200_000, b"", bytes(range(256)) * 300, bytes(1_000_000)]


def test_client_websockets_gets_every_echo(server: ServerUnderTest, client_tls: ssl.SSLContext) -> None:
    """It sends messages of every size, fragments and pings, and closes normally."""

    async def scenario() -> None:
        async with by_websockets(server, client_tls) as connection:
            for message in MESSAGES:
                await connection.send(message)
                assert await connection.recv() == message
            await connection.send(["in ", "frag", "ments"])
            assert await connection.recv() == "in fragments"
            assert await (await connection.ping()) > 0
            await connection.close(4001, "bye")
        assert (connection.close_code, connection.close_reason) == (4001, "bye")

    asyncio.run(asyncio.wait_for(scenario(), 30))
    until(lambda: server.closed and server.closed[-1][:2] == (4001, "bye"))


# aiohttp does not wait until the TLS connections of a closed session are gone (its "Graceful Shutdown"). So one may
# remain for the garbage collector, which therefore runs here.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_client_aiohttp_gets_every_echo(server: ServerUnderTest, client_tls: ssl.SSLContext) -> None:
    """It sends messages of every size and pings, and closes normally."""

    async def scenario() -> None:
        async with by_aiohttp(server, client_tls) as connection:
            for message in MESSAGES:
                if isinstance(message, str):
                    await connection.send_str(message)
                    assert await connection.receive_str() == message
                else:
                    await connection.send_bytes(message)
                    assert await connection.receive_bytes() == message
            await connection.ping()
            assert await connection.close(code=4002, message=b"bye")
        assert connection.close_code == 4002

    asyncio.run(asyncio.wait_for(scenario(), 30))
    gc.collect()
    until(lambda: server.closed and server.closed[-1][:2] == (4002, "bye"))


def test_broadcast_reaches_clients_of_any_compression(run: Any, transport: str) -> None:
    """One prepared message reaches clients with compression, with smaller windows and without."""
    limits = Limits(compression=Compression(window_bits=15, threshold=10))
    message = "the quick brown fox " * 100

    async def scenario(server: ServerUnderTest) -> None:
        from websockets.asyncio.client import connect
        from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

        small = ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=True)
        uri = f"ws://127.0.0.1:{server.port}"
        async with (
            connect(uri) as one,
            connect(uri, compression=None) as two,
            connect(uri, extensions=[small]) as three,
        ):
            while len(server.connections) < 3:
                await asyncio.sleep(0.005)

            def broadcast() -> int:
                prepared = server.listener.prepare(message)
                return sum(connection.send_prepared(prepared) for connection in server.connections)

            assert await asyncio.to_thread(server.call, broadcast) == 3
            assert [await one.recv(), await two.recv(), await three.recv()] == [message] * 3

    with serve(transport, limits, run=run) as server:
        asyncio.run(asyncio.wait_for(scenario(server), 30))


def test_reloaded_certificate_is_used(authority: Any, client_tls: ssl.SSLContext, run: Any, transport: str) -> None:
    """The certificate is loaded into the listener's context, and open connections go on."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with (
        serve(transport, endpoint=Endpoint(port=0, tls=context), run=run) as server,
        server.connect(tls=client_tls) as old,
    ):
        authority.issue_cert("localhost", "renewed.example").configure_cert(context)
        with server.connect(tls=client_tls) as new:
            names = [[name for _, name in c.sock.getpeercert()["subjectAltName"]] for c in (old, new)]  # type: ignore[union-attr]
            assert names == [["localhost"], ["localhost", "renewed.example"]]
            assert old.echo() == new.echo() == b"are you there?"
