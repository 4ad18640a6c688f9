"""The opening of a connection against a running server: good and bad upgrades, slow clients, scanners, decisions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_frames import TEXT, close, frame
from wsproto_server import KEY, Client, Frame, Server, read_all, until, upgrade_request

from zcli_core.contracts.websocket import Accept, Decision, Endpoint, HttpAnswer, Limits, Refuse, Request
from zcli_core.contracts.websocket_parts.frames import close_frame
from zcli_core.contracts.websocket_parts.upgrade import BadRequest, parse_head, split_head

SOON = Limits(open_timeout=0.3, close_timeout=0.3)


@pytest.fixture(scope="module")
def server() -> Any:
    with Server() as running:
        yield running


def status(answer: bytes) -> int:
    """The status of an answer, which must say its length and that the connection ends."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in head + b"\r\n"
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head + b"\r\n"
    return int(head.split(b" ")[1])


# Upgrades -------------------------------------------------------------------------------------------------------


def test_the_answer_to_the_upgrade_of_the_rfc_is_the_rfcs(server: Server) -> None:
    """RFC 6455, 1.3: that key has that answer."""
    with server.connect() as client:
        assert client.headers == {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        }


@pytest.mark.parametrize(
    ("drop", "headers"),
    [
        ("Connection", ["Connection: keep-alive, Upgrade"]),
        ("Connection", ["Connection: keep-alive", "Connection: upgrade"]),
        ("Upgrade", ["Upgrade: h2c, WebSocket"]),
        ("", ["Content-Length: 0"]),
        ("Host", ["Host: xn--bcher-kva.example"]),
        ("Host", ["Host: \xfc\xff"]),
        ("", ["X-Anything: \xe9\xff"]),
    ],
)
def test_an_upgrade_may_come_in_many_shapes(server: Server, drop: str, headers: list[str]) -> None:
    """Firefox sends two tokens in Connection; nothing outside ASCII gets a traceback."""
    answer = b""
    with server.socket() as sock:
        sock.sendall(upgrade_request(*headers, drop=[drop]))
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101 "), answer


@pytest.mark.parametrize(
    ("expected", "request_"),
    [
        (400, upgrade_request(drop=["Connection"])),
        (400, upgrade_request(drop=["Host"])),
        (400, upgrade_request(drop=["Sec-WebSocket-Key"])),
        (400, upgrade_request("Sec-WebSocket-Key:", drop=["Sec-WebSocket-Key"])),
        (400, upgrade_request("Sec-WebSocket-Key: dG9vIHNob3J0", drop=["Sec-WebSocket-Key"])),
        (400, upgrade_request(f"Sec-WebSocket-Key: {KEY}")),
        (400, upgrade_request("Sec-WebSocket-Key: \xe9\xe9\xe9\xe9", drop=["Sec-WebSocket-Key"])),
        (400, upgrade_request("Content-Length: 5")),
        (400, upgrade_request("Transfer-Encoding: chunked")),
        (400, upgrade_request("Sec-WebSocket-Protocol: a, a")),
        (400, upgrade_request("Sec-WebSocket-Protocol: \xe9")),
        (400, upgrade_request("Sec-WebSocket-Protocol: a,,b")),
        (426, upgrade_request(drop=["Sec-WebSocket-Version"])),
        (426, upgrade_request("Sec-WebSocket-Version: 8", drop=["Sec-WebSocket-Version"])),
        (426, upgrade_request(version="1.0")),
        (405, upgrade_request().replace(b"GET", b"POST")),
        (400, b"nonsense\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n"),
        (400, b"GET / HTTP/1.1\r\nbroken header\r\n\r\n"),
        (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, b"\r\n\r\n"),
    ],
)
def test_a_bad_upgrade_is_answered_and_never_decided_on(server: Server, expected: int, request_: bytes) -> None:
    """Whoever is no proper client is told so in HTTP; the core hears nothing of it."""
    before = len(server.requests)
    answer = server.ask(request_)
    assert status(answer) == expected, answer
    assert len(server.requests) == before
    if b"version 13" in answer:
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer


@pytest.mark.parametrize("size", [1, 7, 100])
def test_an_upgrade_in_small_pieces_is_as_good(server: Server, size: int) -> None:
    """TCP cuts where it likes."""
    data = upgrade_request()
    with server.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), size):
            sock.sendall(data[at : at + size])
        assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")


def test_frames_right_behind_the_upgrade_are_answered(server: Server) -> None:
    """A client need not wait for the 101 to be polite to its own user."""
    with server.connect(behind=frame(TEXT, b"early") + frame(TEXT, b"bird")) as client:
        assert [client.read(), client.read()] == [Frame(TEXT, b"early"), Frame(TEXT, b"bird")]
        assert client.echo() == b"are you there?"


