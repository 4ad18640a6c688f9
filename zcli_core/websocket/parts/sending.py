"""The sending half of an open connection: collected writes, slow readers, pings."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import TYPE_CHECKING, Any

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.contract import Cause, Closed, ClosedBy, State
from zcli_core.websocket.parts.frames import FIN, PING, frame
from zcli_core.websocket.parts.pings import PendingPings
from zcli_core.websocket.parts.send_progress import SendProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from zcli_core.websocket.parts.listener import AsyncioListener

OPEN = State.OPEN

#: Bytes that wait for the client before ``write_paused``: asyncio's own value for connections without TLS. A small
#: ``max_send_buffer`` lowers this value and the next one.
HIGH_WATER = 64 * 1024

#: Largest number of bytes that are collected before they are written.
CORK_SIZE = 256 * 1024

#: What a collected frame adds to its bytes, so that at most 32 are collected.
_BYTES_FOR_A_FRAME = CORK_SIZE // 32

#: Bytes of one write to a TLS transport: it counts only what it could not pass to the socket's transport.
_TLS_PIECE = 64 * 1024


def _write_in_pieces(write: Callable[[bytes | memoryview], None], is_lost: Callable[[], bool], data: bytes) -> None:
    """Write to a TLS transport so that it notices between two pieces that the client is slow."""
    if len(data) <= _TLS_PIECE:
        write(data)
        return
    view = memoryview(data)
    for at in range(0, len(data), _TLS_PIECE):
        if is_lost():
            break
        write(view[at : at + _TLS_PIECE])


def _innermost(transport: asyncio.Transport) -> asyncio.Transport:
    """Return the transport that writes to the socket.

    asyncio's TLS transport contains another transport and does not show when that one is closed. There is no public
    way to it. If it is not found, the TLS transport is returned.
    """
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return inner if isinstance(inner, asyncio.Transport) else transport


def release_buffer(transport: asyncio.Transport | None) -> None:
    """Free the buffer of 256 KiB that asyncio keeps for each TLS connection, once the connection is lost.

    The objects of a connection refer to each other, so the buffer would stay until the garbage collector runs, which
    counts objects and not their size. There is no public way to the buffer; asyncio makes a new one if it needs one.
    """
    protocol: Any = getattr(transport, "_ssl_protocol", None)
    if isinstance(getattr(protocol, "_ssl_buffer", None), bytearray):
        protocol._ssl_buffer = bytearray()
        protocol._ssl_buffer_view = memoryview(protocol._ssl_buffer)


class Sender(asyncio.BufferedProtocol):
    """The part of a connection that sends.

    A transport's ``send`` and ``send_prepared`` pass whole frames to :meth:`_push`, or to ``_write`` if ``_corked`` is
    None and ``_is_lost()`` is false. Then, if :attr:`write_paused`, they call :meth:`_close_if_slow`. So
    ``max_send_buffer`` holds for everything that waits: collected, in the transport, and inside TLS.
    """

    __slots__ = (
        "_closed", "_cork_room", "_corked", "_drained", "_is_lost", "_listener", "_pings", "_transport", "_write",
        "latency", "ping_ticks", "quiet_ticks", "send_progress", "state", "write_paused",
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
        #: Frames that are collected for one write; None while frames are written at once.
        self._corked: list[bytes] | None = None
        #: Bytes that may still be added to them.
        self._cork_room = listener.cork_size
        self._drained: asyncio.Future[None] | None = None
        self._pings: PendingPings | None = None
        #: Ticks of the keepalive clock since the last bytes from the client, and since the last keepalive ping.
        self.quiet_ticks = self.ping_ticks = 0
        #: The delivery of the bytes that the last keepalive ping waits behind; None if there are none.
        self.send_progress: SendProgress | None = None
        self._closed: Closed | None = None

    def _close(self, closed: Closed) -> None:
        """Start the close handshake."""
        raise NotImplementedError

    @property
    def write_buffer_size(self) -> int:
        """Bytes that were sent and that the operating system has not accepted."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._corked or ()))

    # Collected writes ---------------------------------------------------------------------------------------------

    def _push(self, data: bytes) -> None:
        """Write a frame, or add it to those that are collected."""
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
        """Write the collected frames."""
        corked = self._corked
        if corked:
            data = b"".join(corked) if len(corked) > 1 else corked[0]
            corked.clear()
            self._cork_room = self._listener.cork_size
            if not self._is_lost():
                self._write(data)

    def _uncork(self) -> None:
        """Write the collected frames, and the next ones at once."""
        self._flush()
        self._corked = None

    # Slow readers -------------------------------------------------------------------------------------------------

    def _close_if_slow(self) -> bool:
        """Close the connection if more than ``max_send_buffer`` bytes are unread; return whether it was closed."""
        limit = self._listener.limits.max_send_buffer
        if self.write_buffer_size <= limit:
            return False
        self._close(Closed(1013, f"more than {limit} bytes left unread", ClosedBy.SERVER, Cause.SLOW))
        return True

    def pause_writing(self) -> None:
        """Note that the client reads too slowly (asyncio)."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Note that the client has caught up (asyncio)."""
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
        """Send a ping; return a future that is set to the seconds until its pong."""
        if self.state is not OPEN:
            raise self._closed_error()
        if payload is None:
            payload = os.urandom(4)
        if len(payload) > 125:
            raise ValueError(f"ping payload must be at most 125 bytes, got {len(payload)} (RFC 6455, 5.5)")
        if self._pings is not None and payload in self._pings:
            raise ValueError("a ping with this payload is still unanswered; use another payload")
        future: asyncio.Future[float] = self._listener.loop.create_future()
        self._send_ping(payload, future)
        return future

    def send_keepalive_ping(self) -> None:
        """Send a ping whose pong shows that the client is alive; see :mod:`.keepalive`."""
        if self.state is OPEN:
            self.ping_ticks = 0
            self.send_progress = SendProgress.of_waiting_bytes(self._transport)
            self._send_ping(os.urandom(4), None)

    def _send_ping(self, payload: bytes, future: asyncio.Future[float] | None) -> None:
        if self._pings is None:
            self._pings = PendingPings()
        self._pings.add(payload, future)
        self._push(frame(FIN | PING, payload))

    def _pong(self, payload: bytes) -> None:
        """Handle a pong, which may answer a ping or come unasked (RFC 6455, 5.5.3)."""
        pings = self._pings
        if pings is None:
            return
        took = pings.resolve(payload)
        if took is not None:
            self.latency = took
        if not pings.keepalive_is_pending:
            self.send_progress = None  # what was sent before the ping has arrived, so the next ping need not wait

    # The end ------------------------------------------------------------------------------------------------------

    def _stop_sending(self) -> None:
        """Wake everything that waits for the client, because nothing can be sent any more."""
        self._wake_drained()
        if self._pings is not None:
            self._pings.fail(self._closed_error())

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(*self._closed[:2]) if self._closed is not None else ConnectionClosed()
