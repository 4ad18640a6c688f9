"""What runs a connection's handler: one task per connection, entered in place where that is possible.

Everything has to work inside a handler: ``asyncio.current_task``, ``timeout``, task groups, cancellation, context
variables that last from one message to the next. So every handler runs as a part of its connection's task. But
to wake a task costs as much as a short message does, and most handlers finish without waiting for anything.

Therefore, while the task sleeps, a handler's coroutine is started right where the message arrives, with the task made
the current one (``asyncio._enter_task``, which asyncio documents for those who write tasks) and inside the
task's context. If it finishes, that was all. If it has to wait, it is handed to the task, which is woken and
carries it on from there. Python 3.10 cannot tell a task its context; there the task is woken for every message.

The same task runs on_connect before the first message and on_disconnect after the last, so the three never overlap.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import types
from collections.abc import Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from zcli_core.errors import ConnectionClosed, is_ctrl_c
from zcli_core.websocket.contract import Closed, Message
from zcli_core.websocket.threads import StillRunning

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Connection

_IN_PLACE = sys.version_info >= (3, 11)

_enter_task = asyncio._enter_task
_leave_task = asyncio._leave_task

#: Messages, and bytes or characters of messages, that wait for a busy handler before the transport is held up.
MAX_WAITING = 16
MAX_WAITING_SIZE = 256 * 1024

#: Messages that are handled without a break before other connections get their turn.
_MESSAGES_IN_A_ROW = 128

#: Seconds that a client's close frame waits for a handler that is running while no message waits. A quick handler has
#: answered long before. One that streams forever must not keep a page waiting for its close event.
_ANSWER_GRACE = 0.5

_CANCELLED_ITSELF = "the handler has cancelled its own task"

#: Whose handler the current code belongs to: it is set in the context of each connection's task, and of the threads in
#: which plain handlers run.
HANDLING: contextvars.ContextVar[object] = contextvars.ContextVar("HANDLING", default=None)


class Owner(Protocol):
    """Whose messages a driver handles: the facade's connection object."""

    async def opened(self) -> None:
        """The connection is open; no message is handled before this has returned."""

    def handle(self, message: Message) -> Coroutine[Any, Any, None]:
        """Handle one message."""

    def failed(self, error: BaseException) -> None:
        """:meth:`opened` or :meth:`handle` raised. The connection is closed with 1011 after this call."""

    def closed(self, closed: Closed) -> None:
        """The connection is gone. Called once, at once, even if a handler is still running."""

    async def left(self) -> None:
        """The connection is gone and the handler has ended. Called once, as the last call; raises nothing."""

    def abandoned(self) -> None:
        """Called instead of :meth:`left` if the handler cannot be ended: it runs in a thread."""


