"""The public parts of WebSocket transports: what they do beyond the contract, and what can be seen only inside.

The default transport is the one that is built from them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_transports import PROVIDERS, serve

from zcli_core.errors import ConnectionClosed
from zcli_core.testing.certificates import client_tls, server_tls
from zcli_core.testing.contract import make_context
from zcli_core.testing.websocket.client import (
    Client,
    parse_response,
    until,
    upgrade_request,
)
from zcli_core.testing.websocket.decisions import Undecided
from zcli_core.testing.websocket.frames import (
    BINARY,
    PING,
    PONG,
    TEXT,
    close,
    frame,
)
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.websocket.contract import Endpoint, Limits, PlainResponse, Refuse, Request, State
from zcli_core.websocket.parts.frames import close_frame
from zcli_core.websocket.parts.keepalive import KeepaliveClock
from zcli_core.websocket.parts.upgrade import BadRequest, parse_head, split_head

pytestmark = pytest.mark.parametrize("name", ["wsproto"])

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

# Requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "request_"),
    [
        (400, upgrade_request(drop=["Connection"])),
        (400, upgrade_request(drop=["Host"])),
        (400, upgrade_request(drop=["Sec-WebSocket-Key"])),
        (400, upgrade_request("Sec-WebSocket-Key: \xe9\xe9\xe9\xe9", drop=["Sec-WebSocket-Key"])),
        (400, upgrade_request("Content-Length: 5")),
        (400, upgrade_request("Sec-WebSocket-Protocol: a, a")),
        (400, upgrade_request("Sec-WebSocket-Protocol: \xe9")),
        (400, upgrade_request("Sec-WebSocket-Protocol: a,,a")),
        (400, upgrade_request("Sec-WebSocket-Protocol: a b")),
        (400, upgrade_request(target="http://")),
        (400, upgrade_request(target="ws://user:password@127.0.0.1/chat")),
        (426, upgrade_request(version="1.0")),
        (405, upgrade_request().replace(b"GET", b"POST")),
        (400, b"nonsense\r\n\r\n"),
        (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ],
)
def test_invalid_request_gets_an_explanation(name: str, expected: int, request_: bytes) -> None:
    """The transport responds with one sentence, and the core gets no call."""
    with serve(name) as server:
        response = parse_response(server.ask(request_))
        assert (response.status, response.headers["content-type"]) == (expected, "text/plain; charset=utf-8")
        assert response.body.endswith(b".\n")
        assert server.requests == []


def test_host_outside_ascii_raises_nothing(name: str) -> None:
    """Like every other header it is decoded as ISO-8859-1."""
    with serve(name) as server, server.socket() as sock:
        with Client(sock, upgrade_request("Host: \xfc\xff", drop=["Host"])) as client:
            assert client.echo() == b"are you there?"
        assert server.upgrades[0].headers["host"] == "\xfc\xff"


def test_upgrade_over_the_head_limit_gets_a_reason(name: str) -> None:
    """An upgrade of up to a few megabytes is finished and closed with a code that a page can read."""
    long = "X: " + "y" * 1_000_000
    with serve(name) as server:
        assert parse_response(server.ask(upgrade_request(long, drop=["Upgrade"]))).status == 431
        received = server.ask(upgrade_request(long) + close())
        assert received.startswith(b"HTTP/1.1 101 ")
        assert received.endswith(close_frame(1008, "The request's head is over 16384 bytes."))
        assert parse_response(server.ask(upgrade_request("X: " + "y" * 9_000_000))).status == 431


@pytest.mark.parametrize("status", [99, 199, 600, 700])
def test_invalid_status_is_500_and_logged(name: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """An invalid status is an error of the core."""
    with serve(name) as server:
        server.http_response = PlainResponse(status)
        assert parse_response(server.ask(GET)).status == 500
    assert "status must be 200 to 599, got" in caplog.text


def test_open_timeout_logs_nothing(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It logs nothing on the level DEBUG either."""
    caplog.set_level(logging.DEBUG)
    with serve(name, Limits(open_timeout=0.1)) as server:
        assert server.ask(upgrade_request()[:-2]) == b""
    assert [record for record in caplog.records if record.name != "asyncio"] == []


