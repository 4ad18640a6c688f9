"""Data that the system had received when a connection was lost."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import ssl

#: Bytes of one read.
_READ_SIZE = 64 * 1024


class UnreadData:
    """What the system had received when the connection was lost, and the event loop had not read.

    An event loop closes the socket when a write fails, even if messages are waiting to be read.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._descriptor: int | None = None
        self._first = b""
        try:
            if self._tls is None:
                descriptor = transport.get_extra_info("socket").fileno()
                self._first = os.read(descriptor, _READ_SIZE)
                if self._first:
                    self._descriptor = os.dup(descriptor)  # the loop closes its own right after this call
            else:
                self._first = self._tls.read(_READ_SIZE)
        except (OSError, ValueError, AttributeError):
            pass

    def __bool__(self) -> bool:
        """Return whether there is any such data."""
        return bool(self._first)

    def read(self) -> bytes:
        """Return the next bytes; empty at the end. Of a TLS connection, only data that is decrypted already."""
        first, self._first = self._first, b""
        if first:
            return first
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                return self._tls.read(_READ_SIZE)
            if self._descriptor is not None:
                return os.read(self._descriptor, _READ_SIZE)
        return b""

    def close(self) -> None:
        """Release the socket."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
