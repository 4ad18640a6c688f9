"""Run the server in an event loop that zCLI makes, and close that loop, so that a script needs no asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import ConfigError, is_ctrl_c

if TYPE_CHECKING:
    from zcli_core.config import Config

_T = TypeVar("_T")
#: Seconds that cancelled tasks get to end before the loop is closed.
_CANCEL_TIMEOUT = 1.0


def loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that makes the event loop of ``websocket.loop``.

    Raises:
        ConfigError: The setting asks for uvloop, which is not installed.
    """
    wanted = config.websocket.loop
    if wanted != "asyncio":
        with contextlib.suppress(ImportError):
            import uvloop

            factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
            return factory
    if wanted == "uvloop":
        origin = config.explain("websocket.loop").origin
        raise ConfigError(f"websocket.loop ({origin}) asks for uvloop, which is not installed; pip install uvloop")
    return asyncio.new_event_loop


@contextlib.contextmanager
def standard_policy() -> Iterator[None]:
    """Make new event loops those of the standard library in the block, because uvloop does not pass on all descriptors.

    A script may have called ``uvloop.install()``.
    """
    before = asyncio.get_event_loop_policy()
    if type(before) is not asyncio.DefaultEventLoopPolicy:
        asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(before)


class StopEvent:
    """An event that any thread can set to stop the server, even before its event loop runs."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant, because a signal handler may interrupt the thread that holds it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        self._requested = False

    def request(self) -> None:
        """Ask the server to stop. Further calls have no effect."""
        with self._lock:
            self._requested = True
            if self._event is not None:
                self._call(self._event.set)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function in the loop's thread, if the loop runs."""
        with self._lock:
            self._call(function)

    def _call(self, function: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(function)

    async def wait(self) -> None:
        """Wait, in the server's event loop, until :meth:`request` is called."""
        event = asyncio.Event()
        with self._lock:
            self._loop, self._event = asyncio.get_running_loop(), event
            if self._requested:
                event.set()
        await event.wait()


def run(
    factory: Callable[[], asyncio.AbstractEventLoop],
    coroutine: Coroutine[Any, Any, _T],
    abort: Callable[[], None],
    log: logging.Logger,
) -> _T:
    """Run a coroutine in a new event loop until it returns, and return its result.

    Errors of tasks that no code awaits are logged. Ctrl+C, and any exception that is raised outside a task, end the
    loop immediately.

    Args:
        factory: Makes the event loop.
        coroutine: The main coroutine.
        abort: Closes all connections at once; called before an immediate end.
        log: Where errors of tasks are logged.
    """

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, KeyboardInterrupt):
            log.error("%s: %r", context.get("message"), context.get("future") or context, exc_info=error)

    loop = factory()
    loop.set_exception_handler(report)
    task = loop.create_task(coroutine)
    try:
        while True:
            try:
                return loop.run_until_complete(task)
            except BaseException as error:
                # sys.exit() in a task that a handler has created stops the loop. It ends only that task.
                if task.done() or is_ctrl_c(error) or not _raised_in_a_coroutine(error):
                    raise
    except BaseException:
        abort()
        raise
    finally:
        try:
            _cancel_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _raised_in_a_coroutine(error: BaseException) -> bool:
    return any(frame.f_code.co_flags & inspect.CO_COROUTINE for frame, _ in traceback.walk_tb(error.__traceback__))


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel all tasks and wait a limited time for them. A task that ignores its cancellation is abandoned."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT))
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # marks it as retrieved, because no code awaits this task
