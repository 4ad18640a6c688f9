"""An event loop of our own, and the signals that end it, so that a script needs no asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import ConfigError, is_ctrl_c

if TYPE_CHECKING:
    from zcli_core.config import Config

_T = TypeVar("_T")
#: Seconds that tasks get to end when everything is dropped.
_LAST_MOMENT = 1.0


def loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop that ``websocket.loop`` asks for.

    :raises ConfigError: it asks for uvloop, which is not installed.
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


class Stop:
    """A wish to stop that any thread can have, also before the loop that it stops is running."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may come while its own thread holds it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        self._requested = False

    def request(self) -> None:
        """Ask to stop. Asking twice is asking once."""
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
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(function)

    async def wait(self) -> None:
        """Wait, in the loop that is to be stopped, until somebody asks."""
        event = asyncio.Event()
        with self._lock:
            self._loop, self._event = asyncio.get_running_loop(), event
            if self._requested:
                event.set()
        await event.wait()


def run(
    factory: Callable[[], asyncio.AbstractEventLoop],
    coroutine: Coroutine[Any, Any, _T],
    drop: Callable[[], None],
    log: logging.Logger,
) -> _T:
    """Run a coroutine in a new loop, to its end. What goes wrong in a task that nobody awaits goes into ``log``.

    Ctrl+C, and anything else that is raised outside a task, leave at once: ``drop`` lets go of what is open.
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
                # A task that a handler has made, and that calls sys.exit(), stops the loop. It is the task's own end.
                if task.done() or is_ctrl_c(error) or not _raised_in_a_coroutine(error):
                    raise
    except BaseException:
        drop()
        raise
    finally:
        try:
            _end_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _raised_in_a_coroutine(error: BaseException) -> bool:
    return any(frame.f_code.co_flags & inspect.CO_COROUTINE for frame, _ in traceback.walk_tb(error.__traceback__))


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what still runs and give it a moment; a task that takes no for an answer is left behind."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LAST_MOMENT))
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # it has been seen; nobody waits for it


class Signals:
    """How often the program was asked to end by Ctrl+C or SIGTERM."""

    def __init__(self, stop: Stop, drop: Callable[[], None]) -> None:
        self._stop = stop
        self._drop = drop
        self._count = 0
        #: Whether the server has ended, so that there is nothing to stop.
        self.ended = False

    @property
    def insisted(self) -> bool:
        """Whether it was asked again."""
        return self._count > 1

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Ask to stop; when asked again, drop everything and raise KeyboardInterrupt, wherever the program is.

        The exception is for what blocks the loop. It is not enough: uvloop swallows it in some places.
        """
        if self.ended:
            return
        self._count += 1
        if self._count == 1:
            self._stop.request()
        else:
            self._stop.call_soon(self._drop)
            raise KeyboardInterrupt


class StopOnSigterm:
    """SIGTERM ends a program that serves in the background as it would without this, but tells the clients first.

    Raises RuntimeError if it is made in another thread than the main one, which alone may do it.
    """

    def __init__(self, stop: Callable[[], object]) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("stop_on_sigterm works in the main thread only: Python handles signals there")
        self._stop = stop
        self._before = signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._stop()
        if callable(self._before):
            self._before(number, frame)
        elif self._before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def end(self) -> None:
        """Set back what was before, where that is possible: in the main thread, unless somebody has set another."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGTERM) == self._receive:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)


@contextlib.contextmanager
def stopped_by_signals(stop: Stop, drop: Callable[[], None]) -> Iterator[Signals]:
    """Ctrl+C and SIGTERM ask to stop; a second one drops everything.

    Only the main thread receives signals; in any other this does nothing.
    """
    signals = Signals(stop, drop)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        signals.ended = True
        for number, handler in before.items():
            # None: it was not set from Python, and cannot be set back from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
