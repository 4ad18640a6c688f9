"""Delay the responses to clients that are refused repeatedly, and log their refusals in batches.

A client that reconnects at once after each refusal could otherwise cause hundreds of attempts and log lines a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from zcli_core.websocket.addresses import format_address, widest_network
from zcli_core.websocket.throttle import MAX_ADDRESSES

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address

#: Refusals of one address that are sent without delay.
_AT_ONCE = 5
#: Delay of the next refusal, in seconds; it doubles with each further one.
_FIRST_DELAY = 0.1
#: Seconds without a refusal after which one refusal is forgotten.
_FORGET_AFTER = 10.0
#: Most refusals of one address that are remembered, so that the delay ends soon after the refusals end.
_REMEMBERED = 12

#: Seconds between two log lines with the number of further refusals.
BURST = 10.0
#: Different causes of one address that are logged immediately.
_CAUSES = 16
#: The key of all further addresses once MAX_ADDRESSES of them are counted.
_OTHERS = "other addresses"


class RefusalPacer:
    """The delay of each refusal, which grows with the earlier refusals of its address.

    Only the response is delayed. Earlier refusals are not a reason to refuse the next attempt.
    """

    def __init__(self, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the longest delay, in seconds; 0 turns delays off."""
        self._longest = longest
        self._clock = clock
        self._refusals: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def delay(self, key: str) -> float:
        """Count a refusal and return the delay of its response, in seconds."""
        now = self._clock()
        count, before = self._refusals.get(key, (0.0, now))
        count = min(max(count - (now - before) / _FORGET_AFTER, 0.0) + 1, _REMEMBERED)
        self._refusals[key] = count, now
        self._refusals.move_to_end(key)
        if len(self._refusals) > MAX_ADDRESSES:
            self._refusals.popitem(last=False)
        over = count - _AT_ONCE
        return min(self._longest, _FIRST_DELAY * 2 ** (over - 1)) if over > 0 else 0.0


class _Burst:
    """The refusals of one address."""

    __slots__ = ("causes", "last", "more")

    def __init__(self) -> None:
        #: Causes that were logged.
        self.causes: set[str] = set()
        #: Number of refusals that were not logged, and the cause of the last one.
        self.more = 0
        self.last = ""


class RefusalLog:
    """The log of refusals: the first one of each address and cause, then every 10 s the number of further ones."""

    def __init__(self, log: logging.Logger, loop: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._loop = loop
        self._bursts: dict[str, _Burst] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, address: Address, cause: str) -> bool:
        """Log or count a refusal. Returns whether it was logged."""
        key = widest_network(address)
        if key not in self._bursts and len(self._bursts) >= MAX_ADDRESSES:
            key = _OTHERS
        burst = self._bursts.setdefault(key, _Burst())
        counted = cause in burst.causes or len(burst.causes) >= _CAUSES
        if counted:
            burst.more += 1
            burst.last = cause
        else:
            burst.causes.add(cause)
            self._log.warning("refused %s: %s", format_address(address), cause)
        if self._timer is None:
            self._timer = self._loop.call_later(BURST, self._on_timer)
        return not counted

    def _on_timer(self) -> None:
        quiet = [key for key, burst in self._bursts.items() if not burst.more]
        self._report()
        for key in quiet:
            del self._bursts[key]
        self._timer = self._loop.call_later(BURST, self._on_timer) if self._bursts else None

    def _report(self) -> None:
        for key, burst in self._bursts.items():
            if burst.more:
                times = "once more" if burst.more == 1 else f"{burst.more} more times"
                self._log.warning("refused %s %s; the last time: %s", key, times, burst.last)
                burst.more = 0

    def close(self) -> None:
        """Log the refusals that were only counted, because the server stops."""
        self._report()
        self._bursts.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
