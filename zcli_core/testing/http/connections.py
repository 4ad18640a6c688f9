"""The part of the HTTP suite about connections: kept, shared by threads, replaced when stale, left alone by a fork."""

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
    """Answer every request with its target."""
    while request := server.read_request(connection):
        connection.sendall(response(request.target.encode()))


def end_at_second_request(rudely: bool, beginning: bytes = b"") -> Script:
    """The first connection is answered once and ended upon its second request; others are answered as they should."""

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
    """Connections are kept and shared, and an answer never reaches anybody but the one who asked."""

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_a_connection_is_used_again(self, make_caller: MakeCaller, ca_file: str, secure: bool) -> None:
        """By calls of any method and size, one after another."""
        with ScriptedServer(
            responding(response(), chunked(b"ok"), response(b"")), server_tls() if secure else None
        ) as s:
            caller = make_caller(ca_file=ca_file)
            for method, body in (("GET", None), ("POST", b"body"), ("PUT", b""), ("HEAD", None), ("GET", None)):
                caller.send(s.url, method, body=body)
            caller.send(s.url, "POST", body=iter([b"in", b"chunks"]))
            caller.send(s.url)
            assert s.connections == 1

    def test_sites_have_connections_of_their_own(self, caller: Caller) -> None:
        """By host and port."""
        with ScriptedServer(responding(response(b"one"))) as one, ScriptedServer(responding(response(b"two"))) as two:
            for _ in range(2):
                assert caller.send(one.url).body == b"one"
                assert caller.send(two.url).body == b"two"
                assert caller.send(one.url.replace("127.0.0.1", "localhost")).body == b"one"
            assert (one.connections, two.connections) == (2, 1)

    def test_threads_do_not_wait_for_each_other(self, caller: Caller) -> None:
        """16 calls are under way at once: the server answers none before it has all."""
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

    def test_every_thread_gets_its_own_answers(self, caller: Caller) -> None:
        """Many calls by many threads on connections that change hands."""

        def work(number: int) -> bool:
            targets = [f"/{number}/{call}" for call in range(25)]
            return [caller.send(server.url + target).body.decode() for target in targets] == targets

        with ScriptedServer(echo_target) as server, ThreadPoolExecutor(THREADS) as threads:
            assert all(threads.map(work, range(THREADS)))
            assert server.connections <= THREADS

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_no_more_idle_connections_are_kept_than_pool_size(
        self, make_caller: MakeCaller, ca_file: str, secure: bool
    ) -> None:
        """``http.pool_size`` for each site. More calls may be under way at once; closing ends the rest."""
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
    def test_a_connection_that_the_server_will_close_is_not_used_again(self, caller: Caller, raw: bytes) -> None:
        """RFC 9112, section 9.3, even if it stays open for now."""
        with ScriptedServer(responding(raw)) as server:
            for expected in (1, 2):
                assert caller.send(server.url).body == b"ok"
                assert server.connections == expected

    def test_an_answer_that_nobody_asked_for_is_nobodys(self, caller: Caller) -> None:
        """A second answer behind the first would be taken for that to the next request."""
        with ScriptedServer(responding(response() + response(b"planted"))) as server:
            for _ in range(3):
                assert caller.send(server.url).body == b"ok"

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_an_answer_that_comes_on_an_idle_connection_is_nobodys(self, caller: Caller, method: str) -> None:
        """The call before it is over when it comes, so that only the next call can notice it."""
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
    def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(self, caller: Caller, method: str) -> None:
        """Nothing was sent on it, so any method may go on another."""
        with ScriptedServer(responding(response(), keep_open=False)) as server:
            for expected in range(1, 4):
                assert caller.send(server.url, method, body=b"body").body == b"ok"
                assert server.connections == expected
                wait_until(lambda expected=expected: server.closed == expected)  # type: ignore[misc]

    @pytest.mark.parametrize("rudely", [False, True], ids=["in order", "by reset"])
    @pytest.mark.parametrize("method", IDEMPOTENT)
    def test_a_request_that_met_the_end_of_a_kept_connection_is_sent_again(
        self, caller: Caller, method: str, rudely: bool
    ) -> None:
        """Once, if that is safe: the server had no time to say that it would close."""
        with ScriptedServer(end_at_second_request(rudely)) as server:
            assert caller.send(server.url).body == b"ok"
            assert caller.send(server.url, method, body=b"body" if method == "PUT" else None).status == 200
            assert server.connections == 2

    @pytest.mark.parametrize("rudely", [False, True], ids=["in order", "by reset"])
    @pytest.mark.parametrize("body", ["POST", "PATCH", "PUT in chunks"])
    def test_a_request_that_may_have_been_carried_out_is_not_sent_again(
        self, caller: Caller, body: str, rudely: bool
    ) -> None:
        """RFC 9110, section 9.2.2: it might be carried out twice; and an iterable can be read only once."""
        method, _, chunks = body.partition(" ")
        with ScriptedServer(end_at_second_request(rudely)) as server:
            assert caller.send(server.url).body == b"ok"
            caller.fails("reset", server.url, method, body=iter([b"body"]) if chunks else b"body")
            assert [request.method for request in server.requests] == ["GET", method]
            assert server.connections == 1

    @pytest.mark.parametrize("rudely", [False, True], ids=["in order", "by reset"])
    def test_a_kept_connection_that_breaks_within_an_answer_is_a_failure(self, caller: Caller, rudely: bool) -> None:
        """The server has begun to carry it out."""

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

    def test_an_answer_that_comes_before_the_body_was_read_is_seen(self, caller: Caller) -> None:
        """413 and 401 do, and the rest of the body need not be sent."""

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

    def test_closing_ends_every_connection(self, caller: Caller) -> None:
        """At once for those that are idle, and closing again is no error."""
        with ScriptedServer(echo_target) as server:
            caller.send(server.url)
            caller.transport.close()
            wait_until(lambda: server.closed == 1)
            caller.transport.close()

    def test_closing_what_was_never_used_is_no_error(self, caller: Caller) -> None:
        """A script that never called."""
        caller.transport.close()
        caller.transport.close()

    def test_a_call_after_close_works_or_fails_cleanly(self, caller: Caller) -> None:
        """Threads may still have one under way; whatever it opens is closed too."""
        with ScriptedServer(responding(response())) as server:
            caller.send(server.url)
            caller.transport.close()
            with contextlib.suppress(TransportFailure, RuntimeError):
                assert caller.send(server.url).body == b"ok"
            caller.transport.close()
            wait_until(lambda: server.closed == server.connections)

    def test_closing_while_a_call_is_under_way_lets_it_end(self, caller: Caller) -> None:
        """With its answer or with a failure, and its connection is closed afterwards."""
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
    def test_a_child_process_opens_its_own_connections(
        self, make_caller: MakeCaller, ca_file: str, secure: bool
    ) -> None:
        """After a fork both have the same object. The child works, and ends, without a trace on the parent's
        connection: two processes on one would get each other's answers, and TLS would break."""
        with ScriptedServer(echo_target, server_tls() if secure else None) as server:
            caller = make_caller(ca_file=ca_file)
            # In this thread. OpenSSL holds a lock while a thread that has used it ends. If the process forks then,
            # the child waits for that lock for ever (issue 19066 of OpenSSL).
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
    """Do this in a forked process: 0 if it gave True, something else if it did not, raised, or did not end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads run, and hold nothing that the child needs
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
