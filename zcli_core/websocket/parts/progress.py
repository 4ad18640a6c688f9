"""How far the bytes that were sent on a connection have got.

asyncio tells how many bytes it has not passed on to the operating system. On Linux, the system tells how many bytes the
client's side has acknowledged, and how many it has not. That counts: several megabytes may wait in the system.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

#: Bytes that a TLS transport may hold beside those that it counts; see :mod:`.sending`.
_TLS_UNCOUNTED = 256 * 1024

#: Bytes that the system always takes: while no more than these wait, TLS holds none.
_SYSTEM_TAKES = 4096

#: Where ``struct tcp_info`` has ``tcpi_bytes_acked``, 8 bytes, since Linux 4.1.
_ACKNOWLEDGED_AT = 120


class Delivery:
    """Follows the bytes that were waiting to be delivered when it was made.

    Where the system does not tell more, bytes count as delivered when the system has taken them.
    """

    __slots__ = ("_seen", "_target", "_transport")

    def __init__(self, transport: asyncio.Transport, waiting: int) -> None:
        self._transport = transport
        self._seen = self._delivered()
        if waiting > _SYSTEM_TAKES and transport.get_extra_info("sslcontext") is not None:
            waiting += _TLS_UNCOUNTED
        self._target = self._seen + waiting

    @classmethod
    def of_what_waits(cls, transport: asyncio.Transport) -> Delivery | None:
        """Follow what waits now; None if nothing does."""
        waiting = _waiting(transport)
        return cls(transport, waiting) if waiting else None

    def is_complete(self) -> bool:
        """Whether all of it has been delivered."""
        return self._delivered() >= self._target or not _waiting(self._transport)

    def has_advanced(self) -> bool:
        """Whether some of it has been delivered since this was last asked."""
        before, self._seen = self._seen, self._delivered()
        return before < self._target and self._seen > before

    def _delivered(self) -> int:
        """A number that grows by one for each byte that is delivered."""
        acknowledged = _acknowledged(self._transport.get_extra_info("socket"))
        return -self._transport.get_write_buffer_size() if acknowledged is None else acknowledged


def _waiting(transport: asyncio.Transport) -> int:
    """Bytes that were sent and are not known to be delivered."""
    sock = transport.get_extra_info("socket")
    in_the_system = 0 if _acknowledged(sock) is None else _unacknowledged(sock)
    return transport.get_write_buffer_size() + in_the_system


def _acknowledged(sock: Any) -> int | None:
    """Bytes that the client's side has acknowledged so far; None if the system does not tell."""
    if sys.platform != "linux" or sock is None or sock.family == socket.AF_UNIX:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
        (acknowledged,) = struct.unpack_from("=Q", info, _ACKNOWLEDGED_AT)
    except (OSError, struct.error):  # the connection is gone, or the system is old
        return None
    return acknowledged or None  # every open connection has had its upgrade acknowledged


def _unacknowledged(sock: Any) -> int:
    """Bytes that the system has taken and the client's side has not acknowledged; 0 if the system does not tell."""
    if sys.platform != "linux" or sock is None:
        return 0
    import fcntl
    import termios

    try:
        (count,) = struct.unpack("=i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):
        return 0
    return int(count)