def test_data_during_a_decision_is_kept_up_to_a_limit(name: str) -> None:
    """Reading goes on for a while, so that the transport notices when the client leaves."""
    undecided = Undecided()
    with serve(name, decide=undecided) as server, server.socket() as sock:
        sock.sendall(upgrade_request() + frame(TEXT, b"x" * 1000) * 200)
        until(lambda: undecided.outcome == "waiting")
        (opening,) = server.listener.pending  # type: ignore[attr-defined]
        until(lambda: len(opening._buffer) > 16 * 1024)
        for _ in range(20):  # further data could pile up here
            server.call(lambda: None)
        assert len(opening._buffer) <= 32 * 1024 + 1024


@pytest.mark.parametrize(
    "decision", [Refuse(1008, delay=60), PlainResponse(403, delay=60)], ids=["refusal", "response"]
)
def test_delayed_response_keeps_no_descriptor(name: str, decision: Refuse | PlainResponse) -> None:
    """A client that leaves at once and comes again cannot use up the server's descriptors."""
    with serve(name, decide=lambda *_: decision) as server:
        listener: Any = server.listener
        with server.socket() as sock:
            sock.sendall(upgrade_request())
            until(lambda: server.upgrades)
            assert len(listener.pending) == 1
        until(lambda: not listener.pending)


GOOD_LINES = [*upgrade_request().split(b"\r\n"), b"Sec-WebSocket-Protocol: a, b", b" folded", b"Transfer-Encoding: x"]
lines = st.sampled_from(GOOD_LINES) | st.binary(max_size=40)


@settings(max_examples=150, deadline=None)
@given(data=st.lists(lines, max_size=12).map(b"\r\n".join) | st.binary(max_size=200))
def test_parse_head_any_bytes_raises_only_badrequest(name: str, data: bytes) -> None:
    """The parser of upgrades raises no other error."""
    try:
        parts = split_head(data + b"\r\n\r\n", Limits(max_header_bytes=300))
        assert parts is not None
        request, _ = parse_head(parts[0], None, None, False)
        assert isinstance(request, Request)
    except BadRequest:
        pass


# Connections ----------------------------------------------------------------------------------------------------


def test_failure_reasons_are_sentences(name: str) -> None:
    """They are shown in a browser's console and in the log."""
    undecided = Undecided()
    with serve(name, Limits(open_timeout=0.5), decide=undecided) as server, server.connect() as client:
        assert client.ending() == ([], 1011, "no decision within the open timeout")
    limits = Limits(ping_interval=0.05, ping_timeout=0.05, close_timeout=0.1)
    with serve(name, limits) as server, server.connect() as client:
        assert client.ending().reason == "keepalive: no data received for 0.1 s"
    with serve(name) as server:
        server.connect().sock.close()
        assert server.has_closed().reason
        with pytest.raises(ValueError, match=r"RFC 6455, 7\.4"), server.connect():
            server.call(server.connection.close, 1005)


def test_ping_with_a_pending_payload_raises(name: str) -> None:
    """Its pong could not be distinguished from the other one's."""
    with serve(name) as server, server.connect():
        server.call(server.connection.ping, b"once")
        with pytest.raises(ValueError, match="still unanswered"):
            server.call(server.connection.ping, b"once")


def test_unanswered_keepalive_pings_do_not_pile_up(name: str) -> None:
    """Only the last keepalive ping is remembered, however long a client sends data but no pong."""
    with serve(name, Limits(ping_interval=0.1, ping_timeout=60)) as server, server.connect() as client:
        for _ in range(5):
            assert client.read().opcode == PING
            client.send(frame(PONG, b"another payload"))
        assert len(server.connection._pings._sent) == 1  # type: ignore[attr-defined]


def test_discarded_data_is_read_in_small_pieces(name: str) -> None:
    """Walking over a large read of short frames would delay other connections."""
    with serve(name) as server, server.connect() as client:
        assert client.echo() == b"are you there?"
        server.call(server.connection.close)
        assert len(server.connection.get_buffer(-1)) <= 16 * 1024  # type: ignore[attr-defined]
        client.send(frame(BINARY, bytes(100_000)), *[frame(TEXT, b"x")] * 50_000, close(1000))
        assert client.ending()[1] == 1000
        assert server.has_closed().code == 1000


#: A clock that ticks every 0.125 s: 4 ticks from one ping to the next, 8 of silence until a client is closed.
CLOCK = Limits(ping_interval=0.5, ping_timeout=0.5)


