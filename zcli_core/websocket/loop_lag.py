"""How late an event loop is: something that blocks it delays every client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

#: Seconds from one measurement to the next.
INTERVAL = 1.0
#: How many measurements are kept. Longer than the usual intervals at which metrics are read, so that none is missed.
KEPT = 60


class LoopLag:
    """A timer of an event loop that measures its own delay, once a second.

    The largest of the last measurements is kept for a minute instead of until it is read, because there may be several
    readers, and none of them may hide a delay from the others. Any thread may read it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to measure."""
        self._loop = loop
        self._delays = [0.0] * KEPT
        self._next = 0
        self._due: float | None = None
        self._start_timer()

    def _start_timer(self) -> None:
        self._due = time.monotonic() + INTERVAL
        self._timer = self._loop.call_later(INTERVAL, self._measure)

    def _measure(self) -> None:
        self._delays[self._next] = self._current()
        self._next = (self._next + 1) % KEPT
        self._start_timer()

    def _current(self) -> float:
        """Return how late the timer is now, in seconds."""
        due = self._due
        return 0.0 if due is None else max(time.monotonic() - due, 0.0)

    def largest(self) -> float:
        """Return the largest delay of the last 60 measurements in seconds, including one that goes on now."""
        return max(self._current(), *self._delays)

    def stop(self) -> None:
        """Stop to measure."""
        self._due = None
        self._timer.cancel()
