"""Reading responses with the transport urllib3, as far as transports may differ."""

from __future__ import annotations

import socket
import time

import pytest
from slow_resolver import SLOW_HOST, slow_resolver
from zcli_urllib3.transport import Urllib3Transport

from zcli_core.config.sections import Http
from zcli_core.http.client import HttpClient
from zcli_core.http.contract import Headers, HttpRequest, Url
from zcli_core.testing.http.peer import ScriptedServer, responding


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "abc"),
        (b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 2\r\n\r\nok", "not a header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n" + b"a" * 10, "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless", "before the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "before the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip", "Content-Encoding"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_protocol_failure_names_the_cause(http: HttpClient, raw: bytes, why: str) -> None:
    """The contract suite tests that each of these fails."""
    with ScriptedServer(responding(raw, keep_open=False)) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "protocol"
    assert why in http.last_failure.message


def test_chunk_extension_too_long_fails(http: HttpClient) -> None:
    """The call ends as soon as the line is too long."""
    sent, most = 0, 100_000_000

    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        nonlocal sent
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;" + b"x" * 100_000 + b"\r\n")
        while sent < most:  # the client reads no more than the buffers of the system hold
            sent += connection.send(bytes(65536))

    with ScriptedServer(handle) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "protocol"
    assert "a line of its chunked body is too long" in http.last_failure.message
    assert sent < most


def test_chunk_line_too_long_fails_in_one_piece(http: HttpClient) -> None:
    """The limit also holds for a line that is received with its end."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    short, long = (raw + b"2;" + b"x" * size + b"\r\nok\r\n0\r\n\r\n" for size in (60_000, 70_000))
    with ScriptedServer(responding(short)) as server:
        assert http.get(server.url) is not None
    with ScriptedServer(responding(long)) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert "a line of its chunked body is too long" in http.last_failure.message


def test_slow_resolver_times_out(http: HttpClient) -> None:
    """The call does not wait for a resolver that does not return."""
    with slow_resolver():
        assert http.get(f"http://{SLOW_HOST}/", timeout=0.1) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "timeout"
    assert f"looking up the address of {SLOW_HOST}" in http.last_failure.message


def test_request_with_a_line_break_is_not_sent(http: HttpClient) -> None:
    """An unchecked header field cannot add another request."""
    with ScriptedServer(responding(b"HTTP/1.1 200 OK\r\n\r\n")) as server:
        request = HttpRequest("GET", Url("http", "127.0.0.1", server.port, "/"), Headers([("X", "1\r\nY: 2")]))
        transport = Urllib3Transport(Http())
        with pytest.raises(ValueError, match="line break"):
            transport.send(request, time.monotonic() + 10, 1000)
        transport.close()
        assert server.requests == []