@pytest.fixture(params=["TCP", "TLS", "Unix socket"])
def clocked(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[tuple[ServerUnderTest, Client]]:
    """A server whose clock the test advances, and a client with a small buffer that reads only what the test reads."""
    tls = request.param == "TLS"
    endpoint = Endpoint(port=0, tls=server_tls() if tls else None)
    if request.param == "Unix socket":
        endpoint = Endpoint(host=None, unix_path=tmp_path / "s")
    limits = Limits(ping_interval=0, max_send_buffer=64_000_000, close_timeout=0.2)
    with serve(name, limits, endpoint) as server, server.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        wrapped = client_tls().wrap_socket(sock, server_hostname="localhost") if tls else sock
        with Client(wrapped, upgrade_request()) as client:
            assert client.echo() == b"are you there?"
            yield server, client


def tick(server: ServerUnderTest, times: int = 1) -> None:
    """Let a keepalive clock tick, twice each time."""

    def check() -> None:
        clock = KeepaliveClock(asyncio.get_running_loop(), CLOCK, ())
        clock.stop()
        for _ in range(2 * times):
            clock.check(server.connection)  # type: ignore[arg-type]

    server.call(check)


def send_and_tick(server: ServerUnderTest, times: int) -> None:
    """Send a message before each tick."""
    for _ in range(times):
        server.call(server.connection.send, b"news")
        tick(server)


def test_keepalive_slow_reader_counts_as_alive(clocked: tuple[ServerUnderTest, Client]) -> None:
    """It cannot answer a ping that waits behind a large message until it has read the message."""
    server, client = clocked
    server.call(server.connection.send, bytes(12_000_000))
    tick(server, 2)
    progress = server.connection.send_progress  # type: ignore[attr-defined]
    missing, last = 10 + 12_000_000 + 6, b""
    while missing:
        seen = server.call(progress._delivered)
        while server.call(progress._delivered) == seen and missing:
            piece = client.sock.recv(65536)
            missing -= len(piece)
            last = (last + piece)[-6:]
        tick(server)
        assert server.connection.state is State.OPEN
    assert last[:2] == bytes([0x80 | PING, 4])
    assert server.connection.latency == 0.0
    client.send(frame(PONG, last[2:]))
    until(lambda: server.connection.latency)
    tick(server, 3)
    assert server.connection.state is State.OPEN


def test_keepalive_slow_reader_is_pinged_again(clocked: tuple[ServerUnderTest, Client]) -> None:
    """Without another ping, a client that only sends pongs would count as silent."""
    server, client = clocked
    size = 1_000_000
    server.call(server.connection.send, bytes(size))
    tick(server, 2)
    assert client.read().payload == bytes(size)
    client.send(frame(PONG, client.read().payload))
    until(lambda: server.connection.latency)
    server.call(server.connection.send, bytes(200_000))
    tick(server, 2)
    assert len(client.read().payload) == 200_000
    assert client.read().opcode == PING


def test_keepalive_stopped_reader_is_closed(clocked: tuple[ServerUnderTest, Client]) -> None:
    """It is closed even if the server keeps sending, because waiting bytes do not show that it is alive."""
    server, client = clocked
    server.call(server.connection.send, bytes(12_000_000))
    tick(server, 2)
    for _ in range(30):
        client.sock.recv(65536)
    with pytest.raises(ConnectionClosed):
        send_and_tick(server, 40)
    closed = server.has_closed()
    assert (closed.code, closed.reason) == (1011, "keepalive: no data received for 1 s")


def test_keepalive_accepted_ping_is_not_alive(clocked: tuple[ServerUnderTest, Client]) -> None:
    """The system of a hanging client still acknowledges bytes, also those of later messages."""
    server, _ = clocked
    with pytest.raises(ConnectionClosed, match="1011"):
        send_and_tick(server, 8)


def test_closed_listener_leaves_no_timer_and_no_task(name: str) -> None:
    """The event loop is as before."""

    async def scenario() -> None:
        transport = PROVIDERS[name].factory(make_context())
        server = ServerUnderTest(transport)
        server.loop = asyncio.get_running_loop()
        server.note_callback = lambda _: None  # type: ignore[method-assign]  # its thread is not running
        server.listener = await transport.listen(Endpoint(port=0), server, Limits(close_timeout=0.2))
        clients = await asyncio.gather(*[asyncio.to_thread(server.connect) for _ in range(3)])
        bare = server.socket()
        listener: Any = server.listener
        while len(listener.pending) != 1:
            await asyncio.sleep(0.005)
        await listener.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for client in clients:
            client.sock.close()
        bare.close()
        await asyncio.sleep(0)
        timers = [timer for timer in server.loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert timers == []

    asyncio.run(scenario())
