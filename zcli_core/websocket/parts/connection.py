"""An open WebSocket connection: the end of the client's data, the close handshake, and the report of how it ended."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

from zcli_core.websocket.contract import Cause, Closed, ClosedBy, State
from zcli_core.websocket.parts.close_frame_scanner import CloseFrameScanner
from zcli_core.websocket.parts.delivery import MessageDelivery
from zcli_core.websocket.parts.events import Close, Failure
from zcli_core.websocket.parts.frames import check_close, close_frame
from zcli_core.websocket.parts.sending import release_buffer
from zcli_core.websocket.parts.unread import UnreadData

if TYPE_CHECKING:
    import asyncio

    from zcli_core.websocket.contract import Message, Prepared

_OPEN, _CLOSING, _CLOSED = State.OPEN, State.CLOSING, State.CLOSED

_NO_CLOSE_FRAME = "the client left without a close frame"

#: Seconds that TCP stays open after both close frames were sent, or after ``close_timeout`` passed before the server's
#: close frame was sent. If the server closed at once while the client still sends, TCP would reset the connection, and
#: the client would lose the last bytes that it has not read yet.
_LINGER = 0.25

#: Size in bytes of one read while received data is discarded. It is small because each frame in it takes time to scan.
_DISCARD_SIZE = 16 * 1024

#: Maximum number of decompression steps that are spent only on counting undelivered messages.
_LAST_TURNS = 16


class AsyncioConnection(MessageDelivery):
    """Implements :class:`zcli_core.websocket.contract.Connection` over an asyncio transport.

    A transport derives from it, adds ``send`` and ``send_prepared``, and passes its decoder.
    """

    __slots__ = ("__weakref__",)

    @property
    def id(self) -> uuid.UUID:
        """A random identifier, made when it is first used."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    # What a transport adds ----------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send a message."""
        raise NotImplementedError

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message; return whether it was sent."""
        raise NotImplementedError

    # The end of the client's data ---------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        """Handle the end of the client's data (asyncio). Return True to keep the transport open for pending writes."""
        self._gone = True
        plain = self._transport.can_write_eof()
        if self._scanner is not None:
            return False
        if not plain:
            self._lose(_NO_CLOSE_FRAME)  # TLS: the transport closes itself
        if self._held:
            self._start_deadline()
        elif not self._end_reported:
            self._report_end()
        return plain

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the loss of the connection (asyncio). Data that the client sent before is still delivered."""
        self._gone = True
        self._lose(getattr(exc, "strerror", None) or _NO_CLOSE_FRAME)
        if self._scanner is None and not self._end_reported:
            self._unread = UnreadData(self._transport) or None
            if self._held:
                self._start_deadline()
            elif self._unread is not None:
                self._deliver()
            else:
                self._report_end()
        self._lost = True
        release_buffer(self._transport)
        if self._scanner is not None:
            self._report_closed()

    def _lose(self, reason: str) -> None:
        """Stop sending, because the connection is lost or the client has left."""
        if self.state is _OPEN:
            self._closed = Closed(1006, reason, ClosedBy.NETWORK, Cause.LOST)
            self.state = _CLOSING
            self._corked = None
            self._stop_sending()

    def _look_for_close_frame(self) -> None:
        """Start the deadline if the client's close frame waits behind messages that the core has not taken yet."""
        if self._closing_timer is None:
            missing, data = self._decoder.rest()
            if CloseFrameScanner(missing).feed(data):
                self._start_deadline()

    def _report_end(self) -> None:
        """Report to the core that no message follows. Close when the core has handled all messages."""
        self._end_reported = True
        if self._receiver.end():
            self._finish()
        else:
            self._start_deadline()

    def _finish(self, in_time: bool = True) -> None:
        """Close, because the core has handled all messages, or because the time for that is over."""
        if self._scanner is not None:
            return
        rest = self._stop_delivery()
        end = self._end
        if isinstance(end, Close):
            frame = None if in_time else close_frame(1011, "messages before the close were not handled in time")
            self._close(Closed(end.code, end.reason, ClosedBy.CLIENT), frame)
        elif isinstance(end, Failure):
            self._stop_timer()
            self._close(Closed(end.code, end.reason, ClosedBy.SERVER, Cause.VIOLATION))
        else:
            if self.state is _OPEN:
                self._flush()  # a client that has ended only its own side still reads
                self._lose(_NO_CLOSE_FRAME)
        self._await_close_frame(rest)

    def _stop_delivery(self) -> bytes:
        """End the delivery and count the undelivered messages. Return the received bytes that were not decoded."""
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
        self._scanner = CloseFrameScanner(missing)
        if rest and self._gone and not isinstance(self._end, Close) and self._scanner.feed(rest):
            self._end = Close(1005, "")  # behind data that would take too long to decode
        if not self._gone:
            self._read_buffer = self._listener.read_buffer[:_DISCARD_SIZE]
        self._held = 0
        if self._reading_paused:
            self._resume_reading()
        return rest

    # The close handshake ------------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake.

        Raises:
            ValueError: The code is not allowed in a close frame, or the reason is too long.
        """
        check_close(code, reason)
        if self._scanner is None:
            self._close(Closed(code, reason, ClosedBy.SERVER))
            self._await_close_frame(self._stop_delivery())

    def refuse(self, response: bytes, code: int, reason: str, received: bytes) -> None:
        """Send the response to the upgrade and a close frame. Nothing that the client sends is delivered."""
        self._decoder.feed(received)
        self._close(Closed(code, reason, ClosedBy.SERVER), response + close_frame(code, reason))
        self._await_close_frame(self._stop_delivery())

    def close_silent(self, silence: float) -> None:
        """Close the connection because the client was silent for so many seconds; see :mod:`.keepalive`."""
        if self._reading_paused:
            self.quiet_ticks = 0  # the server does not read, because the core holds delivery
        else:
            reason = f"keepalive: no data received for {silence:g} s"
            self._close(Closed(1011, reason, ClosedBy.SERVER, Cause.SILENT))

    def _close(self, closed: Closed, frame: bytes | None = None) -> None:
        """Send a close frame and give the client ``close_timeout`` to close its side. Delivery goes on."""
        if self.state is not _OPEN:
            return
        self._closed = closed
        self._flush()
        self._write(close_frame(closed.code, closed.reason) if frame is None else frame)
        self.state = _CLOSING
        self._start_deadline()
        self._stop_sending()

    def _await_close_frame(self, rest: bytes) -> None:
        """After the server's close frame, keep reading until the client's close frame or the end of its data."""
        if self._lost:
            self._listener.loop.call_soon(self._report_closed)  # later, because the core may be calling this method
        elif self._gone:
            if not self._transport.is_closing():
                self._transport.close()
        elif isinstance(self._end, Close):
            self._close_tcp()
        else:
            self.discard(rest)

    def discard(self, data: bytes | memoryview) -> None:
        """Drop data, and close TCP at the client's close frame."""
        assert self._scanner is not None
        if not isinstance(self._end, Close) and self._scanner.feed(data):
            self._end = Close(1005, "")
            self._close_tcp()

    def _close_tcp(self) -> None:
        """Close TCP: both sides have sent their close frame (RFC 6455, 7.1.1)."""
        if not self._transport.can_write_eof():
            self._transport.close()  # TLS sends its own closing alert, and reads on meanwhile
            return
        with contextlib.suppress(OSError):  # the client has reset the connection
            self._transport.write_eof()
        if not self._transport.get_write_buffer_size():
            self._stop_timer()
            self._start_timer(_LINGER)

    # Aborting and deadlines ---------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Drop the connection at once."""
        if self.state is _OPEN:
            self._closed = Closed(1006, "dropped", ClosedBy.SERVER, Cause.ABORTED)
            self.state = _CLOSING
            self._corked = None
            self._stop_sending()
        if self._scanner is None:
            self._stop_delivery()
            if self._lost:
                self._listener.loop.call_soon(self._report_closed)
        if not self._lost:
            self._transport.abort()

    def drop(self) -> None:
        """Close a refused connection without waiting for the client's close frame, because the listener stops."""
        self._transport.close()

    def _start_deadline(self) -> None:
        """Start ``close_timeout`` unless it is running. It limits both the handling of messages and the handshake."""
        if self._closing_timer is None:
            self._start_timer(self._listener.limits.close_timeout)

    def _start_timer(self, seconds: float) -> None:
        self._closing_timer = self._listener.loop.call_later(seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._closing_timer is not None:
            self._closing_timer.cancel()
            self._closing_timer = None

    def _give_up(self) -> None:
        """End the connection, because ``close_timeout`` is over."""
        self._closing_timer = None
        if self.state is _OPEN:
            # The core has not handled all messages in time. The close frame tells the client.
            self._finish(in_time=False)
            self._stop_timer()
            self._start_timer(_LINGER)
            return
        if self._scanner is None:
            self._await_close_frame(self._stop_delivery())
        if not self._lost:
            self._transport.abort()

    # The report ---------------------------------------------------------------------------------------------------

    async def wait_closed(self) -> Closed:
        """Wait until the connection is closed. Return how it ended."""
        if self.state is _CLOSED:
            assert self._closed is not None
            return self._closed
        future: asyncio.Future[Closed] = self._listener.loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(future)
        return await future

    def _report_closed(self) -> None:
        """Report to the core, and to every :meth:`wait_closed`, that the connection is closed."""
        if self.state is _CLOSED:
            return
        assert self._closed is not None
        closed = self._closed
        if isinstance(self._end, Close) and closed.cause is Cause.LOST:
            # The close frame was behind messages that the client did not wait for.
            closed = Closed(self._end.code, self._end.reason, ClosedBy.CLIENT)
        self._closed = closed._replace(dropped=self._undelivered) if self._undelivered else closed
        self.state = _CLOSED
        self._stop_timer()
        self._corked = self._end = None
        if self._unread is not None:
            self._unread.close()
        self._listener.forget(self)
        self._receiver.closed(self._closed)
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(self._closed)
        self._waiters = None
