"""Other people's clients: the packages websockets and aiohttp, over TCP, TLS and Unix sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from websocket_frames import TEXT, close, frame
from wsproto_server import Server, read_all, until, upgrade_request

from zcli_core.contracts.websocket import Accept, Compression, Endpoint, HttpAnswer, Limits, Refuse

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
    """What runs the server's event loop."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


@pytest.fixture(scope="module", params=["plain", "deflate"])
def limits(request: pytest.FixtureRequest) -> Limits:
    compression = Compression() if request.param == "deflate" else None
    return Limits(max_size=1 << 22, compression=compression)


@pytest.fixture(scope="module", params=["tcp", "tls", "unix"])
def server(request: pytest.FixtureRequest, limits: Limits, run: Any, tmp_path_factory: Any) -> Iterator[Server]:
    """A server on every kind of endpoint and loop."""
    endpoint = Endpoint(port=0)
    if request.param == "unix":
        endpoint = Endpoint(host=None, port=0, unix_path=Path(tmp_path_factory.mktemp("ws")) / "s")
    elif request.param == "tls":
        endpoint = Endpoint(port=0, tls=request.getfixturevalue("server_tls"))
    with Server(limits, endpoint, run=run) as running:
        yield running


@contextlib.asynccontextmanager
async def by_websockets(server: Server, tls: ssl.SSLContext) -> AsyncIterator[Any]:
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
async def by_aiohttp(server: Server, tls: ssl.SSLContext) -> AsyncIterator[Any]:
    unix = server.endpoint.unix_path
    connector = aiohttp.UnixConnector(str(unix)) if unix is not None else aiohttp.TCPConnector(ssl=tls)
    scheme = "wss" if server.endpoint.tls is not None else "ws"
    port = f":{server.port}" if unix is None else ""
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"{scheme}://localhost{port}/chat"
        async with session.ws_connect(url, max_msg_size=0, compress=15) as connection:
            yield connection


MESSAGES = ["", "hello", "é€😀" * 500, "x" * 200_000, b"", bytes(range(256)) * 300, bytes(1_000_000)]


def test_the_client_of_websockets_gets_everything_back(server: Server, client_tls: ssl.SSLContext) -> None:
    """Messages of every size, in fragments, pings, and a clean close."""

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
    assert until(lambda: server.closed)[-1][:2] == (4001, "bye")


def test_the_client_of_aiohttp_gets_everything_back(server: Server, client_tls: ssl.SSLContext) -> None:
    """The same with another's idea of the protocol."""

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
    until(lambda: server.closed and server.closed[-1][:2] == (4002, "bye"))


def test_a_broadcast_reaches_clients_whatever_they_agreed_on(run: Any) -> None:
    """One message, prepared once, for those with compression, with smaller windows and without."""
    limits = Limits(compression=Compression(window_bits=15, threshold=10))
    message = "the quick brown fox " * 100

    async def scenario(server: Server) -> None:
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

    with Server(limits, run=run) as server:
        asyncio.run(asyncio.wait_for(scenario(server), 30))


# TLS ------------------------------------------------------------------------------------------------------------


def test_the_core_is_told_that_it_is_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, run: Any) -> None:
    """For pages and cookies."""
    with Server(endpoint=Endpoint(port=0, tls=server_tls), run=run) as server:
        with server.connect(tls=client_tls) as client:
            assert client.echo() == b"are you there?"
        assert server.requests[0].tls


@pytest.mark.parametrize("way", ["refused", "answered", "closed", "breach"])
def test_the_last_word_arrives_over_tls(
    way: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, run: Any
) -> None:
    """Although the client has sent more than was read, and closes nothing by itself."""

    def decide(server: Server, _: Any) -> Any:
        return (
            Refuse(1008, "no") if way == "refused" else HttpAnswer(403) if way == "answered" else Accept(server.opened)
        )

    limits = Limits(close_timeout=2)
    with Server(limits, Endpoint(port=0, tls=server_tls), decide, run=run) as server:
        sock = client_tls.wrap_socket(server.socket(), server_hostname="localhost")
        ending = close(1000) if way == "closed" else frame(3)
        with sock:
            sock.sendall(upgrade_request() + ending)
            with contextlib.suppress(OSError):  # after a close frame nobody need listen
                sock.sendall(frame(TEXT, b"x" * 50_000))
            answer = read_all(sock)
        expected = {
            "refused": b"\x03\xf0no",
            "answered": b"HTTP/1.1 403 ",
            "closed": b"\x88\x02\x03\xe8",
            "breach": b"\x03\xea",
        }
        assert expected[way] in answer
        until(lambda: not server.listener.openings and not server.listener.connections)


@pytest.mark.parametrize("way", ["says nothing", "half a hello", "speaks plain HTTP", "distrusts us", "leaves"])
def test_a_tls_handshake_that_fails_is_no_news(
    way: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, run: Any, caplog: Any
) -> None:
    """It is over within ``open_timeout``, without a word in the log; the next client is served."""
    limits = Limits(open_timeout=0.5, close_timeout=0.5)
    with Server(limits, Endpoint(port=0, tls=server_tls), run=run) as server:
        sock = server.socket()
        if way == "half a hello":
            sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        elif way == "speaks plain HTTP":
            sock.sendall(upgrade_request())
        elif way == "distrusts us":
            with pytest.raises(ssl.SSLError):
                ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
        if way == "leaves":
            sock.close()
        else:
            with contextlib.suppress(ConnectionResetError, ssl.SSLError, OSError):
                read_all(sock)
        sock.close()
        with server.connect(tls=client_tls) as client:
            assert client.echo() == b"are you there?"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_who_finishes_the_tls_handshake_and_says_nothing_is_dropped(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, run: Any
) -> None:
    """The one deadline covers both."""
    with Server(Limits(open_timeout=0.5), Endpoint(port=0, tls=server_tls), run=run) as server:
        sock = client_tls.wrap_socket(server.socket(), server_hostname="localhost")
        with sock, contextlib.suppress(ssl.SSLError):
            assert read_all(sock) == b""
        until(lambda: not server.listener.openings)


def test_a_certificate_that_is_loaded_anew_is_used_and_disturbs_nobody(
    authority: Any, client_tls: ssl.SSLContext, run: Any
) -> None:
    """Into the context that the listener was given."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with Server(endpoint=Endpoint(port=0, tls=context), run=run) as server, server.connect(tls=client_tls) as old:
        authority.issue_cert("localhost", "renewed.example").configure_cert(context)
        with server.connect(tls=client_tls) as new:
            names = [[name for _, name in c.sock.getpeercert()["subjectAltName"]] for c in (old, new)]  # type: ignore[union-attr]
            assert names == [["localhost"], ["localhost", "renewed.example"]]
            assert old.echo() == new.echo() == b"are you there?"
