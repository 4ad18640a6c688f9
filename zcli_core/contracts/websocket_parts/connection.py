"""An open WebSocket connection: delivery and the close handshake; sending is in :mod:`.sending`."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from zcli_core.contracts.websocket import Closed, ClosedBy, State
from zcli_core.contracts.websocket_parts.events import Close, Event, Failure, Ping, Pong
from zcli_core.contracts.websocket_parts.frames import FIN, PONG, close_frame, frame, may_be_sent
from zcli_core.contracts.websocket_parts.progress import Delivery
from zcli_core.contracts.websocket_parts.sending import Sender

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zcli_core.contracts.websocket import Message, Prepared, Receiver, Request
    from zcli_core.contracts.websocket_parts.listening import AsyncioListener

_OPEN, _CLOSING, _CLOSED = State.OPEN, State.CLOSING, State.CLOSED

#: Seconds that the core gets to answer the messages before a close frame or a protocol error. A handler
#: that is quick answers long before; one that streams for ever must not keep a page waiting for its close event.
_ANSWER_GRACE = 0.5

#: Seconds for which a TLS connection that we end is read on before it is closed. TLS has no half-closed state, and to
#: close it while the client still sends resets the connection, with our last words unread.
TLS_LINGER = 0.25

#: What a connection does without a break before others get their turn: events of any kind, and bytes of messages. Text
#: counts by its characters.
_EVENTS_IN_A_ROW = 128
_BYTES_IN_A_ROW = 1024 * 1024

#: Why delivery is held: the core asked for it, or other connections have their turn.
FOR_THE_CORE, _FOR_OTHERS = 1, 2


class Decoder(Protocol):
    """What a transport brings: bytes in, events out, in order. It does no input or output.

    It holds what was fed and not taken, and at most one message of up to ``max_size`` bytes.
    """

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the network. A view may not be kept: its buffer is used again after the call."""

    @property
    def unfinished(self) -> bool:
        """Whether :meth:`next` has just returned None although it can go on: other connections get their turn first."""

    def next(self) -> Event | None:
        """The next event, or None if that takes more bytes or another turn; None for good after a Close or a Failure.

        A call does a bounded amount of work, however much was fed.
        """

    def rest(self) -> tuple[int, bytes]:
        """How many bytes of the current frame have not come, and the bytes that were fed and not taken.

        After a Failure they begin with the frame that failed, or with what was not taken of it.
        """

    def finish(self) -> None:
        """Decode no more, and let go of what is held."""


class _Nobody:
    """Receives for a connection that the core has failed to take: it is being closed."""

    def message(self, message: Message) -> bool:
        return True

    def end(self) -> bool:
        return True

    def closed(self, closed: Closed) -> None:
        pass


_NOBODY = _Nobody()


def half_close(transport: asyncio.Transport) -> None:
    """Say that nothing follows. A client that has reset the connection is told nothing; its end is reported next."""
    with contextlib.suppress(OSError):
        transport.write_eof()


