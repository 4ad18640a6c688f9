"""Calls of a plugin's coroutine functions: each takes a limited time, and fails in one way only."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from pathlib import PurePath
from typing import Any, TypeVar

from zcli_core.errors import BackplaneFailure, is_ctrl_c

_T = TypeVar("_T")

#: If a timeout fires later than this after its time, in seconds, the event loop was blocked. The response may have
#: arrived, and nothing could read it. So the call gets its time once more.
_LATE = 0.5


class PluginError(BackplaneFailure):
    """The plugin raised something other than a BackplaneFailure, or returned something invalid."""

    def __init__(self, what: str) -> None:
        super().__init__("protocol", f"the plugin of the backplane has a bug: {what}", maybe_delivered=True)


class PluginCalls:
    """The calls of one link. Use it in the thread of its event loop only."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: Calls that have not ended, also those whose time is over.
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Those of them that close a connection. The end of the link does not cancel them.
        self._closing: set[asyncio.Task[Any]] = set()
        self._ended = False

    def begin(self, function: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> asyncio.Task[_T]:
        """Call a coroutine function in a task of its own. Its result is for :meth:`result`."""
        task = self._loop.create_task(_run(function, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def begin_closing(self, function: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Call the coroutine function that closes a connection."""
        task = self.begin(function)
        self._closing.add(task)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved, because nothing awaits a call whose time is over

    async def result(self, task: asyncio.Task[_T], seconds: float) -> _T:
        """Wait for a call. At the end of its time, or if the waiting task is cancelled, the call is cancelled.

        It does not wait until the call has ended after that, because a plugin may ignore the cancellation.

        Raises:
            BackplaneFailure: The call failed, or did not return in time.
        """
        try:
            for _ in range(2):
                end = self._loop.time() + seconds
                await asyncio.wait({task}, timeout=seconds)
                if task.done() or self._loop.time() < end + _LATE:
                    break
        finally:
            task.cancel()
        if not task.done():
            raise BackplaneFailure("timeout", f"no response within {seconds:g} s", maybe_delivered=True)
        if task.cancelled() and self._ended:
            raise BackplaneFailure("down", "the link is closed", maybe_delivered=True)
        if task.cancelled():
            raise PluginError("it cancelled the call")
        return task.result()

    async def call(self, seconds: float, function: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> _T:
        """Call a coroutine function and wait for it, as :meth:`begin` and :meth:`result` do."""
        return await self.result(self.begin(function, *arguments), seconds)

    async def end(self, seconds: float) -> int:
        """Cancel all calls and wait for their end. Returns how many have not ended in time.

        Args:
            seconds: The time for cancelled calls. Connections that these calls have made get it again for closing.
        """
        self._ended = True
        for task in self._tasks - self._closing:
            task.cancel()
        for _ in range(2):
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=seconds)
        return len(self._tasks)


async def _run(function: Callable[..., Coroutine[Any, Any, _T]], arguments: tuple[Any, ...]) -> _T:
    try:
        return await function(*arguments)
    except (BackplaneFailure, asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        raise PluginError(_described(error)) from error


def _described(error: BaseException) -> str:
    """Return the type and the place of an error, but not its message, which may quote a credential."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-3:]))
    return f"{type(error).__name__} at {places}"


async def first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run several coroutines until the first of them ends, and cancel the others.

    Raises:
        BaseException: What it raised.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in errors:
        if error is not None:
            raise error
