"""Small servers that do what no real one should, each on a free loopback port, in threads."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType


class RawServer:
    """Hands every connection to ``handler`` in a thread of its own, and closes it when the handler returns.

    ``connections`` counts them, ``closed`` those that are over; ``requests`` holds what :meth:`read_request` read.
    """

    def __init__(
        self,
        handler: Callable[[RawServer, socket.socket], None],
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._handler = handler
        self._context = context
        self.connections = 0
        self.closed = 0
        self.requests: list[bytes] = []
        self.closing = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=64)
        self.port: int = self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if context else 'http'}://{shown}:{self.port}"
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.closing.is_set():
                connection.close()
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                if self._context is not None:
                    plain = connection
                    connection = self._context.wrap_socket(plain, server_side=True)
                    self._open.discard(plain)
                    self._open.add(connection)
                self._handler(self, connection)
        finally:
            self._open.discard(connection)
            connection.close()
            self.closed += 1

    def read_request(self, connection: socket.socket) -> bytes:
        """One request, head and body; empty if the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            block = connection.recv(65536)
            if not block:
                return b""
            data += block
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", 0))
        while len(body) < length:
            block = connection.recv(65536)
            if not block:
                return b""
            body += block
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def trickle(self, connection: socket.socket, data: bytes = b"a", every: float = 0.05) -> None:
        """Send the same few bytes again and again until the client or the test is gone."""
        while not self.closing.wait(every):
            connection.sendall(data)

    def hold(self, connection: socket.socket) -> None:
        """Keep the connection open and say nothing until the client or the test is gone."""
        connection.settimeout(0.05)
        while not self.closing.is_set():
            try:
                if not connection.recv(65536):
                    return
            except TimeoutError:
                continue

    def __enter__(self) -> RawServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with contextlib.suppress(OSError), socket.socket(self._listener.family) as last:
            last.connect(self._listener.getsockname())  # wakes accept(), which closing alone does not
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *self._threads):
            thread.join(timeout=5)


def answering(*answers: bytes, keep_open: bool = True) -> Callable[[RawServer, socket.socket], None]:
    """A handler that gives these answers to the requests of the whole server in turn, then the last one for ever."""
    count = iter(range(1_000_000))

    def handle(server: RawServer, connection: socket.socket) -> None:
        while server.read_request(connection):
            connection.sendall(answers[min(next(count), len(answers) - 1)])
            if not keep_open:
                return

    return handle


def response(body: bytes = b"ok", status: str = "200 OK", *headers: str) -> bytes:
    """A complete answer with its Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """Close with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll until the condition holds; fail the test if it does not within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)
