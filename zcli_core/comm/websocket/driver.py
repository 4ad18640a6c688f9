"""What runs a connection's handler: one task per connection, entered in place where that is possible.

Everything has to work inside a handler: ``asyncio.current_task``, ``timeout``, task groups, cancellation, context
variables that last from one message to the next. So every handler runs as a part of its connection's task. But
to wake a task costs as much as a short message does, and most handlers finish without waiting for anything.

Therefore, while the task sleeps, a handler's coroutine is started right where the message arrives, with the task made
the current one (``asyncio._enter_task``, which asyncio documents for those who write tasks) and inside the
task's context. If it finishes, that was all. If it has to wait, it is handed to the task, which is woken and
carries it on from there. Python 3.10 cannot tell a task its context; there the task is woken for every message.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Protocol

from zcli_core.contracts.websocket import Closed, Message
from zcli_core.errors import ConnectionClosed

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Connection

_IN_PLACE = sys.version_info >= (3, 11)

_enter_task = asyncio._enter_task
_leave_task = asyncio._leave_task

#: Messages, and bytes or characters of messages, that wait for a busy handler before the transport is held up.
MAX_WAITING = 16
MAX_WAITING_SIZE = 256 * 1024

#: Messages that are handled without a break before other connections get their turn.
_MESSAGES_IN_A_ROW = 128


class Owner(Protocol):
    """Whose messages a driver handles: the facade's connection object."""

    async def opened(self) -> None:
        """The connection is open; no message is handled before this has returned."""

    def handle(self, message: Message) -> Coroutine[Any, Any, None]:
        """Handle one message."""

    def failed(self, error: Exception) -> None:
        """:meth:`opened` or :meth:`handle` raised. The connection is closed with 1011 after this call."""

    def closed(self, closed: Closed) -> None:
        """The connection is gone. Called once, at once, even if a handler is still running."""


class HandlerDriver:
    """Takes messages from the transport and runs the owner's handler on them, in order, one at a time.

    Implements :class:`zcli_core.contracts.websocket.Receiver`. A handler that is running when the connection ends is
    not interrupted: its next ``send`` or ``recv`` raises ConnectionClosed, which ends it quietly. :meth:`cancel`
    is for the end of the server.
    """

    __slots__ = (
        "_closed", "_connection", "_context", "_ending", "_full", "_handle", "_interrupted", "_loop", "_owner",
        "_receiving", "_size", "_sleeping", "_waiting", "task",
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
        #: A handler that was started in place and has to be carried on by the task, or what it raised.
        self._interrupted: _Interrupted | BaseException | None = None
        #: Whether the transport was told to hold delivery.
        self._full = False
        #: Whether the transport waits to end the connection.
        self._ending = False
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
        waiting = self._waiting
        waiting.append(message)
        self._size += len(message)
        _wake(self._receiving or self._sleeping)
        if len(waiting) < MAX_WAITING and self._size < MAX_WAITING_SIZE:
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
            return True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - it goes where it belongs, into the task
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
        if not self._waiting and (self._sleeping is not None or self._receiving is not None):
            return True
        self._ending = True
        return False

    def closed(self, closed: Closed) -> None:
        """The connection is gone."""
        self._closed = closed
        self._waiting.clear()
        self._size = 0
        _wake(self._receiving)
        _wake(self._sleeping)
        self._owner.closed(closed)

    # The owner's side ---------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next message, taken out of the handler's sequence: what ``websocket.recv()`` does.

        Raises ConnectionClosed once the connection has ended, RuntimeError while another call waits.
        """
        if self._receiving is not None:
            raise RuntimeError("recv() is waiting already: messages are received in one place at a time")
        while not self._waiting:
            if self._closed is not None:
                raise ConnectionClosed(self._closed.code, self._closed.reason)
            self._say_idle()
            if not self._waiting and self._closed is None:
                self._receiving = self._loop.create_future()
                try:
                    await self._receiving
                finally:
                    self._receiving = None
        return self._take()

    def cancel(self) -> None:
        """End the handler where it is."""
        self.task.cancel()

    # The task -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._owner.opened()
            in_a_row = 0
            while self._closed is None or self._waiting or self._interrupted:
                while self._waiting:
                    await self._handle(self._take())
                    in_a_row += 1
                    if in_a_row >= _MESSAGES_IN_A_ROW:
                        in_a_row = 0
                        await asyncio.sleep(0)
                self._say_idle()
                if not self._waiting and self._closed is None:
                    in_a_row = 0
                    await self._sleep()
        except ConnectionClosed:
            pass  # the handler wanted to send or receive on a connection that has ended
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends its connection and no other
            self._owner.failed(error)
            self._connection.close(1011, "the server failed to handle a message")
        finally:
            if self._closed is None:
                self._connection.close(1011, "the server stopped handling messages")

    async def _sleep(self) -> None:
        """Sleep until there is something that was not dealt with in place; carry on what was interrupted."""
        sleeping = self._sleeping = self._loop.create_future()
        cancelled: asyncio.CancelledError | None = None
        try:
            await sleeping
        except asyncio.CancelledError as error:
            if self._interrupted is None:
                raise
            cancelled = error  # it is meant for the handler, which asked for it or let its time run out
        finally:
            self._sleeping = None
        interrupted, self._interrupted = self._interrupted, None
        if isinstance(interrupted, _Interrupted):
            await interrupted.carry_on(cancelled)
        elif interrupted is not None:
            raise interrupted

    def _take(self) -> Message:
        message = self._waiting.pop(0)
        self._size -= len(message)
        if self._full and len(self._waiting) <= MAX_WAITING // 2 and self._size <= MAX_WAITING_SIZE // 2:
            # Half of what waited is done: let the transport go on.
            self._full = False
            self._connection.resume_delivery()
        return message

    def _say_idle(self) -> None:
        """Everything has been handled: tell the transport if it waits for that."""
        if self._ending:
            self._ending = False
            self._connection.resume_delivery()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


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
