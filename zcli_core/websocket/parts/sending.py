"""The sending half of an open connection: bursts in one write, slow readers, pings."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import TYPE_CHECKING, Any

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.contract import Cause, Closed, ClosedBy, State
from zcli_core.websocket.parts.frames import FIN, PING, frame
from zcli_core.websocket.parts.pings import Pings

if TYPE_CHECKING:
    from collections.abc import Callable

    from zcli_core.websocket.parts.listening import AsyncioListener

OPEN = State.OPEN

#: Bytes that wait for the client before ``write_paused``: asyncio's own value for connections without TLS. It is less
#: where ``max_send_buffer`` is small, and so is the next one.
HIGH_WATER = 64 * 1024

#: Bytes that are collected at most.
CORK_SIZE = 256 * 1024

#: What a frame that is collected adds to its bytes, so that at most 32 are.
_BYTES_FOR_A_FRAME = CORK_SIZE // 32

#: Bytes that a TLS transport is given at once: it counts only what it could not pass on to the socket's transport.
_TLS_PIECE = 64 * 1024


def _write_in_pieces(write: Callable[[bytes | memoryview], None], is_lost: Callable[[], bool], data: bytes) -> None:
    """Write to a TLS transport so that it notices between two pieces that the client does not keep up."""
    if len(data) <= _TLS_PIECE:
        write(data)
        return
    view = memoryview(data)
    for at in range(0, len(data), _TLS_PIECE):
        if is_lost():
            break
        write(view[at : at + _TLS_PIECE])


def _innermost(transport: asyncio.Transport) -> asyncio.Transport:
    """The transport that writes to the socket: asyncio's TLS transport has one within, and does not tell of its end.

    There is no public way to it. Where it is not found, the TLS transport has to do.
    """
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return inner if isinstance(inner, asyncio.Transport) else transport


def release_buffer(transport: asyncio.Transport | None) -> None:
    """Free the buffer of 256 KiB that asyncio has for each TLS connection, once the connection is lost.

    It would else stay until the garbage collector runs, which counts objects and not their size, because what belongs
    to a connection refers to each other. There is no public way to it; asyncio makes a new one if it needs one.
    """
    protocol: Any = getattr(transport, "_ssl_protocol", None)
    if isinstance(getattr(protocol, "_ssl_buffer", None), bytearray):
        protocol._ssl_buffer = bytearray()
        protocol._ssl_buffer_view = memoryview(protocol._ssl_buffer)


class Sender(asyncio.BufferedProtocol):
    """What a connection needs to send; :class:`.connection.AsyncioConnection` receives and closes.

    A transport's own ``send`` and ``send_prepared`` hand whole frames to :meth:`_push`, or to ``_write`` where
    ``_corked`` is None and ``_is_lost()`` is false, and then ask :meth:`_too_slow` while :attr:`write_paused`. So
    ``max_send_buffer`` holds for everything that waits: in the cork, in the transport, and inside TLS.
    """

    __slots__ = (
        "_closed", "_cork_room", "_corked", "_drained", "_is_lost", "_listener", "_pings", "_transport", "_write",
        "latency", "state", "write_paused",
    )  # fmt: skip

    def __init__(self, listener: AsyncioListener[Any], transport: asyncio.Transport) -> None:
        self._listener = listener
        self._transport = transport
        #: Whether a write has failed, which the loop reports later. It would log every further write to stderr.
        self._is_lost = _innermost(transport).is_closing
        self._write: Callable[[bytes], None] = transport.write
        tls = transport.get_extra_info("sslcontext") is not None
        if tls:
            self._write = functools.partial(_write_in_pieces, transport.write, self._is_lost)
        if tls or listener.high_water < HIGH_WATER:
            transport.set_write_buffer_limits(high=listener.high_water)
        self.state = OPEN
        self.latency = 0.0
        self.write_paused = False
        #: Frames that wait for the end of the current burst; None outside one.
        self._corked: list[bytes] | None = None
        #: Bytes that may still be added to them.
        self._cork_room = listener.cork_size
        self._drained: asyncio.Future[None] | None = None
        self._pings: Pings | None = None
        self._closed: Closed | None = None

    def _close(self, closed: Closed) -> None:
        """Start the close handshake."""
        raise NotImplementedError

    @property
    def write_buffer_size(self) -> int:
        """Bytes that the operating system has not taken yet."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._corked or ()))

    # Bursts -------------------------------------------------------------------------------------------------------

    def _push(self, data: bytes) -> None:
        """Write a frame in its turn."""
        if self._corked is None:
            if not self._is_lost():
                self._write(data)
            return
        self._corked.append(data)
        room = self._cork_room - len(data) - _BYTES_FOR_A_FRAME
        self._cork_room = room
        if room <= 0:
            self._flush()

    def _flush(self) -> None:
        corked = self._corked
        if corked:
            data = b"".join(corked) if len(corked) > 1 else corked[0]
            corked.clear()
            self._cork_room = self._listener.cork_size
            if not self._is_lost():
                self._write(data)

    def _uncork(self) -> None:
        self._flush()
        self._corked = None

    # Slow readers -------------------------------------------------------------------------------------------------

    def _too_slow(self) -> bool:
        """Close a client that has left too much unread."""
        limit = self._listener.limits.max_send_buffer
        if self.write_buffer_size <= limit:
            return False
        self._close(Closed(1013, f"more than {limit} bytes left unread", ClosedBy.SERVER, Cause.SLOW))
        return True

    def pause_writing(self) -> None:
        """The client reads too slowly (asyncio)."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The client has caught up (asyncio)."""
        self.write_paused = False
        self._wake_drained()

    async def drain(self) -> None:
        """Wait until the client has caught up."""
        while self.write_paused and self.state is OPEN:
            if self._drained is None:
                self._drained = self._listener.loop.create_future()
            await asyncio.shield(self._drained)
        if self.state is not OPEN:
            raise self._closed_error()

    def _wake_drained(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    # Pings --------------------------------------------------------------------------------------------------------

    def ping(self, payload: bytes | None = None) -> asyncio.Future[float]:
        """Send a ping; the future gives the seconds until its answer."""
        if self.state is not OPEN:
            raise self._closed_error()
        if payload is None:
            payload = os.urandom(4)
        if len(payload) > 125:
            raise ValueError(f"the payload of a ping is at most 125 bytes, not {len(payload)} (RFC 6455, 5.5)")
        if self._pings is not None and payload in self._pings:
            raise ValueError("a ping with that payload is still unanswered")
        future: asyncio.Future[float] = self._listener.loop.create_future()
        self._send_ping(payload, future)
        return future

    def keepalive_ping(self) -> None:
        """Ask for a sign of life; see the listener's keepalive."""
        if self.state is OPEN:
            self._send_ping(os.urandom(4), None)

    def _send_ping(self, payload: bytes, future: asyncio.Future[float] | None) -> None:
        if self._pings is None:
            self._pings = Pings()
        self._pings.add(payload, future)
        self._push(frame(FIN | PING, payload))

    def _pong(self, payload: bytes) -> None:
        """The client has answered a ping, or sends a pong of its own accord (RFC 6455, 5.5.3)."""
        took = self._pings.answer(payload) if self._pings is not None else None
        if took is not None:
            self.latency = took

    # The end ------------------------------------------------------------------------------------------------------

    def _stop_sending(self) -> None:
        """Nothing can be sent any more: those who wait for the client are told."""
        self._wake_drained()
        if self._pings is not None:
            self._pings.fail(self._closed_error())

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(*self._closed[:2]) if self._closed is not None else ConnectionClosed()
