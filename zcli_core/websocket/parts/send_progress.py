"""How many of the sent bytes have reached the client.

asyncio counts the bytes that it has not passed to the operating system. Linux also counts the bytes that the client's
side has acknowledged, and those that it has not. Both counts are needed: several megabytes may wait in the system.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

#: Bytes that a TLS transport may hold in addition to those that it counts; see :mod:`.sending`.
_TLS_UNCOUNTED = 256 * 1024

#: Bytes that the system always accepts: while no more than these wait, TLS holds none.
_SYSTEM_ACCEPTS = 4096

#: Offset of ``tcpi_bytes_acked``, 8 bytes, in ``struct tcp_info``, since Linux 4.1.
_ACKNOWLEDGED_AT = 120


class SendProgress:
    """The delivery of the bytes that were waiting when this was made.

    On systems that do not count acknowledged bytes, bytes count as delivered when the system has accepted them.
    """

    __slots__ = ("_seen", "_target", "_transport")

    def __init__(self, transport: asyncio.Transport, waiting: int) -> None:
        self._transport = transport
        self._seen = self._delivered()
        if waiting > _SYSTEM_ACCEPTS and transport.get_extra_info("sslcontext") is not None:
            waiting += _TLS_UNCOUNTED
        self._target = self._seen + waiting

    @classmethod
    def of_waiting_bytes(cls, transport: asyncio.Transport) -> SendProgress | None:
        """Follow the bytes that wait now; None if there are none."""
        waiting = _waiting(transport)
        return cls(transport, waiting) if waiting else None

    def is_complete(self) -> bool:
        """Return whether all of the bytes have been delivered."""
        return self._delivered() >= self._target or not _waiting(self._transport)

    def has_advanced(self) -> bool:
        """Return whether some of the bytes have been delivered since the last call."""
        before, self._seen = self._seen, self._delivered()
        return before < self._target and self._seen > before

    def _delivered(self) -> int:
        """Return a number that grows by one for each byte that is delivered."""
        acknowledged = _acknowledged(self._transport.get_extra_info("socket"))
        return -self._transport.get_write_buffer_size() if acknowledged is None else acknowledged


def _waiting(transport: asyncio.Transport) -> int:
    """Return how many bytes were sent and are not known to be delivered."""
    sock = transport.get_extra_info("socket")
    in_the_system = 0 if _acknowledged(sock) is None else _unacknowledged(sock)
    return transport.get_write_buffer_size() + in_the_system


def _acknowledged(sock: Any) -> int | None:
    """Return how many bytes the client's side has acknowledged; None if the system does not count them."""
    if sys.platform != "linux" or sock is None or sock.family == socket.AF_UNIX:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
        (acknowledged,) = struct.unpack_from("=Q", info, _ACKNOWLEDGED_AT)
    except (OSError, struct.error):  # the connection is gone, or the system is old
        return None
    return acknowledged or None  # every open connection has had its upgrade acknowledged


def _unacknowledged(sock: Any) -> int:
    """Return how many bytes the system has accepted and the client's side has not acknowledged; 0 if unknown."""
    if sys.platform != "linux" or sock is None:
        return 0
    import fcntl
    import termios

    try:
        (count,) = struct.unpack("=i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):
        return 0
    return int(count)
