"""The receiving half of an open connection: decoding, delivery to the core, and turns between connections."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from zcli_core.websocket.contract import Closed, State
from zcli_core.websocket.parts.events import Close, Event, Failure, Ping, Pong
from zcli_core.websocket.parts.frames import FIN, PONG, frame
from zcli_core.websocket.parts.sending import Sender
from zcli_core.websocket.parts.unread import UnreadData

if TYPE_CHECKING:
    import asyncio
    import uuid

    from zcli_core.websocket.contract import Message, Receiver, Request
    from zcli_core.websocket.parts.close_frame_scanner import CloseFrameScanner
    from zcli_core.websocket.parts.listener import AsyncioListener

_OPEN = State.OPEN

#: Messages that one connection handles without a break before other connections get their turn.
MESSAGES_IN_A_ROW = 128

#: The same limit in bytes of messages, and the bytes that an event of any kind adds to its payload. A text counts by
#: its characters.
_BYTES_IN_A_ROW = 1024 * 1024
_BYTES_FOR_AN_EVENT = _BYTES_IN_A_ROW // MESSAGES_IN_A_ROW

#: Seconds from which handling the messages of one read counts as slow, and the number of reads that must then be
#: handled quickly before responses are collected again.
_SLOW = 0.02
_PROBATION = 4

#: Why delivery is held: the core asked for it, or other connections have their turn.
FOR_THE_CORE, FOR_OTHERS = 1, 2


class Decoder(Protocol):
    """The part that a transport provides: bytes in, events out, in order. It does no input or output.

    It holds the bytes that were fed and not decoded, and at most one message of up to ``max_size`` bytes.
    """

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the network. A view must not be kept: its buffer is used again after the call."""

    @property
    def unfinished(self) -> bool:
        """Whether :meth:`next` has just returned None although it can go on: other connections get their turn first."""

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not decoded; 0 if there is certainly no further event."""

    def next(self) -> Event | None:
        """Return the next event, or None if that takes more bytes or another turn.

        After a Close or a Failure it always returns None. A call does a bounded amount of work, however much was fed.
        """

    def rest(self) -> tuple[int, bytes]:
        """Return the missing bytes of the current frame, as a number, and the bytes that were fed and not decoded.

        After a Failure the bytes begin with the frame that failed, or with the undecoded part of it.
        """

    def finish(self) -> None:
        """Stop decoding and release what is held."""


class _NullReceiver:
    """Receives for connections that are refused or that the core failed to open; they are being closed."""

    def message(self, message: Message) -> bool:
        return True

    def end(self) -> bool:
        return True

    def closed(self, closed: Closed) -> None:
        pass


#: Takes the place of the core for a connection that the core does not handle.
NULL_RECEIVER = _NullReceiver()


class MessageDelivery(Sender):
    """Decodes what the client sends and delivers it to the core.

    :class:`.connection.AsyncioConnection` adds the end: of what the client sends, and of the connection.
    """

    __slots__ = (
        "_closing_timer", "_decoder", "_end", "_end_reported", "_gone", "_held", "_id", "_lost", "_probation",
        "_read_buffer", "_reading_paused", "_receiver", "_scanner", "_undelivered", "_unread", "_waiters", "extensions",
        "request", "subprotocol",
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
        #: The Sec-WebSocket-Extensions header of the 101 response.
        self.extensions = extensions
        self._receiver: Receiver = NULL_RECEIVER
        #: Why delivery is held; 0 if it is not.
        self._held = 0
        self._reading_paused = False
        #: Reads of several messages that must be handled quickly before the responses to such reads are collected.
        self._probation = 1
        #: The client's close frame, or its protocol violation.
        self._end: Close | Failure | None = None
        #: Whether the client sends no more data, and whether the connection is lost.
        self._gone = self._lost = False
        #: Whether the core knows that no message follows.
        self._end_reported = False
        #: Data that the client sent before the connection was lost and that the event loop has not read.
        self._unread: UnreadData | None = None
        #: Replaces the decoder when no more messages are delivered.
        self._scanner: CloseFrameScanner | None = None
        #: The number of messages that were received and not delivered.
        self._undelivered = 0
        #: Ends the connection after ``close_timeout``; see :mod:`.connection`, also for the others.
        self._closing_timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[Closed]] | None = None
        self._id: uuid.UUID | None = None

    # What the connection adds -------------------------------------------------------------------------------------

    def discard(self, data: bytes | memoryview) -> None:
        """Drop data, and close TCP at the client's close frame."""
        raise NotImplementedError

    def _report_end(self) -> None:
        """Report to the core that no message follows."""
        raise NotImplementedError

    def _finish(self, in_time: bool = True) -> None:
        """Close, because the core has handled all messages before the end."""
        raise NotImplementedError

    def _look_for_close_frame(self) -> None:
        """Start the deadline if the client's close frame waits behind messages that the core has not taken yet."""
        raise NotImplementedError

    # Receiving ----------------------------------------------------------------------------------------------------

    def start(self, receiver: Receiver, received: bytes) -> None:
        """Begin delivery, with the bytes that the client sent right after its upgrade request."""
        self._receiver = receiver
        if self._scanner is not None:
            self.discard(received)
        elif received:
            self._decoder.feed(received)
            self._deliver()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into (asyncio). All connections share it, because each read is handled at once."""
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle bytes from the client (asyncio)."""
        self.quiet_ticks = 0
        if self._scanner is not None:
            self.discard(self._listener.read_buffer[:nbytes])
            return
        self._decoder.feed(self._read_buffer[:nbytes])
        if self._held:
            # One more read is kept; beyond that TCP slows the client.
            self._reading_paused = True
            self._transport.pause_reading()
        else:
            self._deliver_events()
        if self._held == FOR_THE_CORE:
            self._look_for_close_frame()

    def _deliver(self) -> None:
        """Deliver until there is no more data or the core asks to wait. If the client sends no more, report the end."""
        self._deliver_events()
        while self._unread is not None and not self._held:
            data = self._unread.read()
            if data:
                self._decoder.feed(data)
                self._deliver_events()
            else:
                self._unread.close()
                self._unread = None
        if self._gone and not self._held and not self._end_reported and self._scanner is None:
            self._report_end()

    def _deliver_events(self) -> None:
        """Deliver the decoder's events to the core, and control when the core's messages are written.

        If a read contains one message, all messages that the core sends meanwhile are written at once. If it contains
        several, messages sent during the later ones are collected and written together, because that is faster. They
        are written at once if recent messages were handled slowly, because a collected message would wait for a
        handler that still computes. If a task of the core handles the messages, what it sends is collected until the
        next step of that task. Pongs for consecutive pings are written together, too.
        """
        decoder = self._decoder
        next_event = decoder.next
        deliver = self._receiver.message
        left = _BYTES_IN_A_ROW
        probation = self._probation
        began = 0.0  # when the first message was delivered, if more was received with it
        corked = pongs = None
        while (event := next_event()) is not None:
            if isinstance(event, (str, bytes)):
                if pongs is not None:
                    self._uncork()
                    pongs = None
                if corked is None and self._corked is None:
                    if began:
                        if probation == 1:
                            corked = self._corked = []
                    elif decoder.waiting:
                        began = monotonic()
                        if not probation:
                            corked = self._corked = []
                    else:
                        if not deliver(event):
                            self._held = FOR_THE_CORE
                        return
                left -= _BYTES_FOR_AN_EVENT + len(event)
                if not deliver(event):
                    self._held = FOR_THE_CORE
                    break
            else:
                left -= _BYTES_FOR_AN_EVENT
                if self._corked is None and decoder.waiting:
                    pongs = self._corked = []
                self._handle(event)
            if left <= 0:
                break
        if pongs is not None:
            self._uncork()
        if not self._held and (event is not None or decoder.unfinished):
            self._held = FOR_OTHERS
            self._listener.loop.call_soon(self._go_on_after, FOR_OTHERS)
        if began:
            self._rate(began)
        if corked is None:
            return
        if corked:
            self._uncork()
        elif not probation and self.state is _OPEN:
            self._listener.loop.call_soon(self._uncork_after, monotonic())
        else:
            self._corked = None

    def _handle(self, event: Event) -> None:
        """Handle a control frame or a violation."""
        if isinstance(event, Ping):
            # A client that sends pings and reads no pongs is a slow reader too.
            if self.state is _OPEN and not (self.write_paused and self._close_if_slow()):
                self._push(frame(FIN | PONG, event.payload))
        elif isinstance(event, Pong):
            self._pong(event.payload)
        elif isinstance(event, (Close, Failure)):
            self._end = event
            self._report_end()

    def _rate(self, began: float) -> None:
        """Note whether the messages of one read were handled quickly."""
        if monotonic() - began > _SLOW:
            self._probation = _PROBATION
        elif self._probation:
            self._probation -= 1

    def _uncork_after(self, began: float) -> None:
        self._uncork()
        self._rate(began)

    # Turns --------------------------------------------------------------------------------------------------------

    def resume_delivery(self) -> None:
        """Continue the delivery after the core asked to wait."""
        if self._end_reported:
            self._finish()
        else:
            self._go_on_after(FOR_THE_CORE)

    def _go_on_after(self, reason: int) -> None:
        """Deliver again, if delivery is held for that reason."""
        if self._held == reason:
            self._held = 0
            self._deliver()
            if not self._held:
                self._resume_reading()  # not earlier: each turn would add a whole read and use little of it
            elif self._held == FOR_THE_CORE and reason == FOR_OTHERS:
                self._look_for_close_frame()

    def _resume_reading(self) -> None:
        """Read from the client again, if that was paused."""
        if self._reading_paused:
            self._reading_paused = False
            if not self._lost:
                self._transport.resume_reading()
