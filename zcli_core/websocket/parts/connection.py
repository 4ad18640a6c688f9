"""An open WebSocket connection: delivery and the close handshake; sending is in :mod:`.sending`."""

from __future__ import annotations

import contextlib
import os
import uuid
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from zcli_core.websocket.contract import Cause, Closed, ClosedBy, State
from zcli_core.websocket.parts.events import Close, Event, Failure, Ping, Pong
from zcli_core.websocket.parts.frames import FIN, PONG, close_frame, frame, may_be_sent
from zcli_core.websocket.parts.progress import Delivery
from zcli_core.websocket.parts.sending import Sender, release_buffer
from zcli_core.websocket.parts.skipping import Skipper

if TYPE_CHECKING:
    import asyncio
    import ssl

    from zcli_core.websocket.contract import Message, Prepared, Receiver, Request
    from zcli_core.websocket.parts.listening import AsyncioListener

_OPEN, _CLOSING, _CLOSED = State.OPEN, State.CLOSING, State.CLOSED

_LEFT = "the client left without a close frame"

#: Seconds for which a connection is kept once there is nothing to wait for: both close frames were sent, or the core
#: has used up ``close_timeout`` before ours. To close while a client still sends resets the connection, with our last
#: words unread.
_LINGER = 0.25

#: Bytes that are read at once of what a lost connection has left.
_READ_SIZE = 64 * 1024

#: Bytes that are read at once while everything is dropped: a client may send as many frames as fit into them.
_SKIP_SIZE = 16 * 1024

#: What a connection does without a break before others get their turn, in bytes of messages, and what an event of any
#: kind adds to them. Text counts by its characters.
_BYTES_IN_A_ROW = 1024 * 1024
_BYTES_FOR_AN_EVENT = 8 * 1024

#: Turns of decompression that are spent on counting the messages that are not delivered.
_LAST_TURNS = 16

