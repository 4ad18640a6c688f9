"""Calling the ``send`` of an ASGI server from plain functions, in order."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from zcli_core.websocket.parts.interrupted import InterruptedCoroutine

Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]

_current_task = asyncio.current_task
_enter_task = asyncio._enter_task
_leave_task = asyncio._leave_task


class AsgiSender:
    """The sending half of a connection: passes events to the server's ``send``.

    A call of ``send`` usually finishes without waiting, so it is made in place, without a task. If it has to wait,
    because the client reads too slowly, a task continues it, and the events that follow wait in a queue.
    """

    __slots__ = (
        "_app_task", "_drained", "_loop", "_queue", "_send", "_sending", "write_buffer_size", "write_paused",
    )  # fmt: skip

    def __init__(self, send: Send, app_task: asyncio.Task[Any]) -> None:
        """Send for one connection.

        Args:
            send: The server's function.
            app_task: The task in which the server runs the application. ``send`` may need a current task.
        """
        self._send = send
        self._app_task = app_task
        self._loop = app_task.get_loop()
        #: The events that wait for an earlier one, with their sizes.
        self._queue: deque[tuple[Event, int]] | None = None
        #: Whether the server has not accepted the last event, because the client reads too slowly.
        self.write_paused = False
        #: Bytes of messages that the server has not accepted. It does not say how many it holds itself.
        self.write_buffer_size = 0
        #: The task that sends them.
        self._sending: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    def _send_failed(self, error: BaseException) -> None:
        """Handle that ``send`` has raised."""
        raise NotImplementedError

    def _push(self, event: Event, size: int | None = None) -> None:
        """Send an event after all earlier ones, without waiting.

        Args:
            event: The event.
            size: The length of its message in bytes; computed if not given.
        """
        if self.write_paused:
            assert self._queue is not None
            size = _size(event) if size is None else size
            self.write_buffer_size += size
            self._queue.append((event, size))
            return
        loop = self._loop
        entered = _current_task(loop) is None
        if entered:
            _enter_task(loop, self._app_task)
        try:
            sending = _as_coroutine(self._send(event))
            waits_for = sending.send(None)
        except StopIteration:
            return
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the connection handles it
            self._send_failed(error)
            return
        finally:
            if entered:
                _leave_task(loop, self._app_task)
        self.write_paused = True
        self._queue = deque()
        self.write_buffer_size = size = _size(event) if size is None else size
        rest = InterruptedCoroutine(sending, waits_for, started=True)
        self._sending = loop.create_task(self._send_rest(rest, size))

    async def _send_rest(self, first: InterruptedCoroutine, size: int) -> None:
        """Continue the event that has to wait, then send those that were queued meanwhile."""
        queue = self._queue
        assert queue is not None
        try:
            await first.continue_in_task()
            self.write_buffer_size -= size
            while queue:
                event, size = queue.popleft()
                await self._send(event)
                self.write_buffer_size -= size
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the connection handles it
            self._send_failed(error)
        finally:
            self._sending = self._queue = None
            self.write_paused = False
            self.write_buffer_size = 0
            self._wake_drained()

    async def _wait_until_sent(self) -> None:
        """Wait until nothing waits to be sent, or :meth:`_wake_drained` is called."""
        if self.write_paused:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def _drop_unsent(self) -> None:
        """Drop the events that wait."""
        if self._sending is not None:
            self._sending.cancel()

    def _wake_drained(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)


def _as_coroutine(sending: Awaitable[None]) -> Coroutine[Any, Any, None]:
    if type(sending) is types.CoroutineType:
        return sending
    return _wait_for(sending)


async def _wait_for(sending: Awaitable[None]) -> None:
    await sending


def _size(event: Event) -> int:
    text = event.get("text")
    return len(text.encode()) if text is not None else len(event.get("bytes") or b"")
