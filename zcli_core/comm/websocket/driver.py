"""What runs a connection's handler: one task per connection, which sleeps while there is nothing to do.

A task of its own means that everything works inside a handler: ``asyncio.current_task``, ``timeout``, task groups,
cancellation, and context variables that last from one message to the next. It is woken through one future for any
number of messages, so a message costs no task, future or queue entry of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from zcli_core.contracts.websocket import Closed, Message
from zcli_core.errors import ConnectionClosed

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Connection

#: Messages, and bytes or characters of messages, that wait for a busy handler before the transport is held up.
MAX_WAITING = 16
MAX_WAITING_SIZE = 256 * 1024


class Owner(Protocol):
    """Whose messages a driver handles; the facade's connection object."""

    async def opened(self) -> None:
        """The connection is open; no message is handled before this has returned."""

    def handle(self, message: Message) -> Awaitable[None]:
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

    __slots__ = ("_closed", "_connection", "_ending", "_full", "_loop", "_owner", "_size", "_task", "_waiter", "_waiting")

    def __init__(self, connection: Connection, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._owner = owner
        self._loop = loop
        self._waiting: list[Message] = []
        self._size = 0
        #: What the task sleeps on while nothing waits.
        self._waiter: asyncio.Future[None] | None = None
        #: Whether the transport was told to hold delivery.
        self._full = False
        #: Whether the transport waits to end the connection.
        self._ending = False
        self._closed: Closed | None = None
        self._task = loop.create_task(self._run())

    # The transport's side -----------------------------------------------------------------------------------------

    def message(self, message: Message) -> bool:
        """Take the next message; whether another is welcome."""
        waiting = self._waiting
        waiting.append(message)
        self._size += len(message)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
            return True
        if len(waiting) < MAX_WAITING and self._size < MAX_WAITING_SIZE:
            return True
        self._full = True
        return False

    def end(self) -> bool:
        """No message follows; whether all have been handled."""
        if self._waiter is not None and not self._waiting:
            return True
        self._ending = True
        return False

    def closed(self, closed: Closed) -> None:
        """The connection is gone."""
        self._closed = closed
        self._waiting.clear()
        self._wake()
        self._owner.closed(closed)

    # The owner's side ---------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next message, taken out of the handler's sequence: what ``websocket.recv()`` does.

        Raises ConnectionClosed once the connection has ended, RuntimeError while another call waits.
        """
        while not self._waiting:
            if self._closed is not None:
                raise ConnectionClosed(self._closed.code, self._closed.reason)
            await self._sleep()
        return self._take()

    def cancel(self) -> None:
        """End the handler where it is."""
        self._task.cancel()

    @property
    def task(self) -> asyncio.Task[None]:
        """The task in which the handler runs."""
        return self._task

    # The task -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        owner, waiting = self._owner, self._waiting
        try:
            await owner.opened()
            while True:
                while waiting:
                    await owner.handle(self._take())
                if self._closed is not None:
                    return
                await self._sleep()
        except ConnectionClosed:
            pass  # the handler wanted to send or receive on a connection that has ended
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends its connection and no other
            owner.failed(error)
            self._connection.close(1011, "the server failed to handle a message")
        finally:
            if self._closed is None:
                self._connection.close(1011, "the server stopped handling messages")

    def _take(self) -> Message:
        message = self._waiting.pop(0)
        self._size -= len(message)
        if self._full and len(self._waiting) <= MAX_WAITING // 2 and self._size <= MAX_WAITING_SIZE // 2:
            self._full = False
            self._connection.resume_delivery()
        return message

    async def _sleep(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("recv() is already waiting: messages are received by one task at a time")
        if self._ending:
            self._ending = False
            self._connection.resume_delivery()
            if self._waiting or self._closed is not None:
                return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
