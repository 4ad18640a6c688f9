"""An open WebSocket connection: reading, delivery, sending, the close handshake."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import TYPE_CHECKING, cast

from zcli_core.contracts.websocket import Closed, ClosedBy, State
from zcli_core.errors import ConnectionClosed
from zcli_wsproto.engine import Decoder
from zcli_wsproto.events import Close, Event, Failure, Ping, Pong
from zcli_wsproto.frames import FIN, PING, PONG, TEXT, TEXT_HEADERS, close_frame, frame, may_be_sent, message_frame
from zcli_wsproto.prepared import PreparedMessage

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Message, Prepared, Receiver, Request
    from zcli_wsproto.deflate import Agreement
    from zcli_wsproto.transport import WsprotoListener

_OPEN, _CLOSING, _CLOSED = State.OPEN, State.CLOSING, State.CLOSED

#: Seconds that the core gets to answer the messages before a close frame or a protocol error. A handler
#: that is quick answers long before; one that streams for ever must not keep a page waiting for its close event.
_ANSWER_GRACE = 0.5

#: Messages that are delivered without a break before other connections get their turn.
_MESSAGES_IN_A_ROW = 128

#: Frames that are collected before they are written although more may follow at once.
_CORKED_FRAMES = 32


class WsprotoConnection(asyncio.BufferedProtocol):
    """Implements :class:`zcli_core.contracts.websocket.Connection` over an asyncio transport."""

    __slots__ = (
        "__weakref__", "_agreement", "_closed", "_closing_timer", "_corked", "_decoder", "_drained", "_end", "_held",
        "_id", "_listener", "_pings", "_read_buffer", "_reading_paused", "_receiver", "_transport", "_waiters",
        "_write", "latency", "quiet_ticks", "request", "state", "subprotocol", "write_paused",
    )  # fmt: skip

    def __init__(
        self,
        listener: WsprotoListener,
        transport: asyncio.Transport,
        request: Request,
        subprotocol: str | None,
        agreement: Agreement | None,
    ) -> None:
        self._listener = listener
        self._transport = transport
        self._write = transport.write
        self._read_buffer = listener.read_buffer
        self._agreement = agreement
        self._decoder = Decoder(listener.limits, agreement)
        self.request = request
        self.subprotocol = subprotocol
        self.state = _OPEN
        self.latency = 0.0
        self.write_paused = False
        #: Ticks of the listener's clock since the client was last heard of; see keepalive.
        self.quiet_ticks = 0
        self._receiver = cast("Receiver", None)
        #: Frames that wait for the end of the current burst; None outside one.
        self._corked: list[bytes] | None = None
        #: Whether the core asked to wait before the next message.
        self._held = False
        self._reading_paused = False
        #: What ended the client's messages, while the core still answers those before it.
        self._end: Close | Failure | None = None
        self._closed: Closed | None = None
        self._closing_timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[Closed]] | None = None
        self._pings: dict[bytes, tuple[float, asyncio.Future[float] | None]] | None = None
        self._id: uuid.UUID | None = None

    def start(self, receiver: Receiver, received: bytes) -> None:
        """Begin delivery, with what the client sent right behind its upgrade."""
        self._receiver = receiver
        if received and self._closed is None:
            self._decoder.feed(received)
            self._deliver()

    # Properties ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> uuid.UUID:
        """A random identifier, made when it is first asked for."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def write_buffer_size(self) -> int:
        """Bytes that the operating system has not taken yet."""
        return self._transport.get_write_buffer_size()

    # Receiving ----------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read into (asyncio): a buffer that all connections share, as each read is dealt with at once."""
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the client (asyncio)."""
        self.quiet_ticks = 0
        self._decoder.feed(self._read_buffer[:nbytes])
        if self._held:
            # One more read is kept; beyond that TCP slows the client.
            self._reading_paused = True
            self._transport.pause_reading()
            return
        self._deliver()

    def _deliver(self) -> None:
        """Hand over what has been decoded, until there is no more or the core asks to wait.

        Several messages at once have several answers at once, which go out in one write: those that are given while
        the messages are delivered, or else those of the step of the core's task that they have scheduled.
        """
        corked = None
        if self._corked is None:
            corked = self._corked = []
        count = self._deliver_events()
        if corked is None:
            return
        if corked:
            self._uncork()
        elif count > 1 and self.state is _OPEN:
            self._listener.loop.call_soon(self._uncork)
        else:
            self._corked = None

    def _deliver_events(self) -> int:
        """Deliver; the number of messages."""
        next_event = self._decoder.next
        deliver = self._receiver.message
        count = 0
        while (event := next_event()) is not None:
            if isinstance(event, (str, bytes)):
                if self.state is not _OPEN:
                    continue  # closing: the client's close frame is all that matters
                count += 1
                if not deliver(event):
                    self._held = True
                    break
                if count >= _MESSAGES_IN_A_ROW:
                    self._held = True
                    self._listener.loop.call_soon(self.resume_delivery)
                    break
            else:
                self._handle(event)
        return count

    def resume_delivery(self) -> None:
        """Go on after the core asked to wait."""
        if self._held:
            self._held = False
            if self._reading_paused:
                self._reading_paused = False
                self._transport.resume_reading()
            self._deliver()
        elif self._end is not None:
            self._finish(self._end)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Ping):
            if self.state is _OPEN:
                self._push(frame(FIN | PONG, event.payload))
        elif isinstance(event, Pong):
            self._pong(event.payload)
        elif isinstance(event, (Close, Failure)):
            if self.state is not _OPEN:
                # The answer to our close frame, or nonsense after it: either way it is over.
                self._transport.close()
            elif self._receiver.end():
                self._finish(event)
            else:
                self._end = event
                self._closing_timer = self._listener.loop.call_later(_ANSWER_GRACE, self._finish, event)

    def eof_received(self) -> None:
        """The client sends no more (asyncio): with None the transport closes itself."""

    # Sending ------------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send a message."""
        if self.state is not _OPEN:
            raise self._closed_error()
        if self._agreement is not None:
            data = self._listener.prepare(message).compressed(self._agreement.server_bits)
        elif type(message) is str:
            payload = message.encode()
            length = len(payload)
            data = TEXT_HEADERS[length] + payload if length < 126 else frame(FIN | TEXT, payload)
        else:
            data = message_frame(message)
        if self._corked is not None:
            self._corked.append(data)
            if len(self._corked) >= _CORKED_FRAMES:
                self._flush()
        else:
            self._write(data)
        if self.write_paused and self._too_slow():
            raise self._closed_error()

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message; whether it was sent."""
        if self.state is not _OPEN or (self.write_paused and self._too_slow()):
            return False
        message: PreparedMessage = prepared  # type: ignore[assignment]  # the contract: made by this listener
        agreement = self._agreement
        data = message.plain if agreement is None else message.compressed(agreement.server_bits)
        if self._corked is None:
            self._write(data)
        else:
            self._corked.append(data)
        return True

    def _push(self, data: bytes) -> None:
        """Write a frame in its turn."""
        if self._corked is not None:
            self._corked.append(data)
        else:
            self._write(data)

    def _flush(self) -> None:
        corked = self._corked
        if corked:
            self._write(b"".join(corked) if len(corked) > 1 else corked[0])
            corked.clear()

    def _uncork(self) -> None:
        self._flush()
        self._corked = None

    def _too_slow(self) -> bool:
        """Close a client that has left too much unread."""
        limit = self._listener.limits.send_buffer_max
        if self._transport.get_write_buffer_size() <= limit:
            return False
        self._close(Closed(1013, f"more than {limit} bytes left unread", ClosedBy.SERVER))
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
        while self.write_paused and self.state is _OPEN:
            if self._drained is None:
                self._drained = self._listener.loop.create_future()
            await asyncio.shield(self._drained)
        if self.state is not _OPEN:
            raise self._closed_error()

    def _wake_drained(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    # Ping and pong ------------------------------------------------------------------------------------------------

    def ping(self, payload: bytes | None = None) -> asyncio.Future[float]:
        """Send a ping; the future gives the seconds until its answer."""
        if self.state is not _OPEN:
            raise self._closed_error()
        if payload is None:
            payload = os.urandom(4)
        if len(payload) > 125:
            raise ValueError(f"the payload of a ping is at most 125 bytes, not {len(payload)} (RFC 6455, 5.5)")
        if self._pings and payload in self._pings:
            raise ValueError("a ping with that payload is still unanswered")
        future: asyncio.Future[float] = self._listener.loop.create_future()
        self._send_ping(payload, future)
        return future

    def keepalive_ping(self) -> None:
        """Ask for a sign of life; see keepalive."""
        if self.state is _OPEN:
            self._send_ping(os.urandom(4), None)

    def keepalive_lost(self, silence: float) -> None:
        """Give up a client that has been silent for so many seconds; see keepalive."""
        if self._reading_paused:
            self.quiet_ticks = 0  # we do not listen: the core holds delivery, so silence says nothing
        else:
            self._close(Closed(1011, f"keepalive: nothing heard for {silence:g} s", ClosedBy.SERVER))

    def _send_ping(self, payload: bytes, future: asyncio.Future[float] | None) -> None:
        if self._pings is None:
            self._pings = {}
        self._pings[payload] = (time.perf_counter(), future)
        self._push(frame(FIN | PING, payload))

    def _pong(self, payload: bytes) -> None:
        """An answer to a ping answers those before it too (RFC 6455, 5.5.3)."""
        if not self._pings or payload not in self._pings:
            return
        now = time.perf_counter()
        for sent in list(self._pings):
            since, future = self._pings.pop(sent)
            if future is not None and not future.done():
                future.set_result(now - since)
            if sent == payload:
                self.latency = now - since
                break

    # Closing ------------------------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake."""
        if not may_be_sent(code):
            raise ValueError(f"{code} may not be sent as a close code (RFC 6455, 7.4): take 1000 or 3000 to 4999")
        if len(reason.encode()) > 123:
            raise ValueError("the reason of a close is at most 123 bytes (RFC 6455, 5.5.1)")
        self._close(Closed(code, reason, ClosedBy.SERVER))

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._closed is None:
            self._closed = Closed(1006, "dropped", ClosedBy.SERVER)
        self._transport.abort()

    async def wait_closed(self) -> Closed:
        """Wait until the connection is gone and tell how it ended."""
        if self.state is _CLOSED:
            assert self._closed is not None
            return self._closed
        future: asyncio.Future[Closed] = self._listener.loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(future)
        return await future

    def _finish(self, end: Close | Failure) -> None:
        """Answer the client's close frame, or its breach of the protocol."""
        self._end = None
        if isinstance(end, Failure):
            self._close(Closed(end.code, end.reason, ClosedBy.SERVER))
            self._end_stream()
        else:
            self._close(Closed(end.code, end.reason, ClosedBy.CLIENT))
            self._transport.close()  # the server closes TCP first (RFC 6455, 7.1.1)

    def _close(self, closed: Closed) -> None:
        """Send a close frame and give the client ``close_timeout`` to be gone."""
        if self.state is not _OPEN:
            return
        self._closed = closed
        self._flush()
        self._write(close_frame(closed.code, closed.reason))
        self.state = _CLOSING
        self._stop_timer()
        self._closing_timer = self._listener.loop.call_later(self._listener.limits.close_timeout, self.abort)
        if self._reading_paused or self._held:
            # Read on, or the client's close frame would never be seen.
            self._held = self._reading_paused = False
            self._transport.resume_reading()
            self._listener.loop.call_soon(self._deliver)
        self._wake_drained()
        self._fail_pings()

    def _end_stream(self) -> None:
        """Say that nothing follows, but read on: closing with bytes unread would reset what we just sent."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone (asyncio)."""
        self.state = _CLOSED
        if self._closed is None:
            reason = getattr(exc, "strerror", None) or "the client vanished without a close frame"
            self._closed = Closed(1006, reason, ClosedBy.NETWORK)
        self._stop_timer()
        self._corked = self._end = None
        self._decoder.finish()
        self._wake_drained()
        self._fail_pings()
        self._listener.forget(self)
        if self._receiver is not None:
            self._receiver.closed(self._closed)
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(self._closed)
        self._waiters = None

    def _stop_timer(self) -> None:
        if self._closing_timer is not None:
            self._closing_timer.cancel()
            self._closing_timer = None

    def _fail_pings(self) -> None:
        pings, self._pings = self._pings, None
        for _, future in (pings or {}).values():
            if future is not None and not future.done():
                future.set_exception(self._closed_error())
                future.exception()  # nobody has to wait for it

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(*self._closed[:2]) if self._closed is not None else ConnectionClosed()
