"""The part of the HTTP suite about signals: what a handler raises comes out, whatever the transport was doing."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from zcli_core.http.contract import Body
from zcli_core.testing.certificates import server_tls
from zcli_core.testing.http.base import ENOUGH, LARGEST, Caller, HttpContract, MakeCaller
from zcli_core.testing.http.peer import ScriptedServer, after_request, response, wait_until

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to threads")


class SoftTimeLimit(Exception):  # noqa: N818 - such as task queues raise
    """What a handler raises."""


#: Exceptions that a transport could take for its own.
RAISED = (SoftTimeLimit("mine"), TimeoutError("mine"), ConnectionResetError("mine"), EOFError("mine"), SystemExit(5))


@contextmanager
def handled_by(error: BaseException) -> Iterator[None]:
    """Have a signal's handler raise this."""

    def handle(number: int, frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, handle)
    try:
        yield
    finally:
        # One that comes late must not end the process, as it does by default.
        signal.signal(signal.SIGALRM, signal.SIG_IGN if before is signal.SIG_DFL else before)


def ring() -> None:
    """Interrupt the main thread, in which the call is under way."""
    identity = threading.main_thread().ident
    assert identity is not None
    signal.pthread_kill(identity, signal.SIGALRM)


class SignalsContract(HttpContract):
    """An exception that comes from outside passes through unchanged, and its connection is not used again."""

    def interrupted(self, caller: Caller, address: str, error: BaseException, body: Body = None) -> None:
        """One exchange in this thread, which has to end with the handler's exception."""
        if threading.current_thread() is not threading.main_thread():
            pytest.skip("handlers run in the main thread")
        with handled_by(error), pytest.raises(type(error)) as caught:
            caller.send_here(address, body)
        assert caught.value is error

    @pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"], ids=["head", "body"])
    def test_signal_while_a_response_is_awaited(self, caller: Caller, sent: bytes, error: BaseException) -> None:
        """The next call has a connection of its own, and its own response."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            if server.connections == 1:
                connection.sendall(sent)
                ring()
                server.hold(connection)
            connection.sendall(response())

        with ScriptedServer(after_request(script)) as server:
            self.interrupted(caller, server.url, error)
            assert caller.send(server.url).body == b"ok"
            assert server.connections == 2

    @pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
    def test_signal_while_a_handshake_is_awaited(self, caller: Caller, error: BaseException) -> None:
        """It is not a failure of TLS; the connection is closed though the exception, and all it refers to, lives on."""
        with ScriptedServer(ring_and_hold) as server:
            self.interrupted(caller, server.url.replace("http:", "https:"), error)
            wait_until(lambda: server.closed == 1)

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_signal_while_a_body_is_sent(self, make_caller: MakeCaller, ca_file: str, secure: bool) -> None:
        """The server reads only its beginning."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.recv(1024)
            ring()
            server.closing.wait(60)

        with ScriptedServer(script, server_tls() if secure else None) as server:
            self.interrupted(make_caller(ca_file=ca_file), server.url, BrokenPipeError("mine"), bytes(LARGEST))

    def test_signal_while_a_source_is_read(self, caller: Caller) -> None:
        """The iterable is asked for its next block."""

        def blocks() -> Iterator[bytes]:
            yield b"first"
            ring()
            time.sleep(ENOUGH)

        with ScriptedServer(after_request(lambda server, connection: None)) as server:
            self.interrupted(caller, server.url, TimeoutError("mine"), blocks())


def ring_and_hold(server: ScriptedServer, connection: socket.socket) -> None:
    """Interrupt the client upon its first bytes, and answer nothing."""
    connection.recv(1024)
    ring()
    server.hold(connection)
