"""A WebSocket connection that an ASGI server owns: the core's view of one ``receive`` and one ``send``."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.contract import Cause, Closed, ClosedBy, State
from zcli_core.websocket.parts.asgi_sender import AsgiSender, Event, Send
from zcli_core.websocket.parts.delivery import MESSAGES_IN_A_ROW
from zcli_core.websocket.parts.events import too_big
from zcli_core.websocket.parts.frames import check_close

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Message, Prepared, Receiver, Request
    from zcli_core.websocket.parts.asgi_listener import AsgiListener

Receive = Callable[[], Awaitable[Event]]

_OPEN, _CLOSING, _CLOSED = State.OPEN, State.CLOSING, State.CLOSED

#: The key of a disconnect event with the :class:`Cause`, if the server tells that it has closed the connection itself.
CAUSE = "zcli.cause"

_NO_CLOSE_FRAME = "the client left without a close frame"

#: Bytes of memory that an event needs besides its message: very many empty messages are much, too.
_EVENT_SIZE = 256
#: Most bytes of a character in UTF-8.
_UTF8 = 4
#: Characters and bytes that one connection handles without a break, besides :data:`.delivery.MESSAGES_IN_A_ROW`.
_SIZE_IN_A_ROW = 1024 * 1024

_enter_task = asyncio._enter_task
_leave_task = asyncio._leave_task


class PreparedEvent:
    """A message as an event of ASGI, made once for all its receivers."""

    __slots__ = ("event", "size")

    def __init__(self, message: Message) -> None:
        self.event = message_event(message)
        self.size = len(message.encode()) if isinstance(message, str) else len(self.event["bytes"])


def message_event(message: Message) -> Event:
    """Return the event that sends a message. Raises TypeError if it is neither text nor bytes."""
    if isinstance(message, str):
        return {"type": "websocket.send", "text": message}
    if isinstance(message, (bytes, bytearray, memoryview)):
        return {"type": "websocket.send", "bytes": bytes(message)}
    raise TypeError(f"message must be str or bytes, got {type(message).__name__}")


class AsgiConnection(AsgiSender):
    """Implements :class:`zcli_core.websocket.contract.Connection`.

    The task in which the server calls the application runs :meth:`run`: it receives the events and delivers the
    messages. The server reads and writes, pings, and answers the client's close frame. So :attr:`latency` is always 0,
    :meth:`ping` raises, and :attr:`write_buffer_size` counts only the bytes that the server has not accepted.
    """

    __slots__ = (
        "__weakref__", "_closed", "_deadline", "_discarding", "_given_up", "_id", "_listener", "_receive",
        "_receiver", "_receiving", "_resumed", "_suspended", "_waiters", "request", "state",
        "subprotocol",
    )  # fmt: skip

    def __init__(
        self,
        listener: AsgiListener,
        request: Request,
        subprotocol: str | None,
        receive: Receive,
        send: Send,
        task: asyncio.Task[Any],
        receiving: asyncio.Future[Event] | None = None,
    ) -> None:
        """Make the connection of an upgrade that is not accepted yet.

        Args:
            listener: The listener of the connection.
            request: The upgrade.
            subprotocol: The agreed subprotocol.
            receive: The server's function.
            send: The server's function.
            task: The task in which the server calls the application.
            receiving: A call of ``receive`` that waits already.
        """
        super().__init__(send, task)
        self._listener = listener
        self.request = request
        self.subprotocol = subprotocol
        self._receive = receive
        self._receiving = receiving
        self.state = _OPEN
        self._receiver: Receiver
        self._closed: Closed | None = None
        #: Whether no further message is delivered, because the core has closed the connection.
        self._discarding = False
        #: Whether :meth:`run` must return, without waiting for the server.
        self._given_up = False
        #: Whether the task waits in :meth:`run`, so that cancelling it ends that wait and nothing else.
        self._suspended = False
        self._resumed: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._id: uuid.UUID | None = None
        self._waiters: list[asyncio.Future[Closed]] | None = None

    @property
    def id(self) -> uuid.UUID:
        """A random identifier, made when it is first used."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def latency(self) -> float:
        """Always 0.0: the server sends the pings and does not say how long the pongs took."""
        return 0.0

    # Sending ------------------------------------------------------------------------------------------------------

    def accept(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Accept the upgrade."""
        self._push({"type": "websocket.accept", "subprotocol": self.subprotocol, "headers": headers})

    def send(self, message: Message) -> None:
        """Send a message."""
        if self.state is not _OPEN:
            raise self._closed_error()
        event = {"type": "websocket.send", "text": message} if type(message) is str else message_event(message)
        self._push(event)
        if self.write_paused:
            self._close_if_slow()
        if self.state is not _OPEN:
            raise self._closed_error()

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message; return whether it was sent."""
        if self.state is not _OPEN:
            return False
        made: PreparedEvent = prepared  # type: ignore[assignment]  # made by this listener
        self._push(dict(made.event), made.size)
        if self.write_paused:
            self._close_if_slow()
        return self.state is _OPEN

    def _close_if_slow(self) -> None:
        limit = self._listener.limits.max_send_buffer
        if self.write_buffer_size + len(self._queue or ()) * _EVENT_SIZE > limit:
            self._close(Closed(1013, f"more than {limit} bytes left unread", ClosedBy.SERVER, Cause.SLOW))

    async def drain(self) -> None:
        """Wait until the server has accepted everything."""
        while self.write_paused and self.state is _OPEN:
            await self._wait_until_sent()
        if self.state is not _OPEN:
            raise self._closed_error()

    def _send_failed(self, error: BaseException) -> None:
        """Note that ``send`` has raised. The server does so when the client is gone, with an error of its own."""
        log = self._listener.log
        if isinstance(error, (OSError, RuntimeError, ConnectionClosed, asyncio.CancelledError)):
            log.debug("the ASGI server cannot send to %r: %s: %s", self.request, type(error).__name__, error)
        elif self.state is _OPEN:
            log.error("the ASGI server failed to send to %r", self.request, exc_info=error)
        self._drop_unsent()
        self._lose()

    def ping(self, payload: bytes | None = None) -> asyncio.Future[float]:
        """Raise, because an application cannot send a ping through ASGI."""
        if self.state is not _OPEN:
            raise self._closed_error()
        raise NotImplementedError(
            "ping() is not available, because an ASGI server owns this connection and ASGI has no pings; the server "
            "sends pings of its own, such as uvicorn with --ws-ping-interval"
        )

    # Receiving ----------------------------------------------------------------------------------------------------

    async def run(self, receiver: Receiver) -> None:
        """Deliver the messages until the connection is gone, then report that to the receiver."""
        self._receiver = receiver
        try:
            await self._deliver()
        except asyncio.CancelledError:
            if not self._given_up or self._is_cancelled_by_others():
                raise
        finally:
            if not self._loop.is_closed():
                self._lose()
                self._drop_unsent()
                if self._receiving is not None:
                    self._receiving.cancel()
                self._report_closed()

    def _is_cancelled_by_others(self) -> bool:
        """Take back the cancellation of :meth:`_give_up`; return whether there is another one."""
        return sys.version_info >= (3, 11) and self._app_task.uncancel() > 0

    async def _deliver(self) -> None:
        """Deliver messages until the client has left; wait until the core has handled them all."""
        loop, task, receiver = self._loop, self._app_task, self._receiver
        limit = self._listener.limits.max_size
        in_a_row = size_in_a_row = 0
        while not self._given_up:
            self._suspended = True
            event = await self._next_event()
            self._suspended = False
            kind = event["type"]
            if kind == "websocket.disconnect":
                self._client_left(event)
                break
            if kind != "websocket.receive" or self._discarding:
                continue
            message = event.get("text")
            if message is None:
                message = event.get("bytes")
                if message is None:
                    continue
            size = len(message)
            if size * _UTF8 > limit and (size := _byte_length(message)) > limit:
                await self._finish(too_big(size, limit))
                continue
            # The receiver makes the task of the handler the current one, so that this one must not be.
            _leave_task(loop, task)
            try:
                more = receiver.message(message)
            finally:
                _enter_task(loop, task)
            if not more:
                await self._wait_for_core()
            in_a_row += 1
            size_in_a_row += size
            if in_a_row >= MESSAGES_IN_A_ROW or size_in_a_row >= _SIZE_IN_A_ROW:
                in_a_row = size_in_a_row = 0
                await asyncio.sleep(0)
        if not self._discarding and not self._given_up:
            await self._end_delivery()

    def _next_event(self) -> Awaitable[Event]:
        receiving = self._receiving
        if receiving is None:
            return self._receive()
        self._receiving = None
        return receiving

    async def _finish(self, failure: Any) -> None:
        """Close, because the client has violated a limit, once the core has handled the messages before that."""
        self._start_deadline()
        await self._end_delivery()
        self._discarding = True
        self._close(Closed(failure.code, failure.reason, ClosedBy.SERVER, Cause.VIOLATION))

    async def _end_delivery(self) -> None:
        """Report to the core that no message follows, and wait until it has handled all messages."""
        _leave_task(self._loop, self._app_task)
        try:
            handled = self._receiver.end()
        finally:
            _enter_task(self._loop, self._app_task)
        self._discarding = True
        if not handled:
            self._start_deadline()
            await self._wait_for_core()

    async def _wait_for_core(self) -> None:
        """Wait for :meth:`resume_delivery`, or until the connection is closed."""
        if not self._given_up:
            self._resumed = self._loop.create_future()
            self._suspended = True
            await self._resumed
            self._suspended = False

    def resume_delivery(self) -> None:
        """Continue the delivery after the core asked to wait."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    def _client_left(self, event: Event) -> None:
        """Note how the connection ended. ASGI does not say which side has closed it first."""
        code = event.get("code") or 1005
        reason = event.get("reason")
        if self._closed is not None and self._closed.cause is not Cause.LOST:
            self.state = _CLOSING
            return
        if code == 1006 or (code == 1005 and reason is None):
            self._lose()
            return
        cause: Cause | None = event.get(CAUSE)
        by = ClosedBy.SERVER if cause is not None or code == 1012 else ClosedBy.CLIENT
        self._closed = Closed(code, reason or "", by, cause or Cause.CLOSE)
        self._stop_sending()

    # The end ------------------------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake.

        Raises:
            ValueError: The code is not allowed in a close frame, or the reason is too long.
        """
        check_close(code, reason)
        self._close(Closed(code, reason, ClosedBy.SERVER))
        self._discarding = True
        self.resume_delivery()

    def _close(self, closed: Closed) -> None:
        """Send a close frame and give the client ``close_timeout`` to close its side. Delivery goes on."""
        if self.state is not _OPEN:
            return
        self._closed = closed
        self._stop_sending()
        self._start_deadline()
        self._push({"type": "websocket.close", "code": closed.code, "reason": closed.reason})

    def _lose(self) -> None:
        """Note that the connection is lost."""
        if self.state is _OPEN:
            self._closed = Closed(1006, _NO_CLOSE_FRAME, ClosedBy.NETWORK, Cause.LOST)
            self._stop_sending()
            self._start_deadline()

    def _stop_sending(self) -> None:
        self.state = _CLOSING
        self._wake_drained()

    def abort(self) -> None:
        """Return from the application without a close frame. ASGI cannot drop the connection itself."""
        if self.state is _OPEN:
            self._closed = Closed(1006, "dropped", ClosedBy.SERVER, Cause.ABORTED)
            self._stop_sending()
        self._discarding = True
        self._give_up()

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._listener.limits.close_timeout, self._give_up)

    def _give_up(self) -> None:
        """End :meth:`run` without waiting for the server."""
        if self._given_up or self.state is _CLOSED:
            return
        self._given_up = True
        self._drop_unsent()
        if self._suspended:
            self._app_task.cancel()

    def _report_closed(self) -> None:
        assert self._closed is not None
        self.state = _CLOSED
        if self._deadline is not None:
            self._deadline.cancel()
        self._listener.connections.discard(self)
        self._receiver.closed(self._closed)
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(self._closed)
        self._waiters = None

    async def wait_closed(self) -> Closed:
        """Wait until the connection is closed. Return how it ended."""
        if self.state is _CLOSED:
            assert self._closed is not None
            return self._closed
        future: asyncio.Future[Closed] = self._loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(future)
        return await future

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(*self._closed[:2]) if self._closed is not None else ConnectionClosed()


def _byte_length(message: Message) -> int:
    return len(message.encode()) if isinstance(message, str) else len(message)