#: Seconds from which the handling of what came in one read counts as slow, and the number of reads that have to be
#: handled quickly after that before answers are collected again.
_SLOW = 0.02
_PROBATION = 4

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

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not taken yet; 0 if there is certainly no further event."""

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
    """Receives for a connection that the core has refused or failed to take: it is being closed."""

    def message(self, message: Message) -> bool:
        return True

    def end(self) -> bool:
        return True

    def closed(self, closed: Closed) -> None:
        pass


_NOBODY = _Nobody()


class _Unread:
    """What the system had received when the connection was lost, and the event loop had not read.

    A loop closes the socket when a write fails, even if messages wait to be read.
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
        """Whether there is anything."""
        return bool(self._first)

    def read(self) -> bytes:
        """The next bytes; empty at the end. Of a TLS connection, what has been decrypted."""
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
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class AsyncioConnection(Sender):
    """Implements :class:`zcli_core.websocket.contract.Connection` over an asyncio transport, but for what is sent.

    A transport derives from it and adds ``send`` and ``send_prepared``; the decoder is its too.
    """

    __slots__ = (
        "__weakref__", "_closing_timer", "_decoder", "_delivery", "_end", "_ended", "_gone", "_held", "_id", "_lost",
        "_ping_ticks", "_probation", "_read_buffer", "_reading_paused", "_receiver", "_rest", "_skipper",
        "_undelivered", "_waiters", "extensions", "quiet_ticks", "request", "subprotocol",
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
        #: Reads of several messages that have to be handled quickly before the answers to such reads are collected.
        self._probation = 1
        #: The client's close frame, or its breach of the protocol.
        self._end: Close | Failure | None = None
        #: Whether nothing more comes from the client, and whether the connection is lost.
        self._gone = self._lost = False
        #: Whether the core was told that no message follows.
        self._ended = False
        #: Gives what the client had sent before the connection was lost and the loop did not read.
        self._rest: _Unread | None = None
        #: Messages that were received and not delivered.
        self._undelivered = 0
        #: Reads instead of the decoder once nothing is delivered any more.
        self._skipper: Skipper | None = None
        self._closing_timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[Closed]] | None = None
        self._id: uuid.UUID | None = None

    def start(self, receiver: Receiver, received: bytes) -> None:
        """Begin delivery, with what the client sent right behind its upgrade."""
        self._receiver = receiver
        if self._skipper is not None:
            self.skip(received)
        elif received:
            self._decoder.feed(received)
            self._deliver()

    def refuse(self, response: bytes, code: int, reason: str, received: bytes) -> None:
        """Send the response to the upgrade and a close frame; nothing of the client is delivered."""
        self._decoder.feed(received)
        self._close(Closed(code, reason, ClosedBy.SERVER), response + close_frame(code, reason))
        self._depart(self._end_delivery())

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
        if self._skipper is not None:
            self.skip(self._listener.read_buffer[:nbytes])
            return
        self._decoder.feed(self._read_buffer[:nbytes])
        if self._held:
            # One more read is kept; beyond that TCP slows the client.
            self._reading_paused = True
            self._transport.pause_reading()
        else:
            self._deliver_events()
        if self._held == FOR_THE_CORE:
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Start the deadline if the client's close frame waits behind messages that the core does not take."""
        if self._closing_timer is None:
            missing, data = self._decoder.rest()
            if Skipper(missing).feed(data):
                self._start_deadline()

    def _deliver(self) -> None:
        """Hand over what was received, until there is no more or the core asks to wait; then tell the end, if it is."""
        self._deliver_events()
        while self._rest is not None and not self._held:
            data = self._rest.read()
            if data:
                self._decoder.feed(data)
                self._deliver_events()
            else:
                self._rest.close()
                self._rest = None
        if self._gone and not self._held and not self._ended and self._skipper is None:
            self._tell_end()

    def _deliver_events(self) -> None:
        """Deliver what is decoded.

        What the core sends is written at once while the only message of a read is handled, and while the first of
        several is. The answers to several messages are collected and go out in one write, as long as they are handled
        quickly: a message must not wait for a handler that goes on computing after it was sent. Where messages are
        handled by the core's task instead of during the call, that is the step of the task that they have scheduled.
        The pongs to pings that stand in a row go out in one write, too.
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
            self._held = _FOR_OTHERS
            self._listener.loop.call_soon(self._go_on_after, _FOR_OTHERS)
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

    def _rate(self, began: float) -> None:
        """Note whether messages that came in one read were handled quickly."""
        if monotonic() - began > _SLOW:
            self._probation = _PROBATION
        elif self._probation:
            self._probation -= 1

    def _uncork_after(self, began: float) -> None:
        self._uncork()
        self._rate(began)

    def resume_delivery(self) -> None:
        """Go on after the core asked to wait."""
        if self._ended:
            self._finish()
        else:
            self._go_on_after(FOR_THE_CORE)

    def _go_on_after(self, reason: int) -> None:
        """Deliver again, if it is for that reason that delivery is held."""
        if self._held == reason:
            self._held = 0
            self._deliver()
            if not self._held:
                self._resume_reading()  # not earlier: each turn would take a whole read more, and use little of it
            elif self._held == FOR_THE_CORE and reason == _FOR_OTHERS:
                self._look_ahead()

    def _resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            if not self._lost:
                self._transport.resume_reading()

    def _handle(self, event: Event) -> None:
        if isinstance(event, Ping):
            # A client that sends pings and reads no pongs is a slow reader too.
            if self.state is _OPEN and not (self.write_paused and self._too_slow()):
                self._push(frame(FIN | PONG, event.payload))
        elif isinstance(event, Pong):
            self._pong(event.payload)
            if self._pings is not None and not self._pings.keepalive_waits:
                self._delivery = None  # what was sent before the ping has arrived, so the next ping need not wait
        elif isinstance(event, (Close, Failure)):
            self._end = event
            self._tell_end()

    # The end of what the client sends -------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        """The client sends no more (asyncio). True keeps the transport open for what is still to be sent."""
        self._gone = True
        plain = self._transport.can_write_eof()
        if self._skipper is not None:
            return False
        if not plain:
            self._lose(_LEFT)  # TLS: the transport closes itself
        if self._held:
            self._start_deadline()
        elif not self._ended:
            self._tell_end()
        return plain

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone (asyncio). What the client sent before that is still delivered."""
        self._gone = True
        self._lose(getattr(exc, "strerror", None) or _LEFT)
        if self._skipper is None and not self._ended:
            self._rest = _Unread(self._transport) or None
            if self._held:
                self._start_deadline()
            elif self._rest is not None:
                self._deliver()
            else:
                self._tell_end()
        self._lost = True
        release_buffer(self._transport)
        if self._skipper is not None:
            self._report()

    def _lose(self, reason: str) -> None:
        """Nothing can be sent any more."""
        if self.state is _OPEN:
            self._closed = Closed(1006, reason, ClosedBy.NETWORK, Cause.LOST)
            self.state = _CLOSING
            self._corked = None
            self._stop_sending()

    def _tell_end(self) -> None:
        """Tell the core that no message follows, and close once it has handled those before."""
        self._ended = True
        if self._receiver.end():
            self._finish()
        else:
            self._start_deadline()

    def _finish(self, in_time: bool = True) -> None:
        """Close: the core has handled all messages before the end, or the time for that is over."""
        if self._skipper is not None:
            return
        rest = self._end_delivery()
        end = self._end
        if isinstance(end, Close):
            frame = None if in_time else close_frame(1011, "messages before the close were not handled in time")
            self._close(Closed(end.code, end.reason, ClosedBy.CLIENT), frame)
        elif isinstance(end, Failure):
            self._stop_timer()
            self._close(Closed(end.code, end.reason, ClosedBy.SERVER, Cause.BREACH))
        else:
            if self.state is _OPEN:
                self._flush()  # a client that has ended only its own side still reads
                self._lose(_LEFT)
        self._depart(rest)

    def _end_delivery(self) -> bytes:
        """Deliver nothing any more; what was received and not decoded."""
        decoder = self._decoder
        turns = 0
        while (event := decoder.next()) is not None or (decoder.unfinished and turns < _LAST_TURNS):
            if event is None:
                turns += 1
            elif isinstance(event, (str, bytes)):
                self._undelivered += 1
            elif isinstance(event, (Close, Failure)):
                self._end = event
        missing, rest = decoder.rest()
        decoder.finish()
        self._skipper = Skipper(missing)
        if rest and self._gone and not isinstance(self._end, Close) and self._skipper.feed(rest):
            self._end = Close(1005, "")  # behind what would take too long to decode
        if not self._gone:
            self._read_buffer = self._listener.read_buffer[:_SKIP_SIZE]
        self._held = 0
        if self._reading_paused:
            self._resume_reading()
        return rest

    def _depart(self, rest: bytes) -> None:
        """Our side is closed: read on until the client has sent its close frame or the end of its data."""
        if self._lost:
            self._listener.loop.call_soon(self._report)  # not inside a call of the core's
        elif self._gone:
            if not self._transport.is_closing():
                self._transport.close()
        elif isinstance(self._end, Close):
            self._leave()
        else:
            self.skip(rest)

    def skip(self, data: bytes | memoryview) -> None:
        """Drop what comes, and leave at the client's close frame."""
        assert self._skipper is not None
        if not isinstance(self._end, Close) and self._skipper.feed(data):
            self._end = Close(1005, "")
            self._leave()

    def _leave(self) -> None:
        """Close TCP: both sides have sent their close frame (RFC 6455, 7.1.1)."""
        if not self._transport.can_write_eof():
            self._transport.close()  # TLS says goodbye itself, and reads on meanwhile
            return
        with contextlib.suppress(OSError):  # the client has reset the connection
            self._transport.write_eof()
        if not self._transport.get_write_buffer_size():
            self._stop_timer()
            self._start_timer(_LINGER)

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
            reason = f"keepalive: nothing heard for {silence:g} s"
            self._close(Closed(1011, reason, ClosedBy.SERVER, Cause.SILENT))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake."""
        if not may_be_sent(code):
            raise ValueError(f"{code} may not be sent as a close code (RFC 6455, 7.4): take 1000 or 3000 to 4999")
        if len(reason.encode()) > 123:
            raise ValueError("the reason of a close is at most 123 bytes (RFC 6455, 5.5.1)")
        if self._skipper is None:
            self._close(Closed(code, reason, ClosedBy.SERVER))
            self._depart(self._end_delivery())

    def abort(self) -> None:
        """Drop the connection at once."""
        if self.state is _OPEN:
            self._closed = Closed(1006, "dropped", ClosedBy.SERVER, Cause.ABORTED)
            self.state = _CLOSING
            self._corked = None
            self._stop_sending()
        if self._skipper is None:
            self._end_delivery()
            if self._lost:
                self._listener.loop.call_soon(self._report)
        if not self._lost:
            self._transport.abort()

    def drop(self) -> None:
        """The listener stops: do not wait for the answer to our close frame. For a client that was refused."""
        self._transport.close()

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

    def _close(self, closed: Closed, frame: bytes | None = None) -> None:
        """Send a close frame and give the client ``close_timeout`` to be gone. Delivery goes on."""
        if self.state is not _OPEN:
            return
        self._closed = closed
        self._flush()
        self._write(close_frame(closed.code, closed.reason) if frame is None else frame)
        self.state = _CLOSING
        self._start_deadline()
        self._stop_sending()

    def _start_deadline(self) -> None:
        """One deadline for the core to handle what has come, and for the close handshake."""
        if self._closing_timer is None:
            self._start_timer(self._listener.limits.close_timeout)

    def _give_up(self) -> None:
        """``close_timeout`` is over."""
        self._closing_timer = None
        if self.state is _OPEN:
            # The core was not done with what came before the end: the client is told so.
            self._finish(in_time=False)
            self._stop_timer()
            self._start_timer(_LINGER)
            return
        if self._skipper is None:
            self._depart(self._end_delivery())
        if not self._lost:
            self._transport.abort()

    def _report(self) -> None:
        """Tell the core that the connection is gone, and all who wait for that."""
        if self.state is _CLOSED:
            return
        assert self._closed is not None
        closed = self._closed
        if isinstance(self._end, Close) and closed.cause is Cause.LOST:
            # The close frame was behind messages for which the client did not wait.
            closed = Closed(self._end.code, self._end.reason, ClosedBy.CLIENT)
        self._closed = closed._replace(dropped=self._undelivered) if self._undelivered else closed
        self.state = _CLOSED
        self._stop_timer()
        self._corked = self._end = None
        if self._rest is not None:
            self._rest.close()
        self._listener.forget(self)
        self._receiver.closed(self._closed)
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(self._closed)
        self._waiters = None

    def _start_timer(self, seconds: float) -> None:
        self._closing_timer = self._listener.loop.call_later(seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._closing_timer is not None:
            self._closing_timer.cancel()
            self._closing_timer = None