def test_one_stray_byte_behind_the_upgrade_harms_nobody(server: Server) -> None:
    """It is the first half of a header."""
    message = frame(TEXT, b"whole")
    with server.connect(behind=message[:1]) as client:
        client.send(message[1:])
        assert client.read() == Frame(TEXT, b"whole")


# Limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10_000, 129])
def test_too_many_headers_are_431(server: Server, count: int) -> None:
    """By their number or by their bytes, before any of them is parsed."""
    assert status(server.ask(upgrade_request(*[f"X-{at}: y" for at in range(count - 5)]))) == 431


def test_as_many_headers_as_are_allowed_pass(server: Server) -> None:
    """The limit is the limit."""
    with server.connect(*[f"X-{at}: y" for at in range(128 - 5)]) as client:
        assert client.echo() == b"are you there?"


def test_a_head_over_the_limit_is_431_unless_it_is_an_upgrade(server: Server) -> None:
    """Only a page that asked for a WebSocket can read a close code; the core hears of neither."""
    long = "X: " + "y" * 1_000_000
    before = len(server.requests)
    assert status(server.ask(upgrade_request(long, drop=["Upgrade"]))) == 431
    answer = server.ask(upgrade_request(long))
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(close_frame(1008, "The request's head is over 16384 bytes."))
    assert status(server.ask(upgrade_request("X: " + "y" * 9_000_000))) == 431
    assert len(server.requests) == before


def test_a_head_that_never_ends_is_431(server: Server) -> None:
    """Read on for a while, and not kept."""
    with server.socket() as sock:
        with_headers = upgrade_request("X: " + "y" * 6_000_000)
        try:
            sock.sendall(with_headers[:-4])
        except OSError:
            return  # it has hung up already, which is as good
        assert status(read_all(sock)) == 431


@pytest.mark.parametrize("sent", [b"", b"GET", upgrade_request()[:-2], b"\x16\x03\x01"])
def test_who_does_not_finish_the_upgrade_is_dropped_after_open_timeout(sent: bytes, caplog: Any) -> None:
    """In silence: nothing in the log, nothing on the wire."""
    caplog.set_level(logging.DEBUG)
    with Server(SOON) as server:
        assert server.ask(sent) == b""
        assert until(lambda: not server.listener.openings)
    assert [record for record in caplog.records if record.name != "asyncio"] == []


def test_one_byte_after_another_does_not_stretch_open_timeout() -> None:
    """The deadline is one for the whole opening."""
    with Server(SOON) as server, server.socket() as sock:
        until(lambda: server.listener.openings)

        def drip() -> bool:
            try:
                sock.sendall(b"X")
            except OSError:
                return True
            return not server.listener.openings

        until(drip)


@pytest.mark.parametrize("probe", ["connects", "resets", "half-closes", "sends nonsense and leaves"])
def test_a_port_scanner_leaves_no_trace(server: Server, probe: str, caplog: Any) -> None:
    """No traceback, no connection, no warning."""
    sock = server.socket()
    if probe == "resets":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    elif probe == "half-closes":
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
    elif probe == "sends nonsense and leaves":
        sock.sendall(b"\x00\x01\x02")
    sock.close()
    with server.connect() as client:
        assert client.echo() == b"are you there?"
    assert until(lambda: not server.listener.openings)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_what_a_client_sent_wrongly_is_not_repeated(server: Server, caplog: Any) -> None:
    """A token may stand in a request that is no good."""
    caplog.set_level(logging.DEBUG)
    for bad in (b"GET /?token=s3cret HTTP/x\r\n\r\n", b"GET / HTTP/1.1\r\nAuthorization Bearer s3cret\r\n\r\n"):
        assert b"s3cret" not in server.ask(bad)
    assert "s3cret" not in caplog.text


# Plain HTTP -----------------------------------------------------------------------------------------------------


def test_a_plain_get_is_the_cores_to_answer(server: Server) -> None:
    """Path, query and headers arrive; the answer goes out as it was given."""
    answer = server.ask(b"GET /health?verbose=1 HTTP/1.1\r\nHost: a\r\nX-B: 1\r\nX-B: 2\r\n\r\n")
    assert (status(answer), answer.endswith(b"\r\n\r\nupgrade, please")) == (426, True)
    request = server.requests[-1]
    assert (request.method, request.path, request.query, request.tls) == ("GET", "/health", "verbose=1", False)
    assert (request.headers["x-b"], request.headers.get_all("X-B")) == ("1, 2", ["1", "2"])
    assert request.remote_address[0] == "127.0.0.1"  # type: ignore[index]
    assert request.local_address[1] == server.port  # type: ignore[index]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_head_is_answered_without_a_body(server: Server, version: bytes) -> None:
    """With the length that GET would have had."""
    answer = server.ask(b"HEAD / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"Content-Length: 15\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("number", "line"), [(200, b"200 OK"), (204, b"204 No Content"), (499, b"499 "), (99, b"500 "), (700, b"500 ")]
)
def test_any_status_of_a_final_answer_can_be_sent(number: int, line: bytes, caplog: Any) -> None:
    """Also one that Python has no name for; what is no such status is the core's mistake, logged and answered."""
    with Server() as server:
        server.answer = HttpAnswer(number)
        answer = server.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + line)
    assert (b"Content-Length" in answer) == (number != 204)
    assert ("Traceback" in caplog.text) == (line == b"500 ")


