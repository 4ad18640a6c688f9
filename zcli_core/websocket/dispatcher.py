"""Call the handler for each message of one connection: in order, one at a time, in the connection's own task.

All of asyncio must work inside a handler: ``asyncio.current_task``, ``timeout``, task groups, cancellation, and context
variables that last from one message to the next. So every handler runs as a part of its connection's task. But waking
a task costs as much as a short message, and most handlers finish without waiting for anything.

Therefore a handler's coroutine is started in place, where the message arrives, while the task sleeps. The task is made
the current one (``asyncio._enter_task``, which asyncio documents for third-party task implementations), and the
coroutine runs in the task's context. If it finishes, the task stays asleep. If it has to wait, it is handed to the
task, which is woken and continues it. Python 3.10 cannot create a task with a given context, so there the task is woken
for every message.

The same task runs on_connect before the first message and on_disconnect after the last, so the three never overlap.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from zcli_core.errors import ConnectionClosed, is_ctrl_c
from zcli_core.websocket.contract import Closed, Message
from zcli_core.websocket.counters import size_of
from zcli_core.websocket.handler_threads import StillRunning
from zcli_core.websocket.parts.interrupted import InterruptedCoroutine

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Connection
    from zcli_core.websocket.counters import Traffic

_IN_PLACE = sys.version_info >= (3, 11)

_enter_task = asyncio._enter_task
_leave_task = asyncio._leave_task

#: Limits of the queue for a busy handler, in messages and in bytes or characters. A full queue stops delivery.
MAX_WAITING = 16
MAX_WAITING_SIZE = 256 * 1024

#: Messages that the task handles before it yields to other connections. The transport's limit does not count here:
#: it restarts whenever the task makes room in the queue.
_MAX_IN_A_ROW = 128

#: Seconds that a client's close frame waits for the handler of the last message. A quick handler has sent its response
#: by then. A handler that streams forever must not delay the close event of a page.
_CLOSE_GRACE = 0.5

_CANCELLED_ITSELF = "the handler has cancelled its own task"

#: The connection whose handler runs: set in the context of each connection's task, and so in the threads of its plain
#: handlers.
HANDLING: contextvars.ContextVar[object] = contextvars.ContextVar("HANDLING", default=None)


class Session(Protocol):
    """The connection object whose messages are handled."""

    async def run_on_connect(self) -> None:
        """Run on_connect. No message is handled before this has returned."""

    def handle(self, message: Message) -> Coroutine[Any, Any, None]:
        """Handle one message."""

    def handler_failed(self, error: BaseException) -> None:
        """Log what on_connect or the handler raised. The connection is closed with 1011 after this call."""

    def closed(self, closed: Closed) -> None:
        """Note that the connection is closed. Called once, at once, even if a handler is still running."""

    async def run_on_disconnect(self) -> None:
        """Run on_disconnect. Called once, last, when the handler has ended; raises nothing."""

    def handler_abandoned(self) -> None:
        """Called instead of :meth:`run_on_disconnect` if the handler cannot be ended, because it runs in a thread."""


class MessageDispatcher:
    """The receiver of one connection: runs the session's handler on its messages, in order, one at a time.

    Implements :class:`zcli_core.websocket.contract.Receiver`. A handler that is running when the connection ends is
    not interrupted: its next ``send`` or ``recv`` raises ConnectionClosed, which ends the handling of that message
    quietly. :meth:`drain` and :meth:`cancel` are called when the server stops.
    """

    __slots__ = (
        "_cancelled", "_closed", "_context", "_counters", "_draining", "_dropped", "_ending", "_full", "_gone",
        "_grace", "_handle", "_interrupted", "_leaving", "_loop", "_parked", "_receiving", "_session", "_size",
        "_sleeping", "_tasks", "_waiting", "connection", "discarding", "task",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, session: Session, loop: asyncio.AbstractEventLoop, counters: Traffic
    ) -> None:
        self.connection = connection
        self._counters = counters
        self._session = session
        self._handle = session.handle
        self._loop = loop
        self._waiting: list[Message] = []
        self._size = 0
        #: The future that the task awaits between messages; None while it is busy.
        self._sleeping: asyncio.Future[None] | None = None
        #: The future that a call of :meth:`receive` awaits.
        self._receiving: asyncio.Future[None] | None = None
        #: Tasks beside the handler, which count as work of the handler; None until there is one.
        self._tasks: set[asyncio.Task[Any]] | None = None
        #: Number of calls in which the handler waits for the end of its connection.
        self._parked = 0
        #: A handler that was started in place and that the task has to continue, or the error that it raised.
        self._interrupted: InterruptedCoroutine | BaseException | None = None
        #: Whether the queue is full, so that the transport holds delivery.
        self._full = False
        #: Whether the transport waits to end the connection, and the timer that ends this wait for a busy handler.
        self._ending = False
        self._grace: asyncio.TimerHandle | None = None
        #: The future that a stopping server awaits, and the one that the task awaits once the handler has ended.
        self._draining: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        #: Whether messages are dropped, because this side is closing the connection.
        self.discarding = False
        self._dropped = 0
        #: Whether the server has cancelled the handler, and whether the handler has ended.
        self._cancelled = False
        self._leaving = False
        self._closed: Closed | None = None
        #: The task in which the handler runs.
        self._context = contextvars.copy_context()
        options: dict[str, Any] = {"context": self._context} if _IN_PLACE else {}
        self.task: asyncio.Task[None] = loop.create_task(self._run(), **options)

    # The transport's side -----------------------------------------------------------------------------------------

    def message(self, message: Message) -> bool:
        """Handle or queue the next message; return whether the transport may deliver another."""
        counters = self._counters
        counters.messages_received += 1
        # Without a call for the usual message: bytes, or a text in ASCII.
        counters.bytes_received += len(message) if type(message) is bytes or message.isascii() else size_of(message)
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
        """Start the handler now, as a part of the sleeping task."""
        task, loop = self.task, self._loop
        handling = self._handle(message)
        try:
            _enter_task(loop, task)
        except RuntimeError:  # called inside another task
            self._interrupt(InterruptedCoroutine(handling))
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
            self._interrupt(InterruptedCoroutine(handling, waits_for, started=True))
        finally:
            _leave_task(loop, task)
        return True

    def _interrupt(self, what: InterruptedCoroutine | BaseException) -> None:
        """Hand over to the task. It is busy from now on, so the next messages are queued."""
        self._interrupted = what
        sleeping, self._sleeping = self._sleeping, None
        _wake(sleeping)

    def end(self) -> bool:
        """Note that no message follows; return whether all have been handled."""
        if self.discarding or self._is_idle():
            return True
        self._ending = True
        self._start_grace()
        return False

    def closed(self, closed: Closed) -> None:
        """Note that the connection is closed, and wake what waits for it."""
        dropped = closed.dropped + self._dropped + len(self._waiting)
        self._closed = closed if dropped == closed.dropped else closed._replace(dropped=dropped)
        self._waiting.clear()
        self._size = 0
        self._stop_ending()
        self._cancel_tasks()
        for waiter in (self._receiving, self._sleeping, self._draining, self._gone):
            if waiter is not None:
                _wake(waiter)
        self._session.closed(self._closed)

    # The session's side -------------------------------------------------------------------------------------------

    async def receive(self, timeout: float | None = None) -> Message:
        """Return the next message instead of passing it to the handler, as ``websocket.recv()`` does.

        Args:
            timeout: Longest time to wait, in seconds; None waits forever.

        Raises:
            ConnectionClosed: The connection has ended and no message is left.
            TimeoutError: No message has arrived within ``timeout``.
            RuntimeError: Another call waits already.
        """
        if self._receiving is not None:
            raise RuntimeError("recv() is already waiting for the next message; only one call may wait at a time")
        timer = None if timeout is None else self._loop.call_later(timeout, self._end_receiving, timeout)
        try:
            while not self._waiting:
                if self._closed is not None:
                    raise ConnectionClosed(self._closed.code, self._closed.reason, self._session)
                self._note_idle()
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
                _wake(self._sleeping)  # they arrived while the task slept and this call was about to end

    def _end_receiving(self, timeout: float) -> None:
        if self._receiving is not None and not self._receiving.done():
            self._receiving.set_exception(TimeoutError(f"no message arrived within {timeout:g} s"))

    def start_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in a task beside the handler, as ``websocket.start_task()`` does."""
        task = self._loop.create_task(coroutine)
        if self._closed is not None:
            task.cancel()
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        assert self._tasks is not None
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._is_own_end(error):
            self._end_after(error)
        if self._is_idle():
            self._note_idle()

    def _cancel_tasks(self) -> None:
        for task in tuple(self._tasks or ()):
            task.cancel()

    @contextlib.contextmanager
    def parked(self) -> Iterator[None]:
        """Mark the handler as idle while it waits for the end of its connection."""
        self._parked += 1
        try:
            if not self._waiting:
                self._note_idle()
            yield
        finally:
            self._parked -= 1

    def discard(self) -> None:
        """Drop all messages from now on, because this side is closing the connection."""
        self.discarding = True
        self._dropped += len(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._stop_ending()

    def drain(self) -> asyncio.Future[None] | None:
        """Accept no further messages. Return a future that is done once the queue is handled; None if that is so."""
        if self._closed is not None or self._is_idle():
            return None
        self._draining = self._loop.create_future()
        return self._draining

    @property
    def is_at_work(self) -> bool:
        """Whether on_connect or the handler runs and waits neither for a message nor for the end of the connection."""
        return self._gone is None and not self._is_idle()

    def cancel(self) -> None:
        """Cancel the handler, unless it has ended and on_disconnect runs."""
        self._cancel_tasks()
        if not self._leaving:
            self._cancelled = True
            self.task.cancel()

    # The task -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        HANDLING.set(self._session)
        abandoned = False
        try:
            await self._handle_all()
        except BaseException as error:
            abandoned = isinstance(error, StillRunning)
            # The garbage collector may end a task whose loop was closed while another loop runs.
            if ends_more_than_a_handler(error) or self._loop.is_closed():
                raise
            self._end_after(error)
        if self._closed is None:
            self._gone = self._loop.create_future()
            await self._gone
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._leaving = True
        if abandoned:
            self._session.handler_abandoned()
        else:
            await self._session.run_on_disconnect()

    async def _handle_all(self) -> None:
        """Run on_connect, then the handler for every message, until the connection is gone."""
        try:
            await self._session.run_on_connect()
            await self._raise_own_cancellation()
        except Exception as error:
            if not self._is_own_end(error):
                raise
        in_a_row = 0
        while self._closed is None or self._waiting or self._interrupted:
            try:
                while self._waiting:
                    in_a_row += 1  # counted before the handler runs, because it may raise
                    if in_a_row > _MAX_IN_A_ROW:
                        in_a_row = 0
                        await asyncio.sleep(0)
                        continue
                    await self._handle(self._take())
                    await self._raise_own_cancellation()
                self._note_idle()
                if not self._waiting and self._closed is None:
                    in_a_row = 0
                    await self._sleep()
            except Exception as error:
                if not self._is_own_end(error):
                    raise

    async def _raise_own_cancellation(self) -> None:
        """Raise CancelledError if a handler has cancelled its own task before it returned."""
        task: Any = asyncio.current_task()  # an eager task is not in self.task yet when it is started
        if task.cancelling() if _IN_PLACE else task._must_cancel:
            await asyncio.sleep(0)

    def _is_own_end(self, error: BaseException) -> bool:
        """Whether an error only says that this connection has ended, which is not a failure of the handler.

        That also holds for a group of such errors, as a TaskGroup raises it.
        """
        if isinstance(error, ConnectionClosed):
            return error.connection is self._session
        within = getattr(error, "exceptions", None)
        return isinstance(within, tuple) and bool(within) and all(map(self._is_own_end, within))

    def _end_after(self, error: BaseException) -> None:
        """Close the connection because the handler raised, or because the task was cancelled."""
        if not (isinstance(error, asyncio.CancelledError) and (self._cancelled or self.discarding)):
            self._session.handler_failed(error)
        if self._closed is None:
            self.connection.close(1011, "the server failed to handle a message")
        self.discard()

    async def _sleep(self) -> None:
        """Sleep until there is work that could not be done in place; continue an interrupted handler."""
        sleeping = self._sleeping = self._loop.create_future()
        cancelled: asyncio.CancelledError | None = None
        try:
            await sleeping
        except asyncio.CancelledError as error:
            if self._interrupted is None:
                self._cancelled = True  # not by a handler: the event loop is being closed
                raise
            cancelled = error  # meant for the handler, which cancelled its task or ran into its timeout
        finally:
            self._sleeping = None
        interrupted, self._interrupted = self._interrupted, None
        if isinstance(interrupted, InterruptedCoroutine):
            await interrupted.continue_in_task(cancelled)
            await self._raise_own_cancellation()
        elif interrupted is not None:
            raise interrupted

    def _take(self) -> Message:
        message = self._waiting.pop(0)
        self._size -= len(message)
        if self._full and len(self._waiting) <= MAX_WAITING // 2 and self._size <= MAX_WAITING_SIZE // 2:
            # Half of the queue is handled, so the transport may go on.
            self._full = False
            if self._draining is None:
                self.connection.resume_delivery()
        if self._ending:
            self._start_grace()
        return message

    def _is_idle(self) -> bool:
        """Whether every message was handled and the handler waits only for the next one or for the end."""
        waits = self._sleeping is not None or self._receiving is not None or self._parked
        return bool(waits) and not self._waiting and not self._tasks

    def _note_idle(self) -> None:
        """Wake what waits until every message is handled, unless a task beside the handler still runs."""
        if not self._tasks:
            self._end_waits()

    def _end_waits(self) -> None:
        if self._ending:
            self._stop_ending()
            self.connection.resume_delivery()
        if self._draining is not None:
            _wake(self._draining)

    def _start_grace(self) -> None:
        """Give the last message's handler some time before the client's close frame is answered."""
        if not self._waiting and self._grace is None:
            self._grace = self._loop.call_later(_CLOSE_GRACE, self._end_waits)

    def _stop_ending(self) -> None:
        self._ending = False
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def ends_more_than_a_handler(error: BaseException) -> bool:
    """Whether an error must end the whole program or task: Ctrl+C, or GeneratorExit of an abandoned task."""
    return is_ctrl_c(error) or (isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None)
