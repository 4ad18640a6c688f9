"""Part of the WebSocket contract suite: requests, good and bad upgrades, the limits on them, plain HTTP."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest

from zcli_core.testing.websocket.client import (
    ACCEPT,
    KEY,
    Client,
    HttpResponse,
    parse_response,
    read_all,
    reset,
    until,
    upgrade_request,
)
from zcli_core.testing.websocket.frames import CLOSE, TEXT, close, frame
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.testing.websocket.suite import Serve, WebSocketSuite
from zcli_core.websocket.contract import Limits, PlainResponse

GET = b"GET /health?verbose=1 HTTP/1.1\r\nHost: a\r\n\r\n"

#: What is no proper upgrade, and must not become a WebSocket (RFC 6455, 4.2.1).
BAD_UPGRADES = {
    "no Connection": upgrade_request(drop=["Connection"]),
    "no Upgrade": upgrade_request(drop=["Upgrade"]),
    "another Upgrade": upgrade_request("Upgrade: h2c", drop=["Upgrade"]),
    "no Host": upgrade_request(drop=["Host"]),
    "no key": upgrade_request(drop=["Sec-WebSocket-Key"]),
    "an empty key": upgrade_request("Sec-WebSocket-Key:", drop=["Sec-WebSocket-Key"]),
    "a short key": upgrade_request("Sec-WebSocket-Key: dG9vIHNob3J0", drop=["Sec-WebSocket-Key"]),
    "a key that is no base64": upgrade_request("Sec-WebSocket-Key: " + "*" * 24, drop=["Sec-WebSocket-Key"]),
    "two keys": upgrade_request(f"Sec-WebSocket-Key: {KEY}"),
    "a body": upgrade_request("Content-Length: 5"),
    "a chunked body": upgrade_request("Transfer-Encoding: chunked"),
    "POST": upgrade_request().replace(b"GET", b"POST"),
    "HTTP/1.0": upgrade_request(version="1.0"),
    "no version": upgrade_request(drop=["Sec-WebSocket-Version"]),
    "version 8": upgrade_request("Sec-WebSocket-Version: 8", drop=["Sec-WebSocket-Version"]),
}

#: What is no HTTP/1 at all.
NO_HTTP = {
    "nonsense": b"nonsense\r\n\r\n",
    "nothing": b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
    "a broken header": b"GET / HTTP/1.1\r\nHost: a\r\nbroken header\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


def ask(server: ServerUnderTest, request: bytes) -> HttpResponse:
    """The answer to a request, which must say its length and that the connection ends."""
    response = parse_response(server.ask(request))
    assert response.headers["connection"].lower() == "close"
    assert int(response.headers["content-length"]) == len(response.body)
    return response


def refused_for_its_size(server: ServerUnderTest, request: bytes, *statuses: int) -> None:
    """431; or, which a page in a browser can read, let in and closed at once with 1008. The core hears nothing."""
    before = len(server.requests)
    with server.socket() as sock:
        try:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has hung up while the request still came, which is as good
        answer = read_all(sock)
    if answer.startswith(b"HTTP/1.1 101 "):
        _, _, frames = answer.partition(b"\r\n\r\n")
        assert frames[:1] == bytes([0x80 | CLOSE])
        assert frames[2:4] == (1008).to_bytes(2, "big")
        assert [type(cause) for cause, _ in server.refusals] == [str], "Acceptor.refused was not called"
        server.refusals.clear()
    elif answer:  # empty: its answer was lost to a reset, for the client was still sending
        assert parse_response(answer).status in (statuses or (431,))
    assert len(server.requests) == before


class HandshakeTests(WebSocketSuite):
    """From the first byte to the answer."""

    # Requests -----------------------------------------------------------------------------------------------------

    def test_the_answer_to_the_rfcs_upgrade_is_the_rfcs(self, serve: Serve) -> None:
        """RFC 6455, 1.3: that key has that answer, and nothing is agreed on that was not offered."""
        with serve() as server, server.connect() as client:
            assert client.headers["sec-websocket-accept"] == ACCEPT
            assert client.headers["upgrade"].lower() == "websocket"
            assert client.headers["connection"].lower() == "upgrade"
            assert not {"sec-websocket-protocol", "sec-websocket-extensions"} & set(client.headers)

    def test_the_acceptor_sees_the_request_as_it_came(self, serve: Serve) -> None:
        """Path and query undecoded, every header, both addresses, no TLS."""
        headers = ("X-One: 1", "x-one: 2", "X-Latin: \xe9\xff", "Cookie: a=b")
        with serve() as server, server.connect(*headers, target="/a%20b/%C3%A9?token=x%26y&z") as client:
            (request,) = server.upgrades
            assert (request.method, request.path, request.query) == ("GET", "/a%20b/%C3%A9", "token=x%26y&z")
            assert (request.headers["X-ONE"], request.headers.get_all("x-one")) == ("1, 2", ["1", "2"])
            assert (request.headers["x-latin"], request.headers["cookie"]) == ("\xe9\xff", "a=b")
            assert request.remote_address == client.sock.getsockname()
            assert request.local_address == client.sock.getpeername()
            assert not request.tls
            assert "x%26y" not in repr(request)
            assert server.connection.request is request

    def test_the_query_is_what_follows_the_first_question_mark(self, serve: Serve) -> None:
        """It may hold more of them, and may be missing."""
        with serve() as server:
            for target in ("/", "/a?", "/a?b?c=d"):
                server.connect(target=target).sock.close()
            assert [(request.path, request.query) for request in server.upgrades] == [
                ("/", ""), ("/a", ""), ("/a", "b?c=d"),
            ]  # fmt: skip

    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("ws://chat.example:81/chat?a=b", ("/chat", "a=b")),
            ("HTTP://chat.example:81", ("/", "")),
            ("https://chat.example:81?a", ("/", "a")),
        ],
    )
    def test_a_target_may_be_a_whole_url(self, serve: Serve, target: str, expected: tuple[str, str]) -> None:
        """Every client may send it, and its authority replaces the Host header (RFC 9112, 3.2.2)."""
        with serve() as server, server.connect(target=target):
            (request,) = server.upgrades
            assert (request.path, request.query) == expected
            assert request.headers.get_all("host") == ["chat.example:81"]

    @pytest.mark.parametrize(
        ("value", "expected"), [("", ()), (",", ()), ("a, ", ("a",)), (" ,b,,a", ("b", "a")), (" a\t,\tb", ("a", "b"))]
    )
    def test_empty_subprotocols_are_ignored(self, serve: Serve, value: str, expected: tuple[str, ...]) -> None:
        """Some libraries send an empty list or a trailing comma (RFC 9110, 5.6.1.2)."""
        with serve() as server, server.connect(f"Sec-WebSocket-Protocol: {value}") as client:
            assert server.upgrades[0].subprotocols == expected
            assert client.echo() == b"are you there?"

    @pytest.mark.parametrize(
        "headers", [["Sec-WebSocket-Protocol: a, b"], ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"]]
    )
    def test_subprotocols_are_offered_in_the_clients_order(self, serve: Serve, headers: list[str]) -> None:
        """In one header or in two; the one that was chosen stands in the 101, with the decision's headers."""
        decide = lambda server, _: server.accept("b", (("X-Served-By", "me"),))  # noqa: E731
        with serve(decide=decide) as server, server.connect(*headers) as client:
            assert server.upgrades[0].subprotocols == ("a", "b")
            assert (client.headers["sec-websocket-protocol"], client.headers["x-served-by"]) == ("b", "me")
            assert server.connection.subprotocol == "b"

    def test_without_a_choice_no_subprotocol_is_agreed_on(self, serve: Serve) -> None:
        """The client decides whether it goes on (RFC 6455, 4.2.2)."""
        with serve() as server, server.connect("Sec-WebSocket-Protocol: a") as client:
            assert "sec-websocket-protocol" not in client.headers
            assert server.connection.subprotocol is None

    # Upgrades -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("drop", "headers"),
        [
            ("Connection", ["Connection: keep-alive, Upgrade"]),
            ("Connection", ["Connection: keep-alive", "Connection: upgrade"]),
            ("Upgrade", ["Upgrade: h2c, WebSocket"]),
            ("Upgrade", ["uPGRADE: WEBSOCKET"]),
            ("Host", ["Host: xn--bcher-kva.example"]),
            ("Host", ["Host: [::1]:8765"]),
            ("", ["Content-Length: 0"]),
            ("", ["X-Anything: \xe9\xff"]),
            ("", ["X-Empty:", "X-Spaced:   y  "]),
        ],
    )
    def test_an_upgrade_may_come_in_many_shapes(self, serve: Serve, drop: str, headers: list[str]) -> None:
        """Firefox sends two tokens in Connection; names are in any case."""
        request = upgrade_request(*headers, drop=[drop])
        with serve() as server, server.socket() as sock, Client(sock, request) as client:
            assert client.echo() == b"are you there?"

    @pytest.mark.parametrize("bad", BAD_UPGRADES.values(), ids=BAD_UPGRADES)
    def test_a_bad_upgrade_is_refused_and_never_decided_on(self, serve: Serve, bad: bytes) -> None:
        """By the transport, or, as no WebSocket was asked for, by ``Acceptor.http``: in either case with 4xx."""
        with serve() as server:
            assert 400 <= ask(server, bad).status < 500
            assert server.upgrades == []

    @pytest.mark.parametrize("version", ["", "8", "25", "13, 8", "x"])
    def test_another_version_is_told_which_one_is_spoken(self, serve: Serve, version: str) -> None:
        """RFC 6455, 4.4."""
        request = upgrade_request(f"Sec-WebSocket-Version: {version}", drop=["Sec-WebSocket-Version"])
        with serve() as server:
            response = ask(server, request)
            assert (response.status, response.headers["sec-websocket-version"]) == (426, "13")

    @pytest.mark.parametrize("bad", NO_HTTP.values(), ids=NO_HTTP)
    def test_what_is_no_http_is_refused_and_the_core_hears_nothing(self, serve: Serve, bad: bytes) -> None:
        """Scanners and lost clients are no concern of the core's; an answer is polite, silence will do."""
        with serve() as server:
            answer = server.ask(bad)
            assert not answer or parse_response(answer).status in (400, 426, 505)
            assert server.requests == []

    def test_what_a_client_sent_wrongly_is_not_repeated(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """A token may stand in a request that is no good: neither log nor answer quotes it."""
        caplog.set_level(logging.DEBUG)
        with serve() as server:
            for bad in (
                b"GET /?token=s3cret HTTP/x\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization Bearer s3cret\r\n\r\n",
                upgrade_request(target="/?token=s3cret", drop=["Sec-WebSocket-Key"]),
            ):
                assert b"s3cret" not in server.ask(bad)
        assert "s3cret" not in caplog.text

    @pytest.mark.parametrize("size", [1, 7, 100])
    def test_an_upgrade_in_small_pieces_is_as_good(self, serve: Serve, size: int) -> None:
        """TCP cuts where it likes."""
        data = upgrade_request()
        with serve() as server, server.socket() as sock:
            for at in range(0, len(data), size):
                sock.sendall(data[at : at + size])
            with Client(sock) as client:
                assert client.echo() == b"are you there?"

    def test_frames_right_behind_the_upgrade_are_answered(self, serve: Serve) -> None:
        """In order, before those that come later."""
        with serve() as server, server.connect(behind=frame(TEXT, b"early") + frame(TEXT, b"bird")) as client:
            assert [client.read_message(), client.read_message()] == [(TEXT, b"early"), (TEXT, b"bird")]
            assert client.echo() == b"are you there?"

    def test_one_stray_byte_behind_the_upgrade_harms_nobody(self, serve: Serve) -> None:
        """It is the first half of a header."""
        message = frame(TEXT, b"whole")
        with serve() as server, server.connect(behind=message[:1]) as client:
            client.send(message[1:])
            assert client.read_message() == (TEXT, b"whole")

    def test_a_close_frame_right_behind_the_upgrade_is_answered(self, serve: Serve) -> None:
        """The shortest connection there is."""
        with serve() as server, server.connect(behind=close(1000)) as client:
            assert client.close_code() == 1000

    # Limits -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [129, 3000])
    def test_too_many_headers_are_refused(self, serve: Serve, count: int) -> None:
        """By their number, and by their bytes."""
        with serve() as server:
            refused_for_its_size(server, upgrade_request(*[f"X-{at}: y" for at in range(count - 5)]))

    def test_as_many_headers_as_are_allowed_pass(self, serve: Serve) -> None:
        """The limit is the limit."""
        with serve() as server, server.connect(*[f"X-{at}: y" for at in range(128 - 5)]) as client:
            assert client.echo() == b"are you there?"

    @pytest.mark.parametrize("wanted", [0, 1])
    def test_max_header_bytes_passes_and_one_byte_more_is_refused(self, serve: Serve, wanted: int) -> None:
        """Counted from the first byte to the empty line."""
        limit = 3000
        missing = limit - len(upgrade_request("X: "))
        request = upgrade_request("X: " + "y" * (missing + wanted))
        with serve(Limits(max_header_bytes=limit)) as server:
            if wanted:
                refused_for_its_size(server, request)
            else:
                with server.socket() as sock, Client(sock, request) as client:
                    assert client.echo() == b"are you there?"

    @pytest.mark.parametrize(
        "request_", [upgrade_request, lambda *headers: GET[:-2] + headers[0].encode() + b"\r\n\r\n"]
    )
    @pytest.mark.parametrize("size", [20_000, 1_000_000, 9_000_000])
    def test_a_head_over_the_limit_is_refused(self, serve: Serve, request_: Any, size: int) -> None:
        """However far over it."""
        with serve() as server:
            refused_for_its_size(server, request_("X: " + "y" * size))

    def test_a_request_line_over_the_limit_is_refused(self, serve: Serve) -> None:
        """It is part of the head; 414 says it too."""
        with serve() as server:
            refused_for_its_size(server, upgrade_request(target="/" + "x" * 20_000), 414, 431)

    @pytest.mark.parametrize("sent", [b"", b"GET", upgrade_request()[:-2], b"\x16\x03\x01"])
    def test_who_does_not_finish_the_upgrade_is_dropped_after_open_timeout(
        self, serve: Serve, sent: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without a warning in the log; at most a 408 is said."""
        with serve(Limits(open_timeout=0.3)) as server:
            answer = server.ask(sent)
            assert not answer or parse_response(answer).status == 408
            assert server.requests == []
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []

    def test_one_byte_after_another_does_not_stretch_open_timeout(self, serve: Serve) -> None:
        """The deadline is one for the whole opening."""
        with serve(Limits(open_timeout=0.3)) as server, server.socket() as sock:
            sock.sendall(upgrade_request()[:-2] + b"X: ")

            def refused() -> bool:
                sock.settimeout(0.01)
                try:
                    sock.sendall(b"y")
                    return not sock.recv(100)
                except TimeoutError:
                    return False
                except OSError:
                    return True

            until(refused, "a client that drips its request was not dropped")
            assert server.requests == []

    @pytest.mark.parametrize("probe", ["connects", "resets", "half-closes", "sends nonsense and leaves"])
    def test_a_port_scanner_leaves_no_trace(self, serve: Serve, probe: str, caplog: pytest.LogCaptureFixture) -> None:
        """No traceback, no warning, and the next client is served."""
        with serve() as server:
            sock = server.socket()
            if probe == "resets":
                reset(sock)
            elif probe == "half-closes":
                sock.shutdown(1)
                assert read_all(sock) == b""
            elif probe == "sends nonsense and leaves":
                sock.sendall(b"\x00\x01\x02")
            sock.close()
            with server.connect() as client:
                assert client.echo() == b"are you there?"
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []

    # Plain HTTP ---------------------------------------------------------------------------------------------------

    def test_a_request_that_asks_for_no_websocket_is_the_cores_to_answer(self, serve: Serve) -> None:
        """With path, query, headers and addresses; status, headers and body go out as the core gave them."""
        with serve() as server:
            server.answer = PlainResponse(200, b"{}\n", (("Content-Type", "application/json"), ("X-A", "1")))
            response = ask(server, GET)
            assert (response.status, response.body) == (200, b"{}\n")
            assert (response.headers["content-type"], response.headers["x-a"]) == ("application/json", "1")
            (request,) = server.requests
            assert (request.method, request.path, request.query) == ("GET", "/health", "verbose=1")
            assert request.headers["host"] == "a"
            assert request.remote_address is not None
            assert request.remote_address[0] == "127.0.0.1"
            assert (request.tls, request.subprotocols, server.upgrades) == (False, (), [])

    @pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE"])
    def test_any_method_is_the_cores_to_answer(self, serve: Serve, method: str) -> None:
        """A health check may be asked for in more ways than one."""
        with serve() as server:
            assert ask(server, GET.replace(b"GET", method.encode())).status == 426
            assert server.requests[0].method == method

    def test_http_1_0_is_answered_too(self, serve: Serve) -> None:
        """Old load balancers ask so, without a Host."""
        with serve() as server:
            assert ask(server, b"GET /health HTTP/1.0\r\n\r\n").status == 426
            assert server.requests[0].path == "/health"

    def test_head_is_answered_without_a_body(self, serve: Serve) -> None:
        """With the length that GET would have had (RFC 9110, 9.3.2)."""
        with serve() as server:
            response = parse_response(server.ask(GET.replace(b"GET", b"HEAD")))
            assert (response.status, response.headers["content-length"], response.body) == (426, "15", b"")

    @pytest.mark.parametrize("status", [204, 404, 499, 503])
    def test_any_final_status_can_be_sent(self, serve: Serve, status: int) -> None:
        """Also one that has no name; 204 has no length (RFC 9110, 8.6)."""
        with serve() as server:
            server.answer = PlainResponse(status)
            response = parse_response(server.ask(GET))
            assert (response.status, "content-length" in response.headers) == (status, status != 204)

    def test_a_large_body_arrives_whole(self, serve: Serve) -> None:
        """Although the connection is closed right behind it, and the client reads late."""
        with serve() as server, server.socket() as sock:
            server.answer = PlainResponse(200, bytes(range(256)) * 20_000)
            sock.sendall(GET)
            until(lambda: server.requests)
            assert parse_response(read_all(sock)).body == server.answer.body

    def test_an_answer_that_raises_is_500_and_logged(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """What it raised is the log's, not the client's."""
        with serve() as server:
            server.answer = RuntimeError("of the test")
            response = ask(server, GET)
            assert (response.status, b"of the test" in response.body) == (500, False)
        assert [record for record in caplog.records if record.exc_info and record.levelno >= logging.ERROR]

    def test_a_header_that_would_split_the_answer_is_not_sent(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A line break in a name or value is the core's mistake: 500, and logged."""
        with serve() as server:
            for header in (("X", "a\r\nSet-Cookie: b"), ("X\nSet-Cookie: b", "a")):
                server.answer = PlainResponse(200, b"", (header,))
                response = ask(server, GET)
                assert (response.status, "set-cookie" in response.headers) == (500, False)
        assert [record for record in caplog.records if record.levelno >= logging.ERROR]
