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
    """Passes events to the ``send`` of one connection.

    A call of ``send`` usually finishes without waiting, so it is made in place, without a task. If it has to wait,
    because the client reads too slowly, a task continues it, and the events that follow wait in a queue.
    """

    __slots__ = ("_app_task", "_drained", "_failed", "_loop", "_queue", "_send", "_task", "waiting")

    def __init__(self, send: Send, app_task: asyncio.Task[Any], failed: Callable[[BaseException], None]) -> None:
        """Send for one connection.

        Args:
            send: The server's function.
            app_task: The task in which the server runs the application. ``send`` may need a current task.
            failed: Called if ``send`` raises. The events that wait are dropped.
        """
        self._send = send
        self._app_task = app_task
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        #: The events that wait for an earlier one, with their sizes; None if none is being sent.
        self._queue: deque[tuple[Event, int]] | None = None
        #: Bytes of the messages that ``send`` has not accepted.
        self.waiting = 0
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether an event is being sent, so that the next one has to wait."""
        return self._queue is not None

    def push(self, event: Event, size: int | None = None) -> None:
        """Send an event after all earlier ones, without waiting.

        Args:
            event: The event.
            size: The length of its message in bytes; computed if not given.
        """
        queue = self._queue
        if queue is not None:
            size = _size(event) if size is None else size
            self.waiting += size
            queue.append((event, size))
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
            self._failed(error)
            return
        finally:
            if entered:
                _leave_task(loop, self._app_task)
        self._queue = deque()
        self.waiting = size = _size(event) if size is None else size
        rest = InterruptedCoroutine(sending, waits_for, started=True)
        self._task = loop.create_task(self._send_rest(rest, size))

    async def _send_rest(self, first: InterruptedCoroutine, size: int) -> None:
        """Continue the event that has to wait, then send those that were queued meanwhile."""
        queue = self._queue
        assert queue is not None
        try:
            await first.continue_in_task()
            self.waiting -= size
            while queue:
                event, size = queue.popleft()
                await self._send(event)
                self.waiting -= size
        except Exception as error:  # noqa: BLE001 - the connection handles it
            self._failed(error)
        finally:
            if self._queue is queue:
                self._queue = self._task = None
                self.waiting = 0
                self._wake()

    async def drain(self) -> None:
        """Wait until nothing waits to be sent, or :meth:`stop_waiting` is called."""
        if self._queue is not None:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def stop_waiting(self) -> None:
        """Wake all calls of :meth:`drain`, because nothing more can be sent."""
        self._wake()

    def cancel(self) -> None:
        """Drop the events that wait."""
        if self._queue is not None:
            self._queue.clear()
        if self._task is not None:
            self._task.cancel()

    def _wake(self) -> None:
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
