"""One deadline for the whole call, whatever the time goes into; each of these servers would take a minute or more."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from zcli_core.comm.http import HttpClient
from zcli_core.testing.http.peer import ScriptedServer, after_request, answering, response

DEADLINE = 0.4
#: How late a loaded machine may be. What is tested would come a minute late.
GRACE = 8.0


def must_time_out(http: HttpClient, call: Callable[[], object]) -> None:
    started = time.monotonic()
    assert call() is None
    elapsed = time.monotonic() - started
    assert http.last_failure is not None
    assert http.last_failure.kind == "timeout", http.last_failure
    assert DEADLINE * 0.9 <= elapsed < DEADLINE + GRACE
    assert http.last_failure.elapsed == pytest.approx(elapsed, abs=1)


def test_a_server_that_says_nothing(http: HttpClient) -> None:
    with ScriptedServer(after_request(ScriptedServer.hold)) as server:
        must_time_out(http, lambda: http.get(server.url, timeout=DEADLINE))


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Trickle: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFF\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ],
    ids=["status", "header", "body", "chunk", "chunk size", "body without length"],
)
def test_a_server_that_trickles(http: HttpClient, beginning: bytes) -> None:
    def trickle(server: ScriptedServer, connection: socket.socket) -> None:
        connection.sendall(beginning)
        server.trickle(connection)

    with ScriptedServer(after_request(trickle)) as server:
        must_time_out(http, lambda: http.get(server.url, timeout=DEADLINE))


def test_a_server_that_trickles_compressed_bytes_that_decode_to_nothing(http: HttpClient) -> None:
    def trickle(server: ScriptedServer, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0")
        server.trickle(connection)  # the name of a file, which ends with a NUL that never comes

    with ScriptedServer(after_request(trickle)) as server:
        must_time_out(http, lambda: http.get(server.url, timeout=DEADLINE))


def test_a_server_that_never_stops_with_interim_answers(http: HttpClient) -> None:
    def trickle(server: ScriptedServer, connection: socket.socket) -> None:
        server.trickle(connection, b"HTTP/1.1 102 Processing\r\n\r\n")

    with ScriptedServer(after_request(trickle)) as server:
        must_time_out(http, lambda: http.get(server.url, timeout=DEADLINE))


def test_a_server_that_does_not_read_what_is_sent(http: HttpClient) -> None:
    def ignore(server: ScriptedServer, connection: socket.socket) -> None:
        server.closing.wait(60)

    with ScriptedServer(ignore) as server:
        must_time_out(http, lambda: http.post(server.url, data=bytes(64 * 1024 * 1024), timeout=DEADLINE))


def test_a_body_that_comes_slowly_from_the_caller(http: HttpClient, httpbin: str) -> None:
    def slow() -> Iterator[bytes]:
        for _ in range(1000):
            time.sleep(0.05)
            yield b"a"

    must_time_out(http, lambda: http.post(f"{httpbin}/post", data=slow(), timeout=DEADLINE))


def test_a_server_that_does_not_shake_hands(http: HttpClient) -> None:
    with ScriptedServer(ScriptedServer.hold) as server:
        must_time_out(http, lambda: http.get(server.url.replace("http:", "https:"), timeout=DEADLINE))


def test_a_connection_that_is_not_accepted(http: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        try:
            for _ in range(8):  # beyond the backlog, the system leaves connections waiting
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                fillers.append(filler)
            must_time_out(http, lambda: http.get(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=DEADLINE))
        finally:
            for filler in fillers:
                filler.close()


def test_a_name_server_that_does_not_answer(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def never(*_: object, **__: object) -> list[object]:
        ended.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    must_time_out(http, lambda: http.get("http://slow-to-resolve.example/", timeout=DEADLINE))
    ended.set()


def test_redirects_that_each_take_a_while(http: HttpClient) -> None:
    def slow_redirect(server: ScriptedServer, connection: socket.socket) -> None:
        while server.read_request(connection):
            server.closing.wait(0.15)
            connection.sendall(response(b"", "302 Found", "Location: /again"))

    with ScriptedServer(slow_redirect) as server:
        must_time_out(http, lambda: http.get(server.url, timeout=DEADLINE))


def test_the_timeout_of_the_configuration_applies(make_http: Callable[..., HttpClient]) -> None:
    http = make_http(timeout=DEADLINE)
    with ScriptedServer(after_request(ScriptedServer.hold)) as server:
        must_time_out(http, lambda: http.get(server.url))


def test_a_connection_that_timed_out_is_not_used_again(http: HttpClient) -> None:
    with ScriptedServer(after_request(ScriptedServer.hold)) as server:
        assert http.get(server.url, timeout=0.1) is None
        assert http.get(server.url, timeout=0.1) is None
        assert server.connections == 2


def test_an_unusually_long_timeout_is_no_error(http: HttpClient) -> None:
    with ScriptedServer(answering(response())) as server:
        assert http.get(server.url, timeout=1e300)
        assert http.get(server.url, timeout=10**400)