def test_a_header_that_would_split_the_answer_is_not_sent(caplog: Any) -> None:
    """A name or value with a line break is refused, whoever put it there."""
    with Server() as server:
        server.answer = HttpAnswer(200, b"", (("X", "a\r\nSet-Cookie: b"),))
        assert status(server.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")) == 500
    assert "cannot be sent" in caplog.text


# Decisions ------------------------------------------------------------------------------------------------------


def later(decision: Decision) -> Any:
    async def decide() -> Decision:
        await asyncio.sleep(0)
        return decision

    return decide()


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_a_refusal_is_a_101_and_a_close_frame_that_a_page_can_read(at_once: bool) -> None:
    """No message is taken before it, no connection is made."""
    refuse = Refuse(1008, "no")
    with Server(decide=lambda *_: refuse if at_once else later(refuse)) as server:
        with server.connect(behind=frame(TEXT, b"let me in")) as client:
            assert client.ending() == ([], 1008, "no")
        assert (server.connections, server.messages) == ([], [])


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_a_decision_may_be_a_plain_answer(at_once: bool) -> None:
    """As ``refuse_with: http`` wants it."""
    no = HttpAnswer(403, b"no")
    with Server(decide=lambda *_: no if at_once else later(no)) as server:
        assert status(server.ask(upgrade_request())) == 403


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
@pytest.mark.parametrize("bad", [Accept, Refuse, "header", "status", "raise"])
def test_a_decision_that_cannot_be_carried_out_is_500_and_one_traceback(bad: Any, at_once: bool, caplog: Any) -> None:
    """A subprotocol that was not offered, a header that cannot be sent, an exception."""

    def decision(server: Server) -> Decision:
        if bad is Accept:
            return Accept(server.opened, "not-offered")
        if bad is Refuse:
            return Refuse(1008, "", "not-offered")
        if bad == "header":
            return Accept(server.opened, headers=(("X", "\n"),))
        if bad == "status":
            return HttpAnswer(1000)
        raise RuntimeError("of the test")

    async def decide_later(server: Server) -> Decision:
        await asyncio.sleep(0)
        return decision(server)

    with Server(decide=lambda server, _: decision(server) if at_once else decide_later(server)) as server:
        assert status(server.ask(upgrade_request())) == 500
        assert server.connections == []
    assert caplog.text.count("Traceback") == 1


def test_a_receiver_that_cannot_be_made_closes_with_1011(caplog: Any) -> None:
    """The client has its 101 already, so a close frame says it."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("of the test")

    with Server(receiver=fail) as server, server.connect() as client:
        client.send(close(1011))
        assert client.close_code() == 1011
    assert caplog.text.count("Traceback") == 1


def test_subprotocol_and_headers_of_a_decision_stand_in_the_101() -> None:
    """And the connection knows the subprotocol."""
    with Server(decide=lambda server, _: Accept(server.opened, "b", (("X-Served-By", "me"),))) as server:
        with server.connect("Sec-WebSocket-Protocol: a, b") as client:
            assert client.headers["sec-websocket-protocol"] == "b"
            assert client.headers["x-served-by"] == "me"
        assert server.requests[0].subprotocols == ("a", "b")
        assert until(lambda: server.connections)[0].subprotocol == "b"


class Undecided:
    """Decides when it is told to; notes what becomes of the decision."""

    def __init__(self) -> None:
        self.outcome = "asked for"

    async def decide(self, server: Server) -> Decision:
        self.outcome = "waiting"
        self.event = asyncio.Event()
        try:
            await self.event.wait()
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        self.outcome = "decided"
        return Accept(server.opened)

    def __call__(self, server: Server, _: Request) -> Any:
        return self.decide(server)


def test_what_comes_during_a_decision_is_kept_and_answered_in_order() -> None:
    """Up to a bound: the rest stays with TCP."""
    undecided = Undecided()
    messages = [b"%06d" % at + b"x" * 1000 for at in range(200)]
    with Server(decide=undecided) as server, server.socket() as sock:
        sock.sendall(upgrade_request() + b"".join(frame(TEXT, message) for message in messages))
        until(lambda: undecided.outcome == "waiting")
        (opening,) = server.listener.openings
        until(lambda: len(opening._buffer) > 16 * 1024)
        for _ in range(20):  # whatever else is on the way gets its chance to pile up
            server.call(lambda: None)
        assert len(opening._buffer) <= 32 * 1024 + 1024
        server.call(undecided.event.set)
        client = object.__new__(Client)
        client.sock, client._buffer = sock, b""
        while b"\r\n\r\n" not in client._buffer:
            client._receive()
        client._buffer = client._buffer.partition(b"\r\n\r\n")[2]
        assert [client.read().payload for _ in messages] == messages


@pytest.mark.parametrize("way", ["closes", "resets"])
def test_a_decision_is_cancelled_when_its_client_leaves(way: str) -> None:
    """Nobody waits for it any more."""
    undecided = Undecided()
    with Server(decide=undecided) as server:
        sock = server.socket()
        sock.sendall(upgrade_request())
        until(lambda: undecided.outcome == "waiting")
        if way == "resets":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        until(lambda: undecided.outcome == "cancelled")
        assert server.connections == []


def test_a_decision_that_takes_too_long_is_cancelled_and_refused_with_1011() -> None:
    """``open_timeout`` covers it too."""
    undecided = Undecided()
    with Server(SOON, decide=undecided) as server, server.connect() as client:
        assert client.ending() == ([], 1011, "no decision within the open timeout")
        assert undecided.outcome == "cancelled"


def test_a_decision_that_will_not_be_cancelled_is_not_waited_for() -> None:
    """Its client is dropped after ``close_timeout``."""

    async def stubborn(server: Server) -> Decision:
        end = time.monotonic() + 60
        while not server.listener.stopped and time.monotonic() < end:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
        return Accept(server.opened)

    with Server(SOON, decide=lambda server, _: stubborn(server)) as server:
        assert server.ask(upgrade_request()) == b""
        assert server.connections == []


def test_a_listener_that_stops_drops_who_is_undecided() -> None:
    """Also one whose decision has not even begun."""
    undecided = Undecided()
    with Server(decide=undecided) as server, server.socket() as sock:
        sock.sendall(upgrade_request())
        until(lambda: undecided.outcome == "waiting")
        server.call(server.listener.stop_accepting)
        assert read_all(sock) == b""
        until(lambda: undecided.outcome == "cancelled")


# Places to listen -----------------------------------------------------------------------------------------------


def test_a_port_is_free_at_once_when_the_listener_stops() -> None:
    """While its connections are still there."""
    with Server() as server, server.connect() as client:
        port = server.port
        server.call(server.listener.stop_accepting)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        with Server(endpoint=Endpoint(port=port)) as other, other.connect() as another:
            assert another.echo() == client.echo() == b"are you there?"


def test_a_port_in_use_is_an_oserror() -> None:
    """The core says it in a sentence."""
    with Server() as server, pytest.raises(OSError, match="in use"), Server(endpoint=Endpoint(port=server.port)):
        pass


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the system has no SO_REUSEPORT")
def test_two_listeners_share_a_port_that_both_asked_to_reuse() -> None:
    """As two processes would."""
    shared = Endpoint(port=0, reuse_port=True)
    with Server(endpoint=shared) as one, Server(endpoint=replace(shared, port=one.port)) as two:
        for _ in range(200):
            with one.connect() as client:
                assert client.echo() == b"are you there?"
            if one.connections and two.connections:
                break
        assert one.connections
        assert two.connections


def test_a_unix_socket_serves_and_is_removed(tmp_path: Path) -> None:
    """It has no addresses."""
    path = tmp_path / "s"
    with Server(endpoint=Endpoint(host=None, port=0, unix_path=path)) as server:
        with server.connect() as client:
            assert client.echo() == b"are you there?"
        assert server.listener.addresses == []
        assert server.requests[0].remote_address is None
    assert not path.exists()


# Anything at all ------------------------------------------------------------------------------------------------

GOOD_LINES = [*upgrade_request().split(b"\r\n"), b"Sec-WebSocket-Protocol: a, b", b" folded", b"Transfer-Encoding: x"]
lines = st.sampled_from(GOOD_LINES) | st.binary(max_size=40)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines, max_size=12).map(b"\r\n".join) | st.binary(max_size=200))
def test_any_bytes_make_a_request_or_a_bad_request(data: bytes) -> None:
    """The parser of upgrades raises nothing else."""
    try:
        parts = split_head(data + b"\r\n\r\n", Limits(max_header_bytes=300))
        assert parts is not None
        request, _ = parse_head(parts[0], None, None, False)
        assert isinstance(request, Request)
    except BadRequest:
        pass
