"""Contract suite, part: requests, valid and invalid upgrades, the limits on them, plain HTTP."""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import pytest

from zcli_core.testing.certificates import client_tls, server_tls
from zcli_core.testing.websocket.client import (
    ACCEPT,
    KEY,
    PATIENCE,
    Client,
    ParsedResponse,
    parse_response,
    read_all,
    reset,
    until,
    upgrade_request,
)
from zcli_core.testing.websocket.frames import CLOSE, TEXT, close, frame
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.testing.websocket.suite import Serve, WebSocketSuite, requires
from zcli_core.websocket.contract import Capability, Endpoint, Limits, PlainResponse

GET = b"GET /health?verbose=1 HTTP/1.1\r\nHost: a\r\n\r\n"

#: Invalid upgrades, which must not open a WebSocket (RFC 6455, 4.2.1).
BAD_UPGRADES = {
    "no Connection": upgrade_request(drop=["Connection"]),
    "no Upgrade": upgrade_request(drop=["Upgrade"]),
    "another Upgrade": upgrade_request("Upgrade: h2c", drop=["Upgrade"]),
    "no Host": upgrade_request(drop=["Host"]),
    "no key": upgrade_request(drop=["Sec-WebSocket-Key"]),
    "an empty key": upgrade_request("Sec-WebSocket-Key:", drop=["Sec-WebSocket-Key"]),
    "a short key": upgrade_request("Sec-WebSocket-Key: dG9vIHNob3J0", drop=["Sec-WebSocket-Key"]),
    "a key that is not base64": upgrade_request("Sec-WebSocket-Key: " + "*" * 24, drop=["Sec-WebSocket-Key"]),
    "two keys": upgrade_request(f"Sec-WebSocket-Key: {KEY}"),
    "a body": upgrade_request("Content-Length: 5"),
    "a chunked body": upgrade_request("Transfer-Encoding: chunked"),
    "POST": upgrade_request().replace(b"GET", b"POST"),
    "HTTP/1.0": upgrade_request(version="1.0"),
    "no version": upgrade_request(drop=["Sec-WebSocket-Version"]),
    "version 8": upgrade_request("Sec-WebSocket-Version: 8", drop=["Sec-WebSocket-Version"]),
}