class HandlerDriver:
    """Takes messages from the transport and runs the owner's handler on them, in order, one at a time.

    Implements :class:`zcli_core.websocket.contract.Receiver`. A handler that is running when the connection ends is
    not interrupted: its next ``send`` or ``recv`` raises ConnectionClosed, which ends the handling of that message
    quietly. :meth:`drain` and :meth:`cancel` are for the end of the server.
    """

    __slots__ = (
        "_cancelled", "_closed", "_connection", "_context", "_draining", "_dropped", "_ending", "_full", "_gone",
        "_grace", "_handle", "_interrupted", "_leaving", "_loop", "_owner", "_parked", "_receiving", "_size",
        "_sleeping", "_waiting", "discarding", "task",
    )  # fmt: skip

    def __init__(self, connection: Connection, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._owner = owner
        self._handle = owner.handle
        self._loop = loop
        self._waiting: list[Message] = []
        self._size = 0
        #: What the task sleeps on between messages; None while it is busy.
        self._sleeping: asyncio.Future[None] | None = None
        #: What a call of :meth:`receive` waits on.
        self._receiving: asyncio.Future[None] | None = None
        #: Calls in which the handler waits for the end of its connection.
        self._parked = 0
        #: A handler that was started in place and has to be carried on by the task, or what it raised.
        self._interrupted: _Interrupted | BaseException | None = None
        #: Whether the transport was told to hold delivery.
        self._full = False
        #: Whether the transport waits to end the connection, and until when without a message that waits.
        self._ending = False
        self._grace: asyncio.TimerHandle | None = None
        #: What the end of the server waits on, and what the task waits on once the handler has ended.
        self._draining: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        #: Whether messages are not handled any more, because the connection is being closed from this side.
        self.discarding = False
        self._dropped = 0
        #: Whether the server ends the handler, and whether it has ended.
        self._cancelled = False
        self._leaving = False
        self._closed: Closed | None = None
        #: The task in which the handler runs.
        self._context = contextvars.copy_context()
        options: dict[str, Any] = {"context": self._context} if _IN_PLACE else {}
        self.task: asyncio.Task[None] = loop.create_task(self._run(), **options)

    # The transport's side -----------------------------------------------------------------------------------------

    def message(self, message: Message) -> bool:
        """Take the next message; whether another is welcome."""
        if _IN_PLACE and self._sleeping is not None and self._receiving is None and not self._waiting:
            return self._handle_in_place(message)
        if self.discarding:
            self._dropped += 1
            return True
        waiting = self._waiting
        waiting.append(message)
        self._size += len(message)
        _wake(self._receiving or self._sleeping)
        if len(waiting) < MAX_WAITING and self._size < MAX_WAITING_SIZE and self._draining is None:
            return True
        self._full = True
        return False

    def _handle_in_place(self, message: Message) -> bool:
        """Start the handler here and now, as a part of the sleeping task."""
        task, loop = self.task, self._loop
        handling = self._handle(message)
        try:
            _enter_task(loop, task)
        except RuntimeError:  # called inside another task
            self._interrupt(_Interrupted(handling))
            return True
        try:
            waits_for = self._context.run(handling.send, None)
        except StopIteration:
            if self._sleeping is not None and self._sleeping.cancelled():
                self._interrupt(asyncio.CancelledError(_CANCELLED_ITSELF))
            return True
        except BaseException as error:
            if ends_more_than_a_handler(error):
                raise
            self._interrupt(error)
        else:
            self._interrupt(_Interrupted(handling, waits_for, started=True))
        finally:
            _leave_task(loop, task)
        return True

    def _interrupt(self, what: _Interrupted | BaseException) -> None:
        """Hand over to the task; from here on it is busy, so what comes next has to wait."""
        self._interrupted = what
        sleeping, self._sleeping = self._sleeping, None
        _wake(sleeping)

    def end(self) -> bool:
        """No message follows; whether all have been handled."""
        if self.discarding or self._is_idle():
            return True
        self._ending = True
        self._start_grace()
        return False

    def closed(self, closed: Closed) -> None:
        """The connection is gone."""
        dropped = closed.dropped + self._dropped + len(self._waiting)
        self._closed = closed if dropped == closed.dropped else closed._replace(dropped=dropped)
        self._waiting.clear()
        self._size = 0
        self._stop_ending()
        for waiter in (self._receiving, self._sleeping, self._draining, self._gone):
            if waiter is not None:
                _wake(waiter)
        self._owner.closed(self._closed)

    # The owner's side ---------------------------------------------------------------------------------------------

    async def receive(self, timeout: float | None = None) -> Message:
        """The next message, taken out of the handler's sequence: what ``websocket.recv()`` does.

        Raises ConnectionClosed once the connection has ended and no message is left, TimeoutError if none has come
        within ``timeout`` seconds, RuntimeError while another call waits.
        """
        if self._receiving is not None:
            raise RuntimeError("recv() is waiting already: messages are received in one place at a time")
        timer = None if timeout is None else self._loop.call_later(timeout, self._end_receiving, timeout)
        try:
            while not self._waiting:
                if self._closed is not None:
                    raise ConnectionClosed(self._closed.code, self._closed.reason, self._owner)
                self._say_idle()
                if not self._waiting and self._closed is None:
                    self._receiving = self._loop.create_future()
                    try:
                        await self._receiving
                    finally:
                        self._receiving = None
            return self._take()
        finally:
            if timer is not None:
                timer.cancel()
            if self._waiting:
                _wake(self._sleeping)  # they came while the handler slept and this call was about to end

    def _end_receiving(self, timeout: float) -> None:
        if self._receiving is not None and not self._receiving.done():
            self._receiving.set_exception(TimeoutError(f"no message has come within {timeout:g} s"))

    @contextlib.contextmanager
    def parked(self) -> Iterator[None]:
        """While the handler waits for the end of its connection: it is not at work then."""
        self._parked += 1
        try:
            if not self._waiting:
                self._say_idle()
            yield
        finally:
            self._parked -= 1

    def discard(self) -> None:
        """Handle no message any more: the connection is being closed from this side."""
        self.discarding = True
        self._dropped += len(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._stop_ending()

    def drain(self) -> asyncio.Future[None] | None:
        """Take no further messages. A future that is done once those that wait have been handled; None if none do."""
        if self._closed is not None or self._is_idle():
            return None
        self._draining = self._loop.create_future()
        return self._draining

    @property
    def is_at_work(self) -> bool:
        """Whether on_connect or the handler runs, and does not wait for a message or for the end of the connection."""
        return self._gone is None and not self._is_idle()

    def cancel(self) -> None:
        """End the handler where it is, unless it has ended and on_disconnect runs."""
        if not self._leaving:
            self._cancelled = True
            self.task.cancel()

    # The task -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        HANDLING.set(self._owner)
        abandoned = False
        try:
            await self._handle_all()
        except BaseException as error:
            abandoned = isinstance(error, StillRunning)
            if ends_more_than_a_handler(error):
                raise
            self._end_after(error)
        if self._closed is None:
            self._gone = self._loop.create_future()
            await self._gone
        self._leaving = True
        if abandoned:
            self._owner.abandoned()
        else:
            await self._owner.left()

    async def _handle_all(self) -> None:
        """Run on_connect, then the handler for every message, until the connection is gone."""
        try:
            await self._owner.opened()
            await self._take_cancellation()
        except Exception as error:
            if not self._is_own_end(error):
                raise
        in_a_row = 0
        while self._closed is None or self._waiting or self._interrupted:
            try:
                while self._waiting:
                    in_a_row += 1  # also where the handler raises, because the connection has ended
                    if in_a_row > _MESSAGES_IN_A_ROW:
                        in_a_row = 0
                        await asyncio.sleep(0)
                        continue
                    await self._handle(self._take())
                    await self._take_cancellation()
                self._say_idle()
                if not self._waiting and self._closed is None:
                    in_a_row = 0
                    await self._sleep()
            except Exception as error:
                if not self._is_own_end(error):
                    raise

    async def _take_cancellation(self) -> None:
        """Raise the CancelledError that a handler has asked for by cancelling its own task before it returned."""
        task: Any = asyncio.current_task()  # an eager task is not in self.task yet when it is started
        if task.cancelling() if _IN_PLACE else task._must_cancel:
            await asyncio.sleep(0)

    def _is_own_end(self, error: BaseException) -> bool:
        """Whether an error says only that this connection has ended, which is not a mistake of the handler's.

        A group of errors, as a TaskGroup raises it, counts if all of them do.
        """
        if isinstance(error, ConnectionClosed):
            return error.connection is self._owner
        within = getattr(error, "exceptions", None)
        return isinstance(within, tuple) and bool(within) and all(map(self._is_own_end, within))

    def _end_after(self, error: BaseException) -> None:
        """Close the connection because the handler raised, or because the task was cancelled."""
        if not (isinstance(error, asyncio.CancelledError) and (self._cancelled or self.discarding)):
            self._owner.failed(error)
        if self._closed is None:
            self._connection.close(1011, "the server failed to handle a message")
        self.discard()

    async def _sleep(self) -> None:
        """Sleep until there is something that was not dealt with in place; carry on what was interrupted."""
        sleeping = self._sleeping = self._loop.create_future()
        cancelled: asyncio.CancelledError | None = None
        try:
            await sleeping
        except asyncio.CancelledError as error:
            if self._interrupted is None:
                self._cancelled = True  # no handler's doing: the loop is being ended
                raise
            cancelled = error  # it is meant for the handler, which asked for it or let its time run out
        finally:
            self._sleeping = None
        interrupted, self._interrupted = self._interrupted, None
        if isinstance(interrupted, _Interrupted):
            await interrupted.carry_on(cancelled)
            await self._take_cancellation()
        elif interrupted is not None:
            raise interrupted

    def _take(self) -> Message:
        message = self._waiting.pop(0)
        self._size -= len(message)
        if self._full and len(self._waiting) <= MAX_WAITING // 2 and self._size <= MAX_WAITING_SIZE // 2:
            # Half of what waited is done: let the transport go on.
            self._full = False
            if self._draining is None:
                self._connection.resume_delivery()
        if self._ending:
            self._start_grace()
        return message

    def _is_idle(self) -> bool:
        """Whether every message was handled, and the handler waits for nothing but the next one or the end."""
        at_rest = self._sleeping is not None or self._receiving is not None or self._parked
        return bool(at_rest) and not self._waiting

    def _say_idle(self) -> None:
        """Everything has been handled: tell those who wait for that."""
        if self._ending:
            self._stop_ending()
            self._connection.resume_delivery()
        if self._draining is not None:
            _wake(self._draining)

    def _start_grace(self) -> None:
        """Give the last message's handler a moment before the client's close frame is answered."""
        if not self._waiting and self._grace is None:
            self._grace = self._loop.call_later(_ANSWER_GRACE, self._say_idle)

    def _stop_ending(self) -> None:
        self._ending = False
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def ends_more_than_a_handler(error: BaseException) -> bool:
    """Whether an error is not the handler's: it is Ctrl+C, or what Python raises when a task is given up."""
    return is_ctrl_c(error) or (isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None)


class _Interrupted:
    """A handler's coroutine that has to be carried on by the task."""

    __slots__ = ("_coroutine", "_started", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any = None, started: bool = False) -> None:
        self._coroutine = coroutine
        #: What it has yielded: a future, or None for a bare ``sleep(0)``.
        self._waits_for = waits_for
        self._started = started

    @types.coroutine
    def carry_on(self, cancelled: asyncio.CancelledError | None) -> Generator[Any, Any, None]:
        """Go on as if the task itself had started it; ``cancelled`` has reached the task in between."""
        coroutine = self._coroutine
        if not self._started:
            yield from coroutine.__await__()
            return
        waits_for = self._waits_for
        if cancelled is not None and (waits_for is None or not waits_for.cancel(*cancelled.args)):
            try:
                waits_for = coroutine.throw(cancelled)
            except StopIteration:
                return
        while True:
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - into the handler, where it belongs
                try:
                    waits_for = coroutine.throw(error)
                except StopIteration:
                    return
            else:
                yield from coroutine.__await__()
                return
