"""Sockets that keep a deadline: every single operation gets the time that is left, not a timeout of its own.

A timeout for each operation lets a peer that sends a byte now and then hold a call for as long as it likes.
"""

from __future__ import annotations

import io
import math
import socket
import time
from typing import Any, Protocol

# A socket's timeout cannot hold arbitrarily large numbers.
_LONGEST = 1e6


def remaining(deadline: float) -> float:
    """Seconds left until a deadline of :func:`time.monotonic`. Raises TimeoutError if there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the deadline passed")
    return min(seconds, _LONGEST)


class DeadlineSocket(socket.socket):
    """A TCP socket with a ``deadline``; ``received`` tells whether anything came in since it was last set to 0."""

    deadline: float = math.inf
    received: int = 0

    def settimeout(self, value: float | None) -> None:
        """Ignored: urllib3 sets timeouts for single operations, and the deadline stands above them."""

    def gettimeout(self) -> float | None:
        """The time left, which an SSL socket made from this one takes over for its handshake."""
        return remaining(self.deadline)

    def _arm(self) -> None:
        super().settimeout(remaining(self.deadline))

    def connect(self, address: Any) -> None:
        """Connect before the deadline."""
        self._arm()
        super().connect(address)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive before the deadline."""
        self._arm()
        count = super().recv_into(buffer, nbytes, flags)
        self.received += count
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send everything before the deadline."""
        self._arm()
        super().sendall(data, flags)


class _TlsSocket(Protocol):
    """What ``ssl.SSLSocket`` and urllib3's ``SSLTransport`` have in common."""

    def settimeout(self, value: float | None) -> None: ...
    def recv(self, buflen: int = ..., flags: int = ...) -> bytes: ...
    def recv_into(self, buffer: Any, nbytes: int | None = ..., flags: int = ...) -> int: ...
    def send(self, data: Any, flags: int = ...) -> int: ...
    def fileno(self) -> int: ...
    def shutdown(self, how: int) -> None: ...
    def close(self) -> None: ...


class DeadlineTls:
    """Holds a TLS socket to a deadline, as :class:`DeadlineSocket` does for plain ones.

    It wraps, for the class of a TLS socket is chosen by its context, and truststore's contexts have their own.
    """

    def __init__(self, tls: _TlsSocket, deadline: float) -> None:
        self._tls = tls
        self.deadline = deadline
        self.received = 0
        self._readers = 0
        self._closed = False

    def settimeout(self, value: float | None) -> None:
        """Ignored, as in :class:`DeadlineSocket`."""

    def gettimeout(self) -> float | None:
        """The time left."""
        return remaining(self.deadline)

    def recv(self, count: int, flags: int = 0) -> bytes:
        """Receive before the deadline."""
        self._tls.settimeout(remaining(self.deadline))
        data = self._tls.recv(count, flags)
        self.received += len(data)
        return data

    def recv_into(self, buffer: Any) -> int:
        """Receive before the deadline."""
        self._tls.settimeout(remaining(self.deadline))
        count = self._tls.recv_into(buffer)
        self.received += count
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send everything before the deadline."""
        with memoryview(data).cast("B") as view:
            sent = 0
            while sent < len(view):
                self._tls.settimeout(remaining(self.deadline))
                sent += self._tls.send(view[sent:])

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        """A buffered reader; the socket is closed for good when it and its readers are."""
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def reader_closed(self) -> None:
        """One of the readers is done."""
        self._readers -= 1
        if self._closed and not self._readers:
            self._tls.close()

    def fileno(self) -> int:
        """The file descriptor, for waiting."""
        return self._tls.fileno()

    def shutdown(self, how: int) -> None:
        """Shut one or both directions down."""
        self._tls.shutdown(how)

    def close(self) -> None:
        """Close, as soon as no reader is left."""
        self._closed = True
        if not self._readers:
            self._tls.close()


class _Reader(io.RawIOBase):
    """Reads from a :class:`DeadlineTls`."""

    def __init__(self, tls: DeadlineTls) -> None:
        super().__init__()
        self._socket = tls

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._socket.reader_closed()
