"""Connections: shared by threads, kept alive, replaced when stale, left alone after a fork, closed in the end."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from http_servers import RawServer, answering, reset, response, wait_until

from zcli_core.comm.http import HttpClient

ROOT = Path(__file__).parents[2]


def open_sockets() -> int:
    folder = "/proc/self/fd"
    names = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder) if os.path.islink(f"{folder}/{fd}")]
    return sum(name.startswith("socket:") for name in names)


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open sockets in /proc")


def test_a_connection_is_used_again(http: HttpClient) -> None:
    with RawServer(answering(response())) as server:
        for _ in range(5):
            assert http.get(server.url)
        assert server.connections == 1


@needs_proc
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_fifty_threads_share_a_client_without_error_warning_or_leak(
    make_http: Callable[..., HttpClient],
    local_httpbin: Any,
    httpbin_https: Any,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
) -> None:
    calls = 200 if scheme == "http" else 20
    ca_file = httpbin_https.ca_file if scheme == "https" else None
    caplog.set_level(logging.INFO)
    with local_httpbin.httpbin_process(https=scheme == "https") as (url, own_ca):
        before = open_sockets()
        http = make_http(ca_file=own_ca or ca_file, pool_size=16, timeout=60)

        def work(number: int) -> int:
            good = 0
            for call in range(calls):
                found = http.get(f"{url}/anything", params={"n": f"{number}-{call}"})
                good += found is not None and found.json()["args"] == {"n": f"{number}-{call}"}
            return good

        with ThreadPoolExecutor(50) as threads:
            assert sum(threads.map(work, range(50))) == 50 * calls
        assert [record.getMessage() for record in caplog.records] == []
        assert 0 < open_sockets() - before <= 16
        http.close()
        assert open_sockets() == before


def test_a_fork_leaves_the_parents_connections_alone(httpbin: str, httpbin_https: Any) -> None:
    """In a process of its own: it forks, and both sides go on with the same client at the same time, the child with
    50 threads x 200 requests."""
    script = """
        import logging, os, sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from zcli_core.comm.http import HttpClient
        from zcli_core.config.sections import Http
        from zcli_urllib3.transport import Urllib3Transport

        settings = Http(ca_file=Path(sys.argv[3]))
        http = HttpClient(settings, lambda: Urllib3Transport(settings), logging.getLogger("test"))
        urls = sys.argv[1:3]

        def work(who, count):
            for call in range(count):
                for url in urls:
                    found = http.get(f"{url}/anything", params={"who": who, "call": call})
                    assert found is not None, http.last_failure
                    assert found.json()["args"] == {"who": who, "call": str(call)}, (who, call, found.text)

        def in_threads(who, threads, count):
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda n: work(f"{who}{n}", count), range(threads)))

        warnings = []
        logging.getLogger().addHandler(logging.Handler(logging.WARNING))
        logging.getLogger().handlers[0].emit = warnings.append

        work("before", 2)
        child = os.fork()
        who, threads = ("child", 50) if child == 0 else ("parent", 4)
        work(who, 20)
        in_threads(who, threads, 100)
        http.close()
        assert not warnings, warnings[0].getMessage()
        if os.path.isdir("/proc/self/fd"):
            names = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
            assert not [name for name in names if "socket:" in name], names
        if child:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
    """
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    run(script, httpbin, httpbin_https.url, str(httpbin_https.ca_file))


def run(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]), **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ResourceWarning" not in done.stderr
    return done.stdout


def test_a_program_that_closes_nothing_leaves_no_socket_behind(httpbin: str, httpbin_https: Any) -> None:
    script = """
        import logging, sys
        from pathlib import Path
        from zcli_core.comm.http import HttpClient
        from zcli_core.config.sections import Http
        from zcli_urllib3.transport import Urllib3Transport

        settings = Http(ca_file=Path(sys.argv[3]))
        http = HttpClient(settings, lambda: Urllib3Transport(settings), logging.getLogger("test"))
        assert http.get(sys.argv[1] + "/get") and http.get(sys.argv[2] + "/get")
        assert http.get("http://127.0.0.1:9/") is None
    """
    run(script, httpbin, httpbin_https.url, str(httpbin_https.ca_file))


def close_after_answering(server: RawServer, connection: socket.socket) -> None:
    server.read_request(connection)
    connection.sendall(response())


def test_a_kept_connection_that_the_server_closed_is_replaced(http: HttpClient) -> None:
    with RawServer(close_after_answering) as server:
        for expected in range(1, 4):
            for method in ("GET", "POST"):
                assert http.request(method, server.url), http.last_failure
                wait_until(lambda: server.closed == server.connections)
            assert server.connections == 2 * expected


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.parametrize(("method", "works"), [("GET", True), ("PUT", True), ("POST", False)])
def test_a_kept_connection_that_is_closed_upon_the_request_is_replaced_where_that_is_safe(
    http: HttpClient, method: str, works: bool, rudely: bool
) -> None:
    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(response())
        if server.connections == 1:
            server.read_request(connection)  # the second request meets its end
            if rudely:
                reset(connection)
        else:
            server.hold(connection)

    with RawServer(handle) as server:
        assert http.get(server.url)
        found = http.request(method, server.url)
        assert (found is not None) == works, http.last_failure
        assert server.connections == (2 if works else 1)
    if not works:
        assert http.last_failure is not None
        assert http.last_failure.kind == "reset"


def test_a_kept_connection_that_breaks_within_an_answer_is_a_failure(http: HttpClient) -> None:
    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(response())
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Begun: ")
        connection.settimeout(0.2)
        with contextlib.suppress(TimeoutError):  # lets the client read the beginning first
            connection.recv(1)
        reset(connection)

    with RawServer(handle) as server:
        assert http.get(server.url)
        assert http.get(server.url) is None
        assert server.connections == 1
    assert http.last_failure is not None
    assert http.last_failure.kind == "reset"


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zcli_urllib3 import pool

    monkeypatch.setattr(pool, "LONGEST_IDLE", 0.0)
    with RawServer(answering(response())) as server:
        assert http.get(server.url)
        assert http.get(server.url)
        assert server.connections == 2


def test_a_connection_on_which_more_came_than_was_asked_for_is_not_used_again(http: HttpClient) -> None:
    with RawServer(answering(response() + response(b"planted"))) as server:
        for _ in range(3):
            found = http.get(server.url)
            assert found is not None
            assert found.content == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        response(b"ok", "200 OK", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=["close", "HTTP/1.0", "two lengths"],
)
def test_a_connection_that_must_not_be_used_again_is_not(http: HttpClient, answer: bytes) -> None:
    with RawServer(answering(answer)) as server:
        for expected in (1, 2):
            found = http.get(server.url)
            assert found is not None
            assert found.content == b"ok"
            assert server.connections == expected


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified"])
def test_an_answer_without_body_leaves_the_connection_in_order(http: HttpClient, method: str, status: str) -> None:
    answer = f"HTTP/1.1 {status}\r\n".encode()
    answer += b"Content-Length: 5\r\nContent-Encoding: gzip\r\n\r\n" if method == "HEAD" else b"\r\n"
    if (method, status) == ("GET", "200 OK"):
        answer = response(b"")
    with RawServer(answering(answer)) as server:
        for _ in range(2):
            found = http.request(method, server.url)
            assert found is not None, http.last_failure
            assert found.content == b""
        assert server.connections == 1


def test_an_answer_that_comes_before_the_body_was_read_is_seen(http: HttpClient) -> None:
    def handle(server: RawServer, connection: socket.socket) -> None:
        connection.recv(1024)
        connection.sendall(response(b"too much", "413 Content Too Large", "Connection: close"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with RawServer(handle) as server:
        found = http.post(server.url, data=bytes(8 * 1024 * 1024))
        assert found is not None, http.last_failure
        assert found.status_code == 413


def test_a_call_may_be_made_while_another_is_sending_in_the_same_thread(http: HttpClient) -> None:
    with RawServer(answering(response())) as server:

        def blocks() -> Any:
            for _ in range(3):
                assert http.get(server.url)
                yield b"block"

        assert http.put(server.url, data=blocks(), headers={"Content-Length": "15"})
        assert server.connections == 2


@needs_proc
def test_connections_to_many_places_do_not_pile_up(make_http: Callable[..., HttpClient]) -> None:
    from contextlib import ExitStack

    from zcli_urllib3.pool import ConnectionPool

    assert ConnectionPool(16)._total == 256
    http = make_http(pool_size=16)
    with RawServer(answering(response())) as server:
        assert http.get(server.url)
        assert http._transport is not None
        pool: ConnectionPool = http._transport._pool  # type: ignore[attr-defined]
        pool._total = 3
        with ExitStack() as stack:
            for _ in range(8):
                other = stack.enter_context(RawServer(answering(response())))
                assert http.get(other.url)
                assert pool._count <= 3
            assert sum(map(len, pool._idle.values())) == 3
        assert http.get(server.url)
        assert server.connections == 2  # the one used longest ago went first


def test_a_connection_in_use_is_closed_when_it_comes_back_after_close(http: HttpClient) -> None:
    asked = threading.Event()

    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        asked.set()
        server.closing.wait(0.2)
        connection.sendall(response())
        server.hold(connection)
        ended.set()

    ended = threading.Event()
    with RawServer(handle) as server, ThreadPoolExecutor(1) as thread:
        found = thread.submit(http.get, server.url)
        assert asked.wait(10)
        http.close()
        assert found.result() is not None
        wait_until(ended.is_set)