#: Data that is not HTTP/1.
NO_HTTP = {
    "nonsense": b"nonsense\r\n\r\n",
    "nothing": b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
    "a broken header": b"GET / HTTP/1.1\r\nHost: a\r\nbroken header\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


def ask(server: ServerUnderTest, request: bytes) -> ParsedResponse:
    """Return the response to a request; it must have a length and end the connection."""
    response = parse_response(server.ask(request))
    assert response.headers["connection"].lower() == "close"
    assert int(response.headers["content-length"]) == len(response.body)
    return response


def refused_for_its_size(server: ServerUnderTest, request: bytes, *statuses: int) -> None:
    """Check for status 431 or, readable by a browser's page, a close with 1008. The core gets no upgrade."""
    before = len(server.requests)
    with server.socket() as sock:
        try:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the server has closed while the request was being sent, which is allowed
        received = read_all(sock)
    if received.startswith(b"HTTP/1.1 101 "):
        _, _, frames = received.partition(b"\r\n\r\n")
        assert frames[:1] == bytes([0x80 | CLOSE])
        assert frames[2:4] == (1008).to_bytes(2, "big")
        assert [type(cause) for cause, _ in server.refusals] == [str], "Acceptor.refused was not called"
        server.refusals.clear()
    elif received:  # empty: a reset has dropped the response, because the client was still sending
        assert parse_response(received).status in (statuses or (431,))
    assert len(server.requests) == before


class HandshakeTests(WebSocketSuite):
    """From the first byte to the response."""

    # Requests -----------------------------------------------------------------------------------------------------

    def test_upgrade_of_the_rfc_gets_its_response(self, serve: Serve) -> None:
        """The key of RFC 6455, 1.3 gets the response of the RFC, without anything that was not offered."""
        with serve() as server, server.connect() as client:
            assert client.headers["sec-websocket-accept"] == ACCEPT
            assert client.headers["upgrade"].lower() == "websocket"
            assert client.headers["connection"].lower() == "upgrade"
            assert not {"sec-websocket-protocol", "sec-websocket-extensions"} & set(client.headers)

    def test_request_is_passed_unchanged(self, serve: Serve) -> None:
        """The acceptor gets path and query undecoded, every header, both addresses, no TLS, and perhaps the time."""
        began = time.monotonic()
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
            assert request.accepted_at is None or began <= request.accepted_at <= time.monotonic()

    def test_query_begins_after_the_first_question_mark(self, serve: Serve) -> None:
        """The query may contain more question marks, and may be missing."""
        with serve() as server:
            for target in ("/", "/a?", "/a?b?c=d"):
                server.connect(target=target).sock.close()
            assert [(request.path, request.query) for request in server.upgrades] == [
                ("/", ""), ("/a", ""), ("/a", "b?c=d"),
            ]  # fmt: skip

    @requires(Capability.HANDSHAKE)
    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("ws://chat.example:81/chat?a=b", ("/chat", "a=b")),
            ("HTTP://chat.example:81", ("/", "")),
            ("https://chat.example:81?a", ("/", "a")),
        ],
    )
    def test_target_can_be_a_whole_url(self, serve: Serve, target: str, expected: tuple[str, str]) -> None:
        """Any client may send it, and its authority replaces the Host header (RFC 9112, 3.2.2)."""
        with serve() as server, server.connect(target=target):
            (request,) = server.upgrades
            assert (request.path, request.query) == expected
            assert request.headers.get_all("host") == ["chat.example:81"]

    @requires(Capability.HANDSHAKE, value=["", ","])
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
    def test_subprotocols_keep_the_clients_order(self, serve: Serve, headers: list[str]) -> None:
        """They may be in one header or in two; the 101 has the chosen one and the decision's headers."""
        decide = lambda server, _: server.accept("b", (("X-Served-By", "me"),))  # noqa: E731
        with serve(decide=decide) as server, server.connect(*headers) as client:
            assert server.upgrades[0].subprotocols == ("a", "b")
            assert (client.headers["sec-websocket-protocol"], client.headers["x-served-by"]) == ("b", "me")
            assert server.connection.subprotocol == "b"

    def test_no_chosen_subprotocol_sends_no_header(self, serve: Serve) -> None:
        """The client then decides whether to go on (RFC 6455, 4.2.2)."""
        with serve() as server, server.connect("Sec-WebSocket-Protocol: a") as client:
            assert "sec-websocket-protocol" not in client.headers
            assert server.connection.subprotocol is None

    # Upgrades -----------------------------------------------------------------------------------------------------

    @requires(Capability.HANDSHAKE, headers=[["Upgrade: h2c, WebSocket"]])
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
    def test_upgrade_variants_are_accepted(self, serve: Serve, drop: str, headers: list[str]) -> None:
        """Firefox sends two tokens in Connection, and names may be in any case."""
        request = upgrade_request(*headers, drop=[drop])
        with serve() as server, server.socket() as sock, Client(sock, request) as client:
            assert client.echo() == b"are you there?"

    @requires(
        Capability.HANDSHAKE, bad=[BAD_UPGRADES[name] for name in ("no Host", "a body", "a chunked body", "HTTP/1.0")]
    )
    @pytest.mark.parametrize("bad", BAD_UPGRADES.values(), ids=BAD_UPGRADES)
    def test_invalid_upgrade_is_refused_with_4xx(self, serve: Serve, bad: bytes) -> None:
        """The transport or ``Acceptor.http`` responds; ``Acceptor.upgrade`` is not called."""
        with serve() as server:
            assert 400 <= ask(server, bad).status < 500
            assert server.upgrades == []

    @requires(Capability.HANDSHAKE)
    @pytest.mark.parametrize("version", ["", "8", "25", "13, 8", "x"])
    def test_other_version_gets_426_and_the_supported_one(self, serve: Serve, version: str) -> None:
        """RFC 6455, 4.4."""
        request = upgrade_request(f"Sec-WebSocket-Version: {version}", drop=["Sec-WebSocket-Version"])
        with serve() as server:
            response = ask(server, request)
            assert (response.status, response.headers["sec-websocket-version"]) == (426, "13")

    @requires(Capability.HANDSHAKE, bad=[NO_HTTP["HTTP/2"]])
    @pytest.mark.parametrize("bad", NO_HTTP.values(), ids=NO_HTTP)
    def test_invalid_http_is_not_passed_to_the_core(self, serve: Serve, bad: bytes) -> None:
        """The transport responds with an error or closes the connection."""
        with serve() as server:
            received = server.ask(bad)
            assert not received or parse_response(received).status in (400, 426, 505)
            assert server.requests == []

    def test_invalid_request_is_not_quoted(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """An invalid request may contain a token, so neither log nor response quotes it."""
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
    def test_upgrade_in_small_pieces_is_accepted(self, serve: Serve, size: int) -> None:
        """TCP may split the request anywhere."""
        data = upgrade_request()
        with serve() as server, server.socket() as sock:
            for at in range(0, len(data), size):
                sock.sendall(data[at : at + size])
            with Client(sock) as client:
                assert client.echo() == b"are you there?"

    @requires(Capability.EARLY_DATA)
    def test_frames_right_after_the_upgrade_are_handled(self, serve: Serve) -> None:
        """They are handled in order, before those that come later."""
        with serve() as server, server.connect(behind=frame(TEXT, b"early") + frame(TEXT, b"bird")) as client:
            assert [client.read_message(), client.read_message()] == [(TEXT, b"early"), (TEXT, b"bird")]
            assert client.echo() == b"are you there?"

    @requires(Capability.EARLY_DATA)
    def test_one_byte_after_the_upgrade_is_kept(self, serve: Serve) -> None:
        """It is the first half of a frame's header."""
        message = frame(TEXT, b"whole")
        with serve() as server, server.connect(behind=message[:1]) as client:
            client.send(message[1:])
            assert client.read_message() == (TEXT, b"whole")

    @requires(Capability.EARLY_DATA)
    def test_close_frame_right_after_the_upgrade_ends(self, serve: Serve) -> None:
        """The shortest possible connection ends with both close frames."""
        with serve() as server, server.connect(behind=close(1000)) as client:
            assert client.close_code() == 1000

    # Limits -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [129, 3000])
    def test_too_many_headers_are_refused(self, serve: Serve, count: int) -> None:
        """The limits are the number of headers and their bytes."""
        with serve() as server:
            refused_for_its_size(server, upgrade_request(*[f"X-{at}: y" for at in range(count - 5)]))

    def test_max_headers_is_accepted(self, serve: Serve) -> None:
        """A request with exactly ``max_headers`` headers is accepted."""
        with serve() as server, server.connect(*[f"X-{at}: y" for at in range(128 - 5)]) as client:
            assert client.echo() == b"are you there?"

    @requires(Capability.EXACT_LIMITS, wanted=[1])
    @pytest.mark.parametrize("wanted", [0, 1])
    def test_max_header_bytes_is_exact(self, serve: Serve, wanted: int) -> None:
        """The head counts from the first byte to the empty line; one byte more is refused."""
        limit = 3000
        missing = limit - len(upgrade_request("X: "))
        request = upgrade_request("X: " + "y" * (missing + wanted))
        with serve(Limits(max_header_bytes=limit)) as server:
            if wanted:
                refused_for_its_size(server, request)
            else:
                with server.socket() as sock, Client(sock, request) as client:
                    assert client.echo() == b"are you there?"

    @requires(Capability.EXACT_LIMITS)
    @pytest.mark.parametrize(
        "request_", [upgrade_request, lambda *headers: GET[:-2] + headers[0].encode() + b"\r\n\r\n"]
    )
    @pytest.mark.parametrize("size", [20_000, 1_000_000, 9_000_000])
    def test_head_over_the_limit_is_refused(self, serve: Serve, request_: Any, size: int) -> None:
        """It is refused however far it is over the limit."""
        with serve() as server:
            refused_for_its_size(server, request_("X: " + "y" * size))

    def test_request_line_over_the_limit_is_refused(self, serve: Serve) -> None:
        """The request line is a part of the head; status 414 is allowed too."""
        with serve() as server:
            refused_for_its_size(server, upgrade_request(target="/" + "x" * 20_000), 414, 431)

    @requires(Capability.PENDING_CONNECTIONS)
    @pytest.mark.parametrize("sent", [b"", b"GET", upgrade_request()[:-2], b"\x16\x03\x01"])
    def test_unfinished_upgrade_ends_after_open_timeout(
        self, serve: Serve, sent: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log has no warning, and the response is 408 or none."""
        with serve(Limits(open_timeout=0.3)) as server:
            received = server.ask(sent)
            assert not received or parse_response(received).status == 408
            assert server.requests == []
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []

    @requires(Capability.PENDING_CONNECTIONS)
    def test_slow_upgrade_ends_after_open_timeout(self, serve: Serve) -> None:
        """One deadline covers the whole handshake, so single bytes do not extend it."""
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
    def test_port_scan_logs_nothing(self, serve: Serve, probe: str, caplog: pytest.LogCaptureFixture) -> None:
        """There is no traceback and no warning, and the next client is served."""
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

    def test_plain_request_gets_the_cores_response(self, serve: Serve) -> None:
        """The core gets path, query, headers and addresses; its status, headers and body are sent unchanged."""
        with serve() as server:
            server.http_response = PlainResponse(200, b"{}\n", (("Content-Type", "application/json"), ("X-A", "1")))
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
    def test_plain_request_can_have_any_method(self, serve: Serve, method: str) -> None:
        """A health check may use any method."""
        with serve() as server:
            assert ask(server, GET.replace(b"GET", method.encode())).status == 426
            assert server.requests[0].method == method

    def test_http_1_0_gets_a_response(self, serve: Serve) -> None:
        """Old load balancers send HTTP/1.0 without a Host header."""
        with serve() as server:
            assert ask(server, b"GET /health HTTP/1.0\r\n\r\n").status == 426
            assert server.requests[0].path == "/health"

    def test_head_gets_no_body(self, serve: Serve) -> None:
        """The length is that of the response to GET (RFC 9110, 9.3.2)."""
        with serve() as server:
            response = parse_response(server.ask(GET.replace(b"GET", b"HEAD")))
            assert (response.status, response.headers["content-length"], response.body) == (426, "15", b"")

    @pytest.mark.parametrize("status", [204, 404, 499, 503])
    def test_any_final_status_can_be_sent(self, serve: Serve, status: int) -> None:
        """A status may have no standard name; 204 has no length (RFC 9110, 8.6)."""
        with serve() as server:
            server.http_response = PlainResponse(status)
            response = parse_response(server.ask(GET))
            assert (response.status, "content-length" in response.headers) == (status, status != 204)

    def test_large_body_arrives_whole(self, serve: Serve) -> None:
        """The connection is closed right after the body, and the client reads late."""
        with serve() as server, server.socket() as sock:
            server.http_response = PlainResponse(200, bytes(range(256)) * 20_000)
            sock.sendall(GET)
            until(lambda: server.requests)
            assert parse_response(read_all(sock)).body == server.http_response.body

    @pytest.mark.parametrize("tls", [False, True])
    def test_large_body_reaches_a_slow_reader(self, serve: Serve, tls: bool) -> None:
        """A client that reads the body for longer than ``close_timeout`` gets all of it."""
        limits = Limits(open_timeout=PATIENCE, close_timeout=0.3)
        endpoint = Endpoint(port=0, tls=server_tls() if tls else None)
        with serve(limits, endpoint) as server, server.socket() as bare:
            server.http_response = PlainResponse(200, bytes(range(256)) * 20_000)
            with client_tls().wrap_socket(bare, server_hostname="localhost") if tls else bare as sock:
                sock.sendall(GET)
                until(lambda: server.requests)
                time.sleep(0.5)  # the client is slow
                assert parse_response(read_all(sock)).body == server.http_response.body

    def test_http_raising_is_500_and_logged(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """The log has the error, and the client does not get it."""
        with serve() as server:
            server.http_response = RuntimeError("of the test")
            response = ask(server, GET)
            assert (response.status, b"of the test" in response.body) == (500, False)
        assert [record for record in caplog.records if record.exc_info and record.levelno >= logging.ERROR]

    def test_header_with_line_break_is_500_and_logged(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """A line break in a name or value is an error of the core."""
        with serve() as server:
            for header in (("X", "a\r\nSet-Cookie: b"), ("X\nSet-Cookie: b", "a")):
                server.http_response = PlainResponse(200, b"", (header,))
                response = ask(server, GET)
                assert (response.status, "set-cookie" in response.headers) == (500, False)
        assert [record for record in caplog.records if record.levelno >= logging.ERROR]
