"""Servers for tests of HTTP transports: each runs a script on a free loopback port, in threads.

::

    with ScriptedServer(responding(response(b"hello"))) as server:
        fetch(server.url)
        assert server.requests[0].target == "/"

A script is a function ``(server, connection) -> None`` that reads from and writes to a socket. It runs for each
connection in a thread of its own. When it returns, or the client closes, the connection is closed.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import cached_property
from types import TracebackType

Script = Callable[["ScriptedServer", socket.socket], None]

_BLOCK = 64 * 1024
_LONGEST_LINE = 1024 * 1024


class ReceivedRequest(bytes):
    """A request as the server received it, and its parts. It is empty, and so false, if the client had closed."""

    @cached_property
    def _parts(self) -> tuple[str, bytes]:
        head, _, rest = self.partition(b"\r\n\r\n")
        return head.decode("latin-1"), rest

    @property
    def method(self) -> str:
        """The method in the request line."""
        return self._parts[0].split(" ", 1)[0]

    @property
    def target(self) -> str:
        """The target in the request line."""
        return self._parts[0].split("\r\n", 1)[0].split(" ", 2)[1]

    @cached_property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields in order, as they were received, without the white space around values."""
        lines = self._parts[0].split("\r\n")[1:]
        return [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]

    def all(self, name: str) -> list[str]:
        """Return every value of a header, in order."""
        return [value for field, value in self.fields if field.lower() == name.lower()]

    @cached_property
    def body(self) -> bytes:
        """The body without its chunk framing."""
        rest = self._parts[1]
        if not self.all("transfer-encoding"):
            return rest
        chunks = []
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            chunks.append(rest[:length])
            rest = rest[length + 2 :] if length else b""
        return b"".join(chunks)


class ScriptedServer:
    """Runs a script for every connection while it is used as a context manager.

    Attributes:
        url: The URL of the server without a path, such as ``http://127.0.0.1:40123``.
        port: The port of the server.
        requests: The requests that :meth:`read_request` has read, oldest first.
        connections: The number of connections that were accepted.
        closed: The number of connections that have ended.
        closing: An event that is set when the server ends. A script can wait for it.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        """Start the server.

        Args:
            script: Called for each connection.
            tls: A TLS context such as that of :func:`~zcli_core.testing.certificates.server_tls`; None for no TLS.
            host: A loopback address.
        """
        self._script = script
        self._tls = tls
        self.connections = 0
        self.closed = 0
        self.requests: list[ReceivedRequest] = []
        self.closing = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=64)
        self.port: int = self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}"
        self._counting = threading.Lock()
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
                if self._tls is not None:
                    plain = connection
                    connection = self._tls.wrap_socket(plain, server_side=True)
                    self._open.discard(plain)
                    self._open.add(connection)
                self._script(self, connection)
        finally:
            self._open.discard(connection)
            connection.close()
            with self._counting:
                self.closed += 1

    # --- what scripts do ---

    def read_request(self, connection: socket.socket) -> ReceivedRequest:
        """Read one request, head and body. The result is empty if the client closes before its end."""
        with connection.makefile("rb") as reader:
            request = ReceivedRequest(_read_message(reader))
        if request:
            self.requests.append(request)
        return request

    def trickle(self, connection: socket.socket, data: bytes = b"a", every: float = 0.05) -> None:
        """Send the same few bytes again and again until the client closes or the test ends."""
        while not self.closing.wait(every):
            connection.sendall(data)

    def hold(self, connection: socket.socket) -> None:
        """Keep the connection open and send nothing until the client closes or the test ends."""
        connection.settimeout(0.05)
        while not self.closing.is_set():
            try:
                if not connection.recv(_BLOCK):
                    return
            except TimeoutError:
                continue

    # --- as a context manager ---

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with contextlib.suppress(OSError), socket.socket(self._listener.family) as last:
            last.connect(self._listener.getsockname())  # wakes accept(), which close() does not
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *self._threads):
            thread.join(timeout=5)


def _read_message(reader: io.BufferedReader) -> bytes:
    """Read a head and the body that it announces; return nothing if they end early."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline(_LONGEST_LINE)
        if not line:
            return b""
        head += line
    length = re.search(rb"(?im)^content-length:[ \t]*(\d+)", head)
    if length is not None:
        body = reader.read(int(length[1]))
        return head + body if len(body) == int(length[1]) else b""
    if re.search(rb"(?im)^transfer-encoding:", head) is None:
        return head
    chunks = [head]
    while chunks[-1] != b"0\r\n\r\n":
        line = reader.readline(_LONGEST_LINE)
        size = int(line.split(b";")[0] or b"0", 16) + 2  # the line break after a chunk
        chunk = reader.read(size)
        if len(chunk) < size:
            return b""
        chunks.append(line + chunk)
    return b"".join(chunks)


# --- scripts ---


def responding(*responses: bytes, keep_open: bool = True) -> Script:
    """Return a script that sends these responses to all requests of the server in turn, then always the last one.

    Args:
        responses: The bytes of each response.
        keep_open: False closes each connection after one response.
    """
    count = itertools.count()

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        while server.read_request(connection):
            connection.sendall(responses[min(next(count), len(responses) - 1)])
            if not keep_open:
                return

    return script


def after_request(then: Script) -> Script:
    """Return a script that reads one request and then runs another script."""

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        if server.read_request(connection):
            then(server, connection)

    return script


# --- bytes of responses ---


def response(body: bytes = b"ok", status: str = "200 OK", *headers: str) -> bytes:
    """Return a complete response with Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, headers: tuple[str, ...] = (), end: bytes = b"0\r\n\r\n") -> bytes:
    """Return a complete response in chunks."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body + end


# --- ports and waiting ---


def reset(connection: socket.socket) -> None:
    """Close a connection with a TCP reset."""
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


def closed_port() -> int:
    """Return a port that no server listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds; fail the test if it does not hold within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)
