"""A connection that carries bytes over TCP or TLS, where each operation gets the time that is left until a deadline.

With a fixed timeout for each operation, a peer that sends a byte now and then could delay a call without limit.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

from urllib3.util.ssltransport import SSLTransport

from zcli_core.http.contract import MAX_HEAD_BYTES
from zcli_core.http.parts import failures
from zcli_core.net import connecting
from zcli_core.net.client_tls import is_end
from zcli_core.net.connecting import remaining

_BLOCK = 64 * 1024
_LONGEST_LINE = 64 * 1024
_START = b"HTTP/"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class StreamEndError(Exception):
    """The connection ended before the data that was to be read."""


class Stream:
    """A connection with a buffer. Reading raises :class:`StreamEndError` at its end.

    Attributes:
        has_received: Whether any data was received since :meth:`begin`.
        continue_sending: Called before the stream waits for more of a body. It returns when there is something to read
            or the whole request is sent. None if the request is sent.
    """

    __slots__ = (
        "_buffer",
        "_carrier",
        "_deadline",
        "_is_tls",
        "_position",
        "_socket",
        "continue_sending",
        "has_received",
    )

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket: Any = sock
        self._carrier: _Carrier | None = None
        self._is_tls = False
        self._deadline = deadline
        self._buffer = b""
        self._position = 0
        self.has_received = False
        self.continue_sending: Callable[[], None] | None = None

    def begin(self, deadline: float) -> None:
        """Begin another request, which has until ``deadline``."""
        self._deadline = deadline
        self.has_received = False
        self.continue_sending = None
        if self._carrier is not None:
            self._carrier.deadline = deadline

    def encrypt(self, context: ssl.SSLContext, host: str) -> None:
        """Begin TLS, within the TLS connection if there is one. The peer's certificate must be valid for ``host``.

        Raises:
            TransportFailure: ``tls``: unencrypted data was received before. An attacker could have sent it.
            OSError: The handshake failed. ``ssl.SSLError`` is an OSError.
        """
        if self._position < len(self._buffer):
            raise failures.insecure(host, "unencrypted data was received before the TLS handshake")
        name = host.partition("%")[0].rstrip(".")
        # The end of a TLS connection without a close_notify may be forged (RFC 9112, section 9.8).
        if self._is_tls:
            self._carrier = _Carrier(self._socket, self._deadline)
            self._socket = SSLTransport(self._carrier, context, name, suppress_ragged_eofs=False)  # type: ignore[arg-type]
        else:
            self._socket.settimeout(remaining(self._deadline))
            # A separate handshake: the exception of a signal handler within wrap_socket() would leave the socket open.
            self._socket = context.wrap_socket(
                self._socket, server_hostname=name, suppress_ragged_eofs=False, do_handshake_on_connect=False
            )
            self._socket.do_handshake()
        self._is_tls = True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    # --- sending ---

    def send(self, data: bytes | memoryview) -> int:
        """Send until everything is sent or there is something to read; return the number of bytes sent.

        A server may respond before it has read the whole request, and read no further.
        """
        sent, size = 0, len(data)
        view = memoryview(data)
        while True:
            seconds = remaining(self._deadline)
            try:
                self._socket.settimeout(0)
                sent += self._socket.send(view[sent : sent + _BLOCK])
                seconds = 0.0
            except _WOULD_BLOCK:
                pass
            if sent == size or self.has_input(seconds):
                return sent

    def has_input(self, seconds: float = 0.0) -> bool:
        """Wait until data can be read or sent; return whether there is data to read, or the end of the connection."""
        if self._position < len(self._buffer):
            return True
        # TLS comes before the socket, because it may hold the rest of a record that was read from the socket.
        if self._is_tls:
            if self._take_decrypted():
                return True
            if not seconds:
                return False
        ready = connecting.wait_for(self._socket.fileno(), connecting.READABLE | connecting.WRITABLE, seconds)
        if not ready & ~connecting.WRITABLE:
            return False
        return not self._is_tls or self._take_decrypted()

    def _take_decrypted(self) -> bool:
        """Buffer the data that TLS has; return whether there was any. It may have received session tickets only."""
        try:
            self._socket.settimeout(0)
            self._take(self._read_socket(_BLOCK))
        except _WOULD_BLOCK:
            return False
        return True

    # --- reading ---

    def read_head(self) -> bytes:
        """Read the head of a response; return it without its empty line.

        Raises:
            TransportFailure: ``protocol``: the first bytes are not those of a status line; ``too_large``.
        """
        searched = 0
        self._take(b"")
        while True:
            if not self._buffer.startswith(_START[: len(self._buffer)]):
                raise failures.no_status_line(self._buffer[:80].partition(b"\n")[0].decode("latin-1"))
            end = _END_OF_HEAD.search(self._buffer, searched)
            if (len(self._buffer) if end is None else end.start()) > MAX_HEAD_BYTES:
                raise failures.head_too_large()
            if end is not None:
                self._position = end.end()
                return self._buffer[: end.start() + 1]
            searched = max(0, len(self._buffer) - 2)
            self._take(self._receive())

    def read_line(self) -> bytes:
        """Read a line; return it with its end.

        Raises:
            TransportFailure: ``protocol``: the line is too long.
        """
        while True:
            end = self._buffer.find(b"\n", self._position) + 1
            if (end or len(self._buffer)) - self._position > _LONGEST_LINE:
                raise failures.invalid("a line of its chunked body is too long")
            if end:
                line = self._buffer[self._position : end]
                self._position = end
                return line
            if not self._has_received_while_sending():
                self._take(self._receive())

    def read(self, most: int) -> bytes:
        """Read and return at least one byte and at most ``most``."""
        if self._position == len(self._buffer) and not self._has_received_while_sending():
            return self._receive(min(most, _BLOCK))
        data = self._buffer[self._position : self._position + most]
        self._position += len(data)
        return data

    def _has_received_while_sending(self) -> bool:
        """Continue to send the request if it is not complete; return whether data was buffered meanwhile."""
        if self.continue_sending is None or self._position < len(self._buffer):
            return False
        self.continue_sending()
        return self._position < len(self._buffer)

    def _receive(self, most: int = _BLOCK) -> bytes:
        self._socket.settimeout(remaining(self._deadline))
        data = self._read_socket(most)
        if not data:
            raise StreamEndError
        self.has_received = True
        return data

    def _read_socket(self, most: int) -> bytes:
        try:
            data: bytes = self._socket.recv(most)
        except ssl.SSLError as error:
            if is_end(error) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
                raise ssl.SSLEOFError(*error.args) from error
            raise
        return data

    def _take(self, data: bytes) -> None:
        """Add data to the buffer, and remove what was read from it."""
        self._buffer = self._buffer[self._position :] + data
        self._position = 0
        self.has_received = self.has_received or bool(data)


class _Carrier:
    """The TLS connection to a proxy that carries another TLS connection. SSLTransport needs ``sendall()``."""

    def __init__(self, sock: Any, deadline: float) -> None:
        self._socket = sock
        self._waits = True
        self.deadline = deadline

    def settimeout(self, value: float) -> None:
        """Make ``recv()`` wait until the deadline, or return at once if the timeout is 0."""
        self._waits = value > 0

    def recv(self, size: int) -> Any:
        """Receive data; see :meth:`settimeout`."""
        self._socket.settimeout(remaining(self.deadline) if self._waits else 0)
        return self._socket.recv(size)

    def sendall(self, data: bytes) -> None:
        """Send all of the data before the deadline."""
        sent = 0
        while sent < len(data):
            self._socket.settimeout(remaining(self.deadline))
            sent += self._socket.send(data[sent:])

    def fileno(self) -> int:
        """Return the file descriptor, for waiting."""
        return int(self._socket.fileno())

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
