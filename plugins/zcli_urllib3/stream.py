"""Bytes to and from a peer, over TCP or TLS, held to a deadline: every single operation gets the time that is left.

A timeout for each operation would let a peer that sends a byte now and then hold a call for as long as it likes.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

from urllib3.util.ssltransport import SSLTransport

from zcli_core.http.parts import failures
from zcli_core.http.parts.heads import MAX_HEAD_BYTES
from zcli_core.net import connecting
from zcli_core.net.connecting import remaining
from zcli_core.net.tls import is_end

_BLOCK = 64 * 1024
_LONGEST_LINE = 64 * 1024
_START = b"HTTP/"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class StreamEndError(Exception):
    """The connection ended before what was to be read."""


class Stream:
    """A connection with a buffer. Reading raises :class:`StreamEndError` where it ends.

    ``has_received`` says whether anything came since :meth:`begin`. ``go_on_sending`` is called before waiting for more
    of a body, and returns when there is something to read or all is sent.
    """

    __slots__ = ("_buffer", "_carrier", "_deadline", "_is_tls", "_position", "_socket", "go_on_sending", "has_received")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket: Any = sock
        self._carrier: _Carrier | None = None
        self._is_tls = False
        self._deadline = deadline
        self._buffer = b""
        self._position = 0
        self.has_received = False
        self.go_on_sending: Callable[[], None] | None = None

    def begin(self, deadline: float) -> None:
        """Another exchange begins, which has until ``deadline``."""
        self._deadline = deadline
        self.has_received = False
        self.go_on_sending = None
        if self._carrier is not None:
            self._carrier.deadline = deadline

    def encrypt(self, context: ssl.SSLContext, host: str) -> None:
        """Begin TLS with a host, within TLS if there is some already. Its certificate must be for the host.

        Raises TransportFailure of kind ``tls`` if something came before: its sender could answer for the host.
        """
        if self._position < len(self._buffer):
            raise failures.insecure(host, "something came in the clear where TLS was to begin")
        name = host.partition("%")[0].rstrip(".")
        # The end of a TLS connection without a close_notify may be forged (RFC 9112, section 9.8).
        if self._is_tls:
            self._carrier = _Carrier(self._socket, self._deadline)
            self._socket = SSLTransport(self._carrier, context, name, suppress_ragged_eofs=False)  # type: ignore[arg-type]
        else:
            self._socket.settimeout(remaining(self._deadline))
            # The handshake comes after: a signal's exception in it would leave the socket open.
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
        """Send until all is sent, or the peer has sent something; the number of bytes that were sent.

        A response may come before the request has ended, and its sender may read no further.
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
        """Wait until something can be read or sent; whether there is something to read, be it the end."""
        if self._position < len(self._buffer):
            return True
        # TLS is asked before the socket: it holds what came in one record with the last that was read.
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
        """Buffer what TLS has; whether it had anything. What came may be housekeeping, such as session tickets."""
        try:
            self._socket.settimeout(0)
            self._take(self._read_socket(_BLOCK))
        except _WOULD_BLOCK:
            return False
        return True

    # --- reading ---

    def read_head(self) -> bytes:
        """The head of a response without its empty line.

        Raises TransportFailure: ``protocol`` as soon as it is clear that there is none, ``too_large``.
        """
        searched = 0
        self._take(b"")
        while True:
            if not self._buffer.startswith(_START[: len(self._buffer)]):
                line = self._buffer[:80].partition(b"\n")[0].decode("latin-1")
                raise failures.invalid(f"it does not begin with a status: {failures.one_line(line)!r}")
            end = _END_OF_HEAD.search(self._buffer, searched)
            if (len(self._buffer) if end is None else end.start()) > MAX_HEAD_BYTES:
                raise failures.head_too_large(f"{MAX_HEAD_BYTES // 1024} KiB")
            if end is not None:
                self._position = end.end()
                return self._buffer[: end.start() + 1]
            searched = max(0, len(self._buffer) - 2)
            self._take(self._receive())

    def read_line(self) -> bytes:
        """A line with its end. Raises TransportFailure of kind ``protocol`` if it is too long."""
        while True:
            end = self._buffer.find(b"\n", self._position) + 1
            if (end or len(self._buffer)) - self._position > _LONGEST_LINE:
                raise failures.invalid("a line of its chunked body is too long")
            if end:
                line = self._buffer[self._position : end]
                self._position = end
                return line
            if not self._has_come_while_sending():
                self._take(self._receive())

    def read(self, most: int) -> bytes:
        """What comes next, at least one byte and ``most`` at most."""
        if self._position == len(self._buffer) and not self._has_come_while_sending():
            return self._receive(min(most, _BLOCK))
        data = self._buffer[self._position : self._position + most]
        self._position += len(data)
        return data

    def _has_come_while_sending(self) -> bool:
        """Send what is left of the request, if it is to be sent; whether anything was buffered meanwhile."""
        if self.go_on_sending is None or self._position < len(self._buffer):
            return False
        self.go_on_sending()
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
        """Add to what is buffered, and forget what was read."""
        self._buffer = self._buffer[self._position :] + data
        self._position = 0
        self.has_received = self.has_received or bool(data)


class _Carrier:
    """The socket below a TLS connection within another: it sends all or fails, as SSLTransport needs it."""

    def __init__(self, sock: Any, deadline: float) -> None:
        self._socket = sock
        self._waits = True
        self.deadline = deadline

    def settimeout(self, value: float) -> None:
        """Whether receiving waits; the deadline stands above any timeout."""
        self._waits = value > 0

    def recv(self, size: int) -> Any:
        """Receive before the deadline, or at once."""
        self._socket.settimeout(remaining(self.deadline) if self._waits else 0)
        return self._socket.recv(size)

    def sendall(self, data: bytes) -> None:
        """Send everything before the deadline."""
        sent = 0
        while sent < len(data):
            self._socket.settimeout(remaining(self.deadline))
            sent += self._socket.send(data[sent:])

    def fileno(self) -> int:
        """The file descriptor, for waiting."""
        return int(self._socket.fileno())

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
