"""Ctrl+C and SIGTERM: stop the server gracefully at the first signal, and at once at the second."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcli_core.websocket.event_loop import StopEvent


#: Seconds in which the event loop of a server that has stopped is closed. KeyboardInterrupt would leave it half closed.
_CLOSING_TIME = 2.0


class Signals:
    """The signal handler of a running server."""

    def __init__(self, stop: StopEvent, abort: Callable[[], None]) -> None:
        self._stop = stop
        self._abort = abort
        self._count = 0
        #: Whether the server has stopped, so that a signal is ignored.
        self.ended = False
        self._ignored_until = 0.0

    def closing(self) -> None:
        """Ignore signals for a moment, because the server has stopped and its event loop is being closed."""
        self._ignored_until = time.monotonic() + _CLOSING_TIME

    @property
    def aborted(self) -> bool:
        """Whether a second signal was received."""
        return self._count > 1

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Request a stop. At the second signal, abort and raise KeyboardInterrupt.

        The exception interrupts code that blocks the loop. It is not sufficient, because uvloop swallows it in some
        places.
        """
        if self.ended or time.monotonic() < self._ignored_until:
            return
        self._count += 1
        if self._count == 1:
            self._stop.request()
        else:
            self._stop.call_soon(self._abort)
            raise KeyboardInterrupt


@contextlib.contextmanager
def stopped_by_signals(
    stop: StopEvent, abort: Callable[[], None], numbers: Iterable[int] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[Signals]:
    """Handle Ctrl+C and SIGTERM while a server runs, and restore the previous handlers afterwards.

    Only the main thread receives signals; in any other thread this does nothing.

    Args:
        stop: Requested at the first signal.
        abort: Called in the event loop at the second signal.
        numbers: The signals.
    """
    signals = Signals(stop, abort)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.receive) for number in numbers}
    try:
        yield signals
    finally:
        signals.ended = True
        for number, handler in before.items():
            # None: the handler was not set by Python code, and Python cannot restore it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class StopOnSigterm:
    """A handler of SIGTERM that stops a server in the background before the signal ends the program as usual."""

    def __init__(self, stop: Callable[[], object]) -> None:
        """Take over SIGTERM.

        Args:
            stop: Stops the server and waits for its end.

        Raises:
            RuntimeError: The calling thread is not the main thread.
        """
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
        """Restore the previous handler, in the main thread and unless another one was set in the meantime."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGTERM) == self._receive:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)