class AsyncioConnection(Sender):
    """Implements :class:`zcli_core.contracts.websocket.Connection` over an asyncio transport, but for what is sent.

    A transport derives from it and adds ``send`` and ``send_prepared``; the decoder is its too.
    """

    __slots__ = (
        "__weakref__", "_closing_timer", "_decoder", "_delivery", "_end", "_held", "_id", "_ping_ticks", "_read_buffer",
        "_reading_paused", "_receiver", "_waiters", "extensions", "quiet_ticks", "request", "subprotocol",
    )  # fmt: skip

    def __init__(
        self,
        listener: AsyncioListener[Any],
        transport: asyncio.Transport,
        request: Request,
        subprotocol: str | None,
        decoder: Decoder,
        extensions: str | None = None,
    ) -> None:
        super().__init__(listener, transport)
        self._read_buffer = listener.read_buffer
        self._decoder = decoder
        self.request = request
        self.subprotocol = subprotocol
        #: What the 101 says in Sec-WebSocket-Extensions.
        self.extensions = extensions
        #: Ticks of the listener's clock since the client was last heard of; see the listener's keepalive.
        self.quiet_ticks = 0
        #: Ticks since the last keepalive ping, and the bytes that it has to wait for, if there were any.
        self._ping_ticks = 0
        self._delivery: Delivery | None = None
        self._receiver: Receiver = _NOBODY
        #: Why delivery is held; 0 if it is not.
        self._held = 0
        self._reading_paused = False
        #: What ended the client's messages, while the core still answers those before it.
        self._end: Close | Failure | None = None
        self._closing_timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[Closed]] | None = None
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

    # What a transport adds ----------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send a message."""
        raise NotImplementedError

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message; whether it was sent."""
        raise NotImplementedError

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
        messages = events = size = 0
        while (event := next_event()) is not None:
            events += 1
            if isinstance(event, (str, bytes)):
                # While closing, the client's close frame is all that matters.
                if self.state is _OPEN:
                    messages += 1
                    size += len(event)
                    if not deliver(event):
                        self._held = FOR_THE_CORE
                        return messages
            else:
                self._handle(event)
            if events >= _EVENTS_IN_A_ROW or size >= _BYTES_IN_A_ROW:
                break
        if event is not None or self._decoder.unfinished:
            self._held = _FOR_OTHERS
            self._listener.loop.call_soon(self._go_on_after, _FOR_OTHERS)
        return messages

    def resume_delivery(self) -> None:
        """Go on after the core asked to wait."""
        if self._end is not None:
            self._finish(self._end)
        else:
            self._go_on_after(FOR_THE_CORE)

    def _go_on_after(self, reason: int) -> None:
        """Deliver again, if it is for that reason that delivery is held."""
        if self._held == reason:
            self._held = 0
            if self._reading_paused:
                self._reading_paused = False
                self._transport.resume_reading()
            self._deliver()

    def _handle(self, event: Event) -> None:
        if isinstance(event, Ping):
            # A client that sends pings and reads no pongs is a slow reader too.
            if self.state is _OPEN and not (self.write_paused and self._too_slow()):
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

    # Keepalive ----------------------------------------------------------------------------------------------------

    def tick(self, ping_at: int, lost_at: int, silence: float) -> None:
        """Count a tick of the listener's clock: send a ping now and then, give up a client that is silent.

        A client is alive while bytes come from it. It is also alive while bytes that were sent before the last ping
        reach it: it cannot answer a ping that stands in line behind a large message.

        Args:
            ping_at: ticks from one ping to the next.
            lost_at: ticks of silence after which the client is given up.
            silence: the same in seconds.
        """
        self.quiet_ticks += 1
        self._ping_ticks += 1
        delivery = self._delivery
        if self.quiet_ticks > ping_at:  # a ping was sent since the client was last heard of
            if delivery is not None and delivery.has_advanced():
                self.quiet_ticks = ping_at
            elif self.quiet_ticks >= lost_at:
                self.keepalive_lost(silence)
        elif self._ping_ticks >= ping_at and (delivery is None or delivery.is_complete()):
            self._ping_ticks = 0
            self._delivery = Delivery.of_what_waits(self._transport)
            self.keepalive_ping()

    # Closing ------------------------------------------------------------------------------------------------------

    def keepalive_lost(self, silence: float) -> None:
        """Give up a client that has been silent for so many seconds; see the listener's keepalive."""
        if self._reading_paused:
            self.quiet_ticks = 0  # we do not listen: the core holds delivery, so silence says nothing
        else:
            self._close(Closed(1011, f"keepalive: nothing heard for {silence:g} s", ClosedBy.SERVER))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake."""
        if not may_be_sent(code):
            raise ValueError(f"{code} may not be sent as a close code (RFC 6455, 7.4): take 1000 or 3000 to 4999")
        if len(reason.encode()) > 123:
            raise ValueError("the reason of a close is at most 123 bytes (RFC 6455, 5.5.1)")
        self._close(Closed(code, reason, ClosedBy.SERVER))

    def abort(self) -> None:
        """Drop the connection at once."""
        if self.state is _OPEN:
            self._closed = Closed(1006, "dropped", ClosedBy.SERVER)
            self.state = _CLOSING
            self._corked = None
            self._stop_sending()
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
        by = ClosedBy.SERVER if isinstance(end, Failure) else ClosedBy.CLIENT
        self._close(Closed(end.code, end.reason, by))
        if self._transport.can_write_eof():
            # Say that nothing follows, but read on until the client goes (RFC 6455, 7.1.1): to close while it still
            # sends would reset the connection, and our close frame with it.
            half_close(self._transport)
        elif by is ClosedBy.CLIENT:
            self._transport.close()
        else:
            self._start_timer(TLS_LINGER, self._close_tls)

    def _close(self, closed: Closed) -> None:
        """Send a close frame and give the client ``close_timeout`` to be gone."""
        if self.state is not _OPEN:
            return
        self._closed = closed
        self._flush()
        self._write(close_frame(closed.code, closed.reason))
        self.state = _CLOSING
        self._start_timer(self._listener.limits.close_timeout, self.abort)
        if self._reading_paused or self._held:
            # Read on, or the client's close frame would never be seen.
            self._held, self._reading_paused = 0, False
            self._transport.resume_reading()
            self._listener.loop.call_soon(self._deliver)
        self._stop_sending()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone (asyncio)."""
        self.state = _CLOSED
        if self._closed is None:
            reason = getattr(exc, "strerror", None) or "the client vanished without a close frame"
            self._closed = Closed(1006, reason, ClosedBy.NETWORK)
        self._stop_timer()
        self._corked = self._end = None
        self._decoder.finish()
        self._stop_sending()
        self._listener.forget(self)
        self._receiver.closed(self._closed)
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(self._closed)
        self._waiters = None

    def _close_tls(self) -> None:
        self._transport.close()
        self._start_timer(self._listener.limits.close_timeout, self.abort)

    def _start_timer(self, seconds: float, action: Callable[[], None]) -> None:
        self._stop_timer()
        self._closing_timer = self._listener.loop.call_later(seconds, action)

    def _stop_timer(self) -> None:
        if self._closing_timer is not None:
            self._closing_timer.cancel()
            self._closing_timer = None
