"""The other side of an HTTP transport: servers that do what a script says, each on a free loopback port, in threads.

::

    with ScriptedServer(answering(response(b"hello"))) as server:
        fetch(server.url)
        assert server.requests[0].target == "/"

A script is a function ``(server, connection) -> None`` that reads and writes a socket as it likes. It runs once for
each connection, in a thread of its own; when it returns, or the other side has gone, the connection is closed.
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
    """A request as it came in, byte for byte, and what it says. Empty, and so false, if the client had gone."""

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
        """What stands between method and version in the request line."""
        return self._parts[0].split("\r\n", 1)[0].split(" ", 2)[1]

    @cached_property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields in order, names and values as they came, without the white space around a value."""
        lines = self._parts[0].split("\r\n")[1:]
        return [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for field, value in self.fields if field.lower() == name.lower()]

    @cached_property
    def body(self) -> bytes:
        """The body, with the chunks put together."""
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
    """Runs a script for every connection, from ``with`` on until its end.

    - ``url``: where it is, without a path, as in ``http://127.0.0.1:40123``; ``port``
    - ``requests``: what :meth:`read_request` has read, oldest first
    - ``connections``: how many came; ``closed``: how many of them are over
    - ``closing``: set when the server ends; a script that waits for nothing in particular waits for this
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        """``tls``: speak TLS, as :func:`~zcli_core.testing.certificates.server_tls` makes it."""
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
        """One request, head and body; an empty one if the client has gone, or goes before its end."""
        with connection.makefile("rb") as reader:
            request = ReceivedRequest(_read_message(reader))
        if request:
            self.requests.append(request)
        return request

    def trickle(self, connection: socket.socket, data: bytes = b"a", every: float = 0.05) -> None:
        """Send the same few bytes again and again until the client or the test is gone."""
        while not self.closing.wait(every):
            connection.sendall(data)

    def hold(self, connection: socket.socket) -> None:
        """Keep the connection open and say nothing until the client or the test is gone."""
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
            last.connect(self._listener.getsockname())  # wakes accept(), which closing alone does not
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *self._threads):
            thread.join(timeout=5)


def _read_message(reader: io.BufferedReader) -> bytes:
    """A head and the body that it announces, as they come in; nothing if they end early."""
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
    """Give these answers to the requests of the whole server in turn, then the last one for ever.

    ``keep_open``: False closes each connection after one answer.
    """
    count = itertools.count()

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        while server.read_request(connection):
            connection.sendall(responses[min(next(count), len(responses) - 1)])
            if not keep_open:
                return

    return script


def after_request(then: Script) -> Script:
    """Read one request, then do this."""

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        if server.read_request(connection):
            then(server, connection)

    return script


# --- bytes to answer with ---


def response(body: bytes = b"ok", status: str = "200 OK", *headers: str) -> bytes:
    """A complete answer with its Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, headers: tuple[str, ...] = (), end: bytes = b"0\r\n\r\n") -> bytes:
    """A complete answer in chunks."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body + end


# --- ports and waiting ---


def reset(connection: socket.socket) -> None:
    """Close with a TCP reset."""
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
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
