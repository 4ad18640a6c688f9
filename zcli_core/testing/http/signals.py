"""The part of the HTTP suite about signals: the exception of a handler leaves the transport unchanged."""

from __future__ import annotations

import gc
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
    """An exception that a signal handler raises, as in task queues."""


#: Exceptions that a transport could take for those of its sockets.
RAISED = (SoftTimeLimit("mine"), TimeoutError("mine"), ConnectionResetError("mine"), EOFError("mine"), SystemExit(5))


@contextmanager
def handled_by(error: BaseException) -> Iterator[None]:
    """Install a signal handler that raises this exception."""

    def handle(number: int, frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, handle)
    gc.disable()  # an exception that the handler raises within a callback of the garbage collector is lost
    try:
        yield
    finally:
        gc.enable()
        # A late signal would end the process by default.
        signal.signal(signal.SIGALRM, signal.SIG_IGN if before is signal.SIG_DFL else before)


def ring() -> None:
    """Send a signal to the main thread, which makes the call."""
    identity = threading.main_thread().ident
    assert identity is not None
    signal.pthread_kill(identity, signal.SIGALRM)


class SignalsContract(HttpContract):
    """The exception of a signal handler leaves the transport unchanged, and the connection is not used again."""

    def interrupted(self, caller: Caller, address: str, error: BaseException, body: Body = None) -> None:
        """Send a request in this thread, which must end with the handler's exception."""
        if threading.current_thread() is not threading.main_thread():
            pytest.skip("handlers run in the main thread")
        with handled_by(error), pytest.raises(type(error)) as caught:
            caller.send_here(address, body)
        assert caught.value is error

    @pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"], ids=["head", "body"])
    def test_signal_while_waiting_is_raised(self, caller: Caller, sent: bytes, error: BaseException) -> None:
        """The next call has its own connection and its own response."""

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
    def test_signal_in_the_handshake_is_raised(self, caller: Caller, error: BaseException) -> None:
        """It is not a failure of TLS, and the connection is closed although the exception still exists."""
        with ScriptedServer(ring_and_hold) as server:
            self.interrupted(caller, server.url.replace("http:", "https:"), error)
            wait_until(lambda: server.closed == 1)

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_signal_while_sending_is_raised(self, make_caller: MakeCaller, ca_file: str, secure: bool) -> None:
        """The server reads only the beginning of the body."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.recv(1024)
            ring()
            server.closing.wait(60)

        with ScriptedServer(script, server_tls() if secure else None) as server:
            self.interrupted(make_caller(ca_file=ca_file), server.url, BrokenPipeError("mine"), bytes(LARGEST))

    def test_signal_in_the_body_source_is_raised(self, caller: Caller) -> None:
        """The transport waits for the next block of the iterable."""

        def blocks() -> Iterator[bytes]:
            yield b"first"
            ring()
            time.sleep(ENOUGH)

        with ScriptedServer(after_request(lambda server, connection: None)) as server:
            self.interrupted(caller, server.url, TimeoutError("mine"), blocks())


def ring_and_hold(server: ScriptedServer, connection: socket.socket) -> None:
    """Interrupt the client after its first bytes, and send no response."""
    connection.recv(1024)
    ring()
    server.hold(connection)
