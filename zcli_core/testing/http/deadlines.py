"""The part of the HTTP suite about the deadline: each of these servers would take a minute, or for ever."""

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

#: What a server has sent when it begins to dawdle.
BEGINNINGS = {
    "nothing": b"",
    "a status line": b"HTTP/1.1 200 A",
    "headers": b"HTTP/1.1 200 OK\r\nX-Trickle: ",
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFF\r\n",
    "a chunk's size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    "a body without length": b"HTTP/1.0 200 OK\r\n\r\n",
    # The name of a file, which goes on until a NUL: it decodes to nothing at all.
    "a packed body": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0",
}


def begin_and(then: Script, beginning: bytes) -> Script:
    """Read a request, send the beginning of an answer, and do this."""

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        connection.sendall(beginning)
        then(server, connection)

    return after_request(script)


class DeadlineContract(HttpContract):
    """A call ends at its deadline, whatever it is about: near it, and with the kind ``timeout``."""

    @pytest.mark.parametrize("beginning", ["nothing", "headers", "a body", "a chunk"])
    def test_a_server_that_falls_silent(self, caller: Caller, beginning: str) -> None:
        """Before its answer, or in the middle of it."""
        with ScriptedServer(begin_and(ScriptedServer.hold, BEGINNINGS[beginning])) as server:
            caller.times_out(server.url)

    @pytest.mark.parametrize("beginning", [name for name in BEGINNINGS if name != "nothing"])
    def test_a_server_that_trickles(self, caller: Caller, beginning: str) -> None:
        """A byte now and then buys it no time."""
        with ScriptedServer(begin_and(ScriptedServer.trickle, BEGINNINGS[beginning])) as server:
            caller.times_out(server.url)

    def test_a_server_that_never_stops_with_interim_answers(self, caller: Caller) -> None:
        """Each of them is complete, and none is the answer."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            server.trickle(connection, b"HTTP/1.1 102 Processing\r\n\r\n")

        with ScriptedServer(after_request(script)) as server:
            caller.times_out(server.url)

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    @pytest.mark.parametrize("body", ["bytes", "under a length", "in chunks"])
    def test_a_server_that_does_not_read(self, make_caller: MakeCaller, ca_file: str, body: str, secure: bool) -> None:
        """The system's buffers fill, and sending has to be given up."""
        size = 64 * 1024 * 1024

        def blocks() -> Iterator[bytes]:
            return itertools.repeat(bytes(65536), size // 65536)

        headers = [("Content-Length", str(size))] if body == "under a length" else []
        with ScriptedServer(lambda server, _: wait(server), server_tls() if secure else None) as server:
            caller = make_caller(ca_file=ca_file)
            caller.times_out(server.url, "POST", headers, bytes(size) if body == "bytes" else blocks())

    def test_a_body_that_comes_slowly_from_the_caller(self, caller: Caller) -> None:
        """The caller's own time counts too."""

        def slow() -> Iterator[bytes]:
            for _ in range(1000):
                time.sleep(0.05)
                yield b"a"

        with ScriptedServer(responding(response())) as server:
            caller.times_out(server.url, "POST", body=slow())

    def test_a_tls_handshake_that_is_not_answered(self, caller: Caller) -> None:
        """The server accepts, and that is all."""
        with ScriptedServer(ScriptedServer.hold) as server:
            caller.times_out(server.url.replace("http:", "https:"))

    def test_a_tls_handshake_that_trickles(self, caller: Caller) -> None:
        """The beginning of a record, then a byte now and then."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03")
            server.trickle(connection)

        with ScriptedServer(script) as server:
            caller.times_out(server.url.replace("http:", "https:"))

    @pytest.mark.parametrize("then", [ScriptedServer.hold, ScriptedServer.trickle], ids=["silent", "trickling"])
    @pytest.mark.parametrize("beginning", ["headers", "a body"])
    def test_the_deadline_holds_over_tls(
        self, make_caller: MakeCaller, ca_file: str, beginning: str, then: Script
    ) -> None:
        """After the handshake, as without one."""
        with ScriptedServer(begin_and(then, BEGINNINGS[beginning]), server_tls()) as server:
            make_caller(ca_file=ca_file).times_out(server.url)

    def test_a_kept_connection_has_the_deadline_of_each_call(self, caller: Caller) -> None:
        """Neither the one it was opened with, nor the one before."""
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
    def test_a_connection_that_is_not_accepted(self, caller: Caller) -> None:
        """The system of the other side answers nothing, as behind a firewall."""
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
    def test_a_deadline_that_has_passed_fails_at_once(self, caller: Caller, late: float) -> None:
        """On a fresh connection and on a kept one, and without the request being carried out."""
        with ScriptedServer(responding(response())) as server:
            for _ in range(2):
                started = time.monotonic()
                caller.fails("timeout", f"{server.url}/late", "POST", body=b"body", within=-late)
                assert time.monotonic() - started < ENOUGH
                assert caller.send(f"{server.url}/in-time").body == b"ok"
            assert [request.target for request in server.requests] == ["/in-time"] * 2

    def test_a_deadline_far_away_is_no_error(self, caller: Caller) -> None:
        """Some clocks and timers count milliseconds in 32 bits."""
        with ScriptedServer(responding(response())) as server:
            for seconds in (3e6, 1e7):
                assert caller.send(server.url, within=seconds).body == b"ok"

    def test_a_connection_that_timed_out_is_not_used_again(self, caller: Caller) -> None:
        """Its answer may still come, and would be taken for that of the next request."""
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
    """The server's first request waits in vain for an answer."""
    while server.read_request(connection):
        if len(server.requests) == 1:
            server.hold(connection)
        else:
            connection.sendall(response(b"second"))


def hold_second(server: ScriptedServer, connection: socket.socket) -> None:
    """The server's second request waits in vain for an answer."""
    while server.read_request(connection):
        if len(server.requests) > 1:
            server.hold(connection)
        else:
            connection.sendall(response())
