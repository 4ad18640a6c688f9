"""Slowing down clients that guess: after too many wrong credentials an address has to wait."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

#: Addresses that are remembered at once; the one whose last failure is longest ago is forgotten first.
MAX_ADDRESSES = 10_000


class FailureThrottle:
    """Counts wrong credentials by address, in a window that slides.

    An address may fail ``limit`` times in ``window`` seconds; then it has to wait until the oldest of these failures
    has left the window. Addresses are told apart by :func:`~.addresses.address_key`.
    """

    def __init__(self, limit: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, key: str) -> None:
        """Note a failure."""
        times = self._failures.setdefault(key, deque(maxlen=self._limit))
        times.append(self._clock())
        self._failures.move_to_end(key)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def wait(self, key: str) -> float:
        """Seconds until that address may try again; 0 if it may now."""
        times = self._failures.get(key)
        if times is None:
            return 0.0
        remaining = times[0] + self._window - self._clock()
        if remaining > 0:
            return remaining if len(times) == self._limit else 0.0
        while times and times[0] + self._window <= self._clock():
            times.popleft()
        if not times:
            del self._failures[key]
        return 0.0
