"""The part of the HTTP suite about the deadline: every server here would take a minute or longer."""

from __future__ import annotations

import itertools
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from zcli_core.testing.certificates import server_tls
from zcli_core.testing.http.base import ENOUGH, SHORT, Caller, HttpContract, MakeCaller
from zcli_core.testing.http.peer import Script, ScriptedServer, after_request, responding, response, wait_until

#: What a server sends before it becomes slow.
BEGINNINGS = {
    "nothing": b"",
    "a status line": b"HTTP/1.1 200 A",
    "headers": b"HTTP/1.1 200 OK\r\nX-Trickle: ",
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFF\r\n",
    "a chunk's size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    "a body without length": b"HTTP/1.0 200 OK\r\n\r\n",
    # The name of a file, which ends with a NUL: it decodes to no bytes.
    "a packed body": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0",
}


def begin_and(then: Script, beginning: bytes) -> Script:
    """Return a script that reads a request, sends the beginning of a response, and runs another script."""

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        connection.sendall(beginning)
        then(server, connection)

    return after_request(script)


class DeadlineContract(HttpContract):
    """Every call ends near its deadline with the kind ``timeout``, whatever it waits for."""

    @pytest.mark.parametrize("beginning", ["nothing", "headers", "a body", "a chunk"])
    def test_silent_server_times_out(self, caller: Caller, beginning: str) -> None:
        """It stops before the response or within it."""
        with ScriptedServer(begin_and(ScriptedServer.hold, BEGINNINGS[beginning])) as server:
            caller.times_out(server.url)

    @pytest.mark.parametrize("beginning", [name for name in BEGINNINGS if name != "nothing"])
    def test_trickling_server_times_out(self, caller: Caller, beginning: str) -> None:
        """Single bytes do not extend the deadline."""
        with ScriptedServer(begin_and(ScriptedServer.trickle, BEGINNINGS[beginning])) as server:
            caller.times_out(server.url)

    def test_endless_interim_responses_time_out(self, caller: Caller) -> None:
        """Each of them is complete, but none is the final response."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            server.trickle(connection, b"HTTP/1.1 102 Processing\r\n\r\n")

        with ScriptedServer(after_request(script)) as server:
            caller.times_out(server.url)

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    @pytest.mark.parametrize("body", ["bytes", "under a length", "in chunks"])
    def test_server_that_does_not_read_times_out(
        self, make_caller: MakeCaller, ca_file: str, body: str, secure: bool
    ) -> None:
        """The buffers of the system fill, so the transport must stop sending."""
        size = 64 * 1024 * 1024

        def blocks() -> Iterator[bytes]:
            return itertools.repeat(bytes(65536), size // 65536)

        headers = [("Content-Length", str(size))] if body == "under a length" else []
        with ScriptedServer(lambda server, _: wait(server), server_tls() if secure else None) as server:
            caller = make_caller(ca_file=ca_file)
            caller.times_out(server.url, "POST", headers, bytes(size) if body == "bytes" else blocks())

    def test_slow_body_of_the_caller_times_out(self, caller: Caller) -> None:
        """The time that the caller's iterable takes counts too."""

        def slow() -> Iterator[bytes]:
            for _ in range(1000):
                time.sleep(0.05)
                yield b"a"

        with ScriptedServer(responding(response())) as server:
            caller.times_out(server.url, "POST", body=slow())

    def test_silent_tls_handshake_times_out(self, caller: Caller) -> None:
        """The server accepts the connection and sends nothing."""
        with ScriptedServer(ScriptedServer.hold) as server:
            caller.times_out(server.url.replace("http:", "https:"))

    def test_trickling_tls_handshake_times_out(self, caller: Caller) -> None:
        """The server sends the beginning of a record, then single bytes."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03")
            server.trickle(connection)

        with ScriptedServer(script) as server:
            caller.times_out(server.url.replace("http:", "https:"))

    @pytest.mark.parametrize("then", [ScriptedServer.hold, ScriptedServer.trickle], ids=["silent", "trickling"])
    @pytest.mark.parametrize("beginning", ["headers", "a body"])
    def test_deadline_holds_over_tls(self, make_caller: MakeCaller, ca_file: str, beginning: str, then: Script) -> None:
        """It also holds after the handshake."""
        with ScriptedServer(begin_and(then, BEGINNINGS[beginning]), server_tls()) as server:
            make_caller(ca_file=ca_file).times_out(server.url)

    def test_kept_connection_has_each_calls_deadline(self, caller: Caller) -> None:
        """The deadlines of earlier calls do not count."""
        with ScriptedServer(hold_second) as server:
            assert caller.send(server.url, within=30).body == b"ok"
            caller.times_out(server.url)
        for within in (SHORT * 8, ENOUGH / 4):  # on a loaded machine the first may not be enough for a call
            with ScriptedServer(responding(response())) as server:
                started = time.monotonic()
                if caller.may_fail("timeout", server.url, within=within) is None:
                    continue
                wait_until(lambda end=started + within: time.monotonic() > end)  # type: ignore[misc]
                assert caller.send(server.url).body == b"ok"
                assert server.connections == 1
                return
        pytest.fail(f"no call ended within {ENOUGH / 4:g} s")

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses what does not fit the backlog")
    def test_unaccepted_connection_times_out(self, caller: Caller) -> None:
        """The other side does not respond at all, as behind a firewall."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            fillers = [socket.socket() for _ in range(8)]
            try:
                for filler in fillers:  # beyond the backlog, the system leaves connections waiting
                    filler.setblocking(False)
                    filler.connect_ex(listener.getsockname())
                caller.times_out(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            finally:
                for filler in fillers:
                    filler.close()

    @pytest.mark.parametrize("late", [0.0, 5.0])
    def test_passed_deadline_fails_at_once(self, caller: Caller, late: float) -> None:
        """No request is carried out, neither on a new connection nor on a kept one."""
        with ScriptedServer(responding(response())) as server:
            for _ in range(2):
                started = time.monotonic()
                caller.fails("timeout", f"{server.url}/late", "POST", body=b"body", within=-late)
                assert time.monotonic() - started < ENOUGH
                assert caller.send(f"{server.url}/in-time").body == b"ok"
            assert [request.target for request in server.requests] == ["/in-time"] * 2

    def test_distant_deadline_is_accepted(self, caller: Caller) -> None:
        """Some clocks and timers count milliseconds in 32 bits."""
        with ScriptedServer(responding(response())) as server:
            for seconds in (3e6, 1e7):
                assert caller.send(server.url, within=seconds).body == b"ok"

    def test_timed_out_connection_is_not_used_again(self, caller: Caller) -> None:
        """Its response may still come, and would be taken for that to the next request."""
        for within in (SHORT * 3, ENOUGH / 4):  # on a loaded machine the first may not be enough to send the request
            with ScriptedServer(hold_first) as server:
                caller.times_out(server.url, within=within)
                if server.requests:
                    assert caller.send(server.url).body == b"second"
                    assert server.connections == 2
                    return
        pytest.fail(f"the request did not arrive within {ENOUGH / 4:g} s")


def wait(server: ScriptedServer) -> None:
    """Read nothing until the end of the test."""
    server.closing.wait(60)


def hold_first(server: ScriptedServer, connection: socket.socket) -> None:
    """Do not respond to the first request of the server."""
    while server.read_request(connection):
        if len(server.requests) == 1:
            server.hold(connection)
        else:
            connection.sendall(response(b"second"))


def hold_second(server: ScriptedServer, connection: socket.socket) -> None:
    """Do not respond to the second request of the server."""
    while server.read_request(connection):
        if len(server.requests) > 1:
            server.hold(connection)
        else:
            connection.sendall(response())
