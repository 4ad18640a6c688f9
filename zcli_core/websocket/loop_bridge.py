"""A bridge from any thread into the server's event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class LoopBridge:
    """A bridge that calls functions and runs coroutines in an event loop, until it is closed.

    A call that was accepted before :meth:`close` is still made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._open = True

    def close(self) -> None:
        """Accept no more calls. The loop has to run once more, for the calls that were accepted."""
        with self._lock:
            self._open = False

    def post(self, function: Callable[..., _T], *arguments: Any) -> concurrent.futures.Future[_T]:
        """Call a function in the loop's thread, without waiting.

        The future is cancelled if the loop or the bridge is closed.
        """
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except Exception as error:  # noqa: BLE001 - the caller gets it from the future
                    future.set_exception(error)

        with self._lock, contextlib.suppress(RuntimeError):  # the loop is closed
            if self._open:
                self.loop.call_soon_threadsafe(call)
                return future
        future.cancel()
        return future

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Run a coroutine in the loop, without waiting. The future is cancelled if the bridge is closed."""
        with self._lock, contextlib.suppress(RuntimeError):  # the loop is closed
            if self._open:
                return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        coroutine.close()
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        future.cancel()
        return future

    def run(self, function: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> concurrent.futures.Future[_T]:
        """Call a function in the loop and run the coroutine that it returns, without waiting.

        Calls are made in the order in which they come, those of the loop's own thread at once. The future is cancelled
        if the bridge is closed.
        """
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def call() -> None:
            try:
                task = self.loop.create_task(function(*arguments))
            except Exception as error:  # noqa: BLE001 - the caller gets it from the future
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            else:
                task.add_done_callback(functools.partial(_pass_on, future))

        if self._open and asyncio._get_running_loop() is self.loop:
            call()
            return future
        with self._lock, contextlib.suppress(RuntimeError):  # the loop is closed
            if self._open:
                self.loop.call_soon_threadsafe(call)
                return future
        future.cancel()
        return future

    def wait_for(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the loop and wait for its result in the calling thread.

        Raises:
            concurrent.futures.CancelledError: The bridge is closed.
            RuntimeError: The calling thread runs the loop, so that it would wait for itself.
        """
        if asyncio._get_running_loop() is self.loop:  # unlike get_running_loop(), it raises nothing
            coroutine.close()
            raise RuntimeError("this call would block the event loop forever; call it in a thread, or await its twin")
        return self.submit(coroutine).result()


def _pass_on(future: concurrent.futures.Future[_T], task: asyncio.Task[_T]) -> None:
    """Give the outcome of a task to a future."""
    error = None if task.cancelled() else task.exception()
    if task.cancelled():
        future.cancel()
    elif not future.set_running_or_notify_cancel():
        return  # nothing waits for it any longer
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())
