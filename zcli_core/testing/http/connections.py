"""The part of the HTTP suite about connections: keeping, sharing and replacing them, and forks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from zcli_core.http.contract import FailureKind, TransportFailure
from zcli_core.testing.certificates import server_tls
from zcli_core.testing.http.base import ENOUGH, GRACE, Caller, HttpContract, MakeCaller
from zcli_core.testing.http.peer import (
    Script,
    ScriptedServer,
    after_request,
    chunked,
    reset,
    responding,
    response,
    wait_until,
)

THREADS = 16
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


def echo_target(server: ScriptedServer, connection: socket.socket) -> None:
    """Respond to every request with its target."""
    while request := server.read_request(connection):
        connection.sendall(response(request.target.encode()))


def end_at_second_request(rudely: bool, beginning: bytes = b"") -> Script:
    """Return a script that closes the first connection at its second request; it responds to all other requests."""

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        first = server.connections == 1
        while request := server.read_request(connection):
            if first and len(server.requests) > 1:
                connection.sendall(beginning)
                if rudely:
                    reset(connection)
                return
            connection.sendall(response(b"" if request.method == "HEAD" else b"ok"))

    return script


class ConnectionsContract(HttpContract):
    """Connections are kept and shared, and no caller gets the response to another request."""

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_connection_is_used_again(self, make_caller: MakeCaller, ca_file: str, secure: bool) -> None:
        """Calls of any method and size share it, one after another."""
        with ScriptedServer(
            responding(response(), chunked(b"ok"), response(b"")), server_tls() if secure else None
        ) as s:
            caller = make_caller(ca_file=ca_file)
            for method, body in (("GET", None), ("POST", b"body"), ("PUT", b""), ("HEAD", None), ("GET", None)):
                caller.send(s.url, method, body=body)
            caller.send(s.url, "POST", body=iter([b"in", b"chunks"]))
            caller.send(s.url)
            assert s.connections == 1

    def test_each_site_has_its_own_connections(self, caller: Caller) -> None:
        """A site is a host and a port."""
        with ScriptedServer(responding(response(b"one"))) as one, ScriptedServer(responding(response(b"two"))) as two:
            for _ in range(2):
                assert caller.send(one.url).body == b"one"
                assert caller.send(two.url).body == b"two"
                assert caller.send(one.url.replace("127.0.0.1", "localhost")).body == b"one"
            assert (one.connections, two.connections) == (2, 1)

    def test_threads_do_not_wait_for_each_other(self, caller: Caller) -> None:
        """The server responds to none of 16 requests before it has all."""
        together = threading.Barrier(THREADS)

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            while request := server.read_request(connection):
                together.wait(ENOUGH)
                connection.sendall(response(request.target.encode()))

        with ScriptedServer(script) as server, ThreadPoolExecutor(THREADS) as threads:
            for turn in range(3):
                targets = [f"/{turn}/{number}" for number in range(THREADS)]
                found = threads.map(lambda target: caller.send(server.url + target).body.decode(), targets)
                assert list(found) == targets
            assert server.connections == THREADS, "the connections of the first turn serve the others"

    def test_every_thread_gets_its_own_responses(self, caller: Caller) -> None:
        """Many threads make many calls on shared connections."""

        def work(number: int) -> bool:
            targets = [f"/{number}/{call}" for call in range(25)]
            return [caller.send(server.url + target).body.decode() for target in targets] == targets

        with ScriptedServer(echo_target) as server, ThreadPoolExecutor(THREADS) as threads:
            assert all(threads.map(work, range(THREADS)))
            assert server.connections <= THREADS

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_idle_connections_up_to_pool_size_are_kept(
        self, make_caller: MakeCaller, ca_file: str, secure: bool
    ) -> None:
        """``http.pool_size`` counts for each site; more calls may run at once, and close() ends all."""
        kept, calls = 16, 24
        together = threading.Barrier(calls)

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            while server.read_request(connection):
                together.wait(ENOUGH)
                connection.sendall(response())

        with (
            ScriptedServer(script, server_tls() if secure else None) as server,
            ThreadPoolExecutor(calls) as threads,
        ):
            caller = make_caller(ca_file=ca_file, pool_size=kept)
            for _ in range(2):
                found = threads.map(lambda _: caller.send(server.url).body, range(calls))
                assert list(found) == [b"ok"] * calls
                wait_until(lambda: server.connections - server.closed == kept)
            caller.transport.close()
            wait_until(lambda: server.connections == server.closed)

    # --- connections that must not be used again ---

    @pytest.mark.parametrize(
        "raw",
        [
            response(b"ok", "200 OK", "Connection: close"),
            response(b"ok", "200 OK", "connection: x-option, Close"),
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ],
        ids=["close", "close among others", "HTTP/1.0"],
    )
    def test_connection_with_close_is_not_used_again(self, caller: Caller, raw: bytes) -> None:
        """The server may leave it open for some time (RFC 9112, section 9.3)."""
        with ScriptedServer(responding(raw)) as server:
            for expected in (1, 2):
                assert caller.send(server.url).body == b"ok"
                assert server.connections == expected

    def test_unrequested_response_is_dropped(self, caller: Caller) -> None:
        """A second response after the first is not taken for that to the next request."""
        with ScriptedServer(responding(response() + response(b"planted"))) as server:
            for _ in range(3):
                assert caller.send(server.url).body == b"ok"

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_response_on_an_idle_connection_is_dropped(self, caller: Caller, method: str) -> None:
        """It comes after the end of a call, so only the next call can detect it."""
        idle, planted = threading.Event(), threading.Event()

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            while server.read_request(connection):
                connection.sendall(response())
                if not planted.is_set() and idle.wait(ENOUGH):
                    connection.sendall(response(b"planted"))
                    planted.set()

        with ScriptedServer(script) as server:
            assert caller.send(server.url).body == b"ok"
            idle.set()
            assert planted.wait(ENOUGH)
            assert caller.send(server.url, method).body == b"ok"

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_closed_idle_connection_is_replaced(self, caller: Caller, method: str) -> None:
        """No request was sent on it, so a request of any method can be sent on a new one."""
        with ScriptedServer(responding(response(), keep_open=False)) as server:
            for expected in range(1, 4):
                assert caller.send(server.url, method, body=b"body").body == b"ok"
                assert server.connections == expected
                wait_until(lambda expected=expected: server.closed == expected)  # type: ignore[misc]

    @pytest.mark.parametrize("rudely", [False, True], ids=["in order", "by reset"])
    @pytest.mark.parametrize("method", IDEMPOTENT)
    def test_idempotent_request_is_sent_again(self, caller: Caller, method: str, rudely: bool) -> None:
        """The server closed the kept connection at the request; one repetition is safe."""
        with ScriptedServer(end_at_second_request(rudely)) as server:
            assert caller.send(server.url).body == b"ok"
            assert caller.send(server.url, method, body=b"body" if method == "PUT" else None).status == 200
            assert server.connections == 2

    @pytest.mark.parametrize("rudely", [False, True], ids=["in order", "by reset"])
    @pytest.mark.parametrize("body", ["POST", "PATCH", "PUT in chunks"])
    def test_unsafe_request_is_not_sent_again(self, caller: Caller, body: str, rudely: bool) -> None:
        """It could be carried out twice (RFC 9110, section 9.2.2), or its body can be read only once."""
        method, _, chunks = body.partition(" ")
        with ScriptedServer(end_at_second_request(rudely)) as server:
            assert caller.send(server.url).body == b"ok"
            caller.fails("reset", server.url, method, body=iter([b"body"]) if chunks else b"body")
            assert [request.method for request in server.requests] == ["GET", method]
            assert server.connections == 1

    @pytest.mark.parametrize("rudely", [False, True], ids=["in order", "by reset"])
    def test_break_within_a_response_is_not_retried(self, caller: Caller, rudely: bool) -> None:
        """The server has begun to respond, so the call fails."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            server.read_request(connection)
            connection.sendall(response())
            server.read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Begun: ")
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):  # so that the client has read the beginning
                connection.recv(1)
            if rudely:
                reset(connection)

        kinds: set[FailureKind] = {"reset"} if rudely else {"reset", "protocol"}
        with ScriptedServer(script) as server:
            assert caller.send(server.url).body == b"ok"
            caller.fails(kinds, server.url)
            assert server.connections == 1

    def test_response_before_the_body_is_returned(self, caller: Caller) -> None:
        """Servers send 413 and 401 early; the rest of the body is not sent."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.recv(1024)
            connection.sendall(response(b"too much", "413 Content Too Large", "Connection: close"))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

        with ScriptedServer(script) as server:
            found = caller.send(server.url, "POST", body=bytes(8 * 1024 * 1024))
            assert (found.status, found.body) == (413, b"too much")

    # --- closing and forking ---

    def test_close_ends_every_connection(self, caller: Caller) -> None:
        """Idle connections end at once, and close() may be called again."""
        with ScriptedServer(echo_target) as server:
            caller.send(server.url)
            caller.transport.close()
            wait_until(lambda: server.closed == 1)
            caller.transport.close()

    def test_close_without_calls_is_allowed(self, caller: Caller) -> None:
        """A script may make no call at all."""
        caller.transport.close()
        caller.transport.close()

    def test_call_after_close_works_or_fails(self, caller: Caller) -> None:
        """A thread may still make a call; its connection is closed too."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url)
            caller.transport.close()
            with contextlib.suppress(TransportFailure, RuntimeError):
                assert caller.send(server.url).body == b"ok"
            caller.transport.close()
            wait_until(lambda: server.closed == server.connections)

    def test_close_during_a_call_lets_it_end(self, caller: Caller) -> None:
        """The call ends with its response or a failure, and its connection is closed."""
        asked, go_on = threading.Event(), threading.Event()

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            asked.set()
            go_on.wait(ENOUGH)
            connection.sendall(response())
            server.hold(connection)

        with ScriptedServer(after_request(script)) as server, ThreadPoolExecutor(1) as thread:
            found = thread.submit(caller.send, server.url)
            assert asked.wait(ENOUGH)
            closing = threading.Thread(target=caller.transport.close)
            closing.start()
            go_on.set()
            with contextlib.suppress(TransportFailure):
                assert found.result().body == b"ok"
            closing.join(ENOUGH)
            assert not closing.is_alive()
            wait_until(lambda: server.closed == 1)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_forked_child_opens_its_own_connections(self, make_caller: MakeCaller, ca_file: str, secure: bool) -> None:
        """Child and parent have the same object after a fork. The child must not use or disturb the parent's
        connection."""
        with ScriptedServer(echo_target, server_tls() if secure else None) as server:
            caller = make_caller(ca_file=ca_file)
            # In this thread. OpenSSL holds a lock while a thread that has used it ends. If the process forks at that
            # time, the child waits for the lock without end (issue 19066 of OpenSSL).
            assert caller.send_here(f"{server.url}/parent").body == b"/parent"
            assert in_child(lambda: _works_in_child(caller, server.url)) == 0
            assert caller.send(f"{server.url}/parent-again").body == b"/parent-again"
            assert server.connections == 2
            assert {request.target for request in server.requests} == {"/parent", "/child", "/parent-again"}


def _works_in_child(caller: Caller, url: str) -> bool:
    for _ in range(2):
        if caller.send(f"{url}/child").body != b"/child":
            return False
    caller.transport.close()
    return True


def in_child(work: Callable[[], bool]) -> int:
    """Run a function in a forked process; return 0 if it returned True, another number otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads run, but hold no locks that the child needs
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    deadline = time.monotonic() + ENOUGH + GRACE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1
