"""What happens to clients that are refused again and again: their answers wait, and the log has one line for many.

A client that reconnects at once after each refusal would otherwise make hundreds of attempts and log lines a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from zcli_core.websocket.addresses import widest_network
from zcli_core.websocket.connection import shown_address
from zcli_core.websocket.throttle import MAX_ADDRESSES

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address

#: Refusals of one address that are answered at once.
_AT_ONCE = 5
#: Seconds that the first answer after these waits; each further one waits twice as long.
_FIRST_DELAY = 0.1
#: Seconds without a refusal after which one refusal is forgotten.
_FORGET_AFTER = 10.0
#: Refusals that are remembered of one address; with more, it would have to wait long after it has calmed down.
_REMEMBERED = 12

#: Seconds for which the refusals of one address are counted before their number is logged.
BURST = 10.0
#: Different causes of one address that are logged at once.
_CAUSES = 16
#: Under this key refusals are counted when there are too many addresses to count each one.
_OTHERS = "other addresses"


class RefusalPacer:
    """How long the answer to a refused client waits, by its address: not at all at first, then ever longer.

    The answers wait, not the attempts: what an address has been refused before is no reason to refuse it again.
    """

    def __init__(self, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``longest`` is the longest delay in seconds; 0 answers at once."""
        self._longest = longest
        self._clock = clock
        self._refusals: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def delay(self, key: str) -> float:
        """Note a refusal; seconds that its answer has to wait."""
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
        #: What was logged.
        self.causes: set[str] = set()
        #: Refusals that were not.
        self.more = 0
        self.last = ""


class RefusalLog:
    """Logs refusals. Of the same refusals of one address the first is logged, and every 10 s how many followed."""

    def __init__(self, log: logging.Logger, loop: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._loop = loop
        self._bursts: dict[str, _Burst] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, address: Address, cause: str) -> None:
        """Log a refusal, or count it."""
        key = widest_network(address)
        if key not in self._bursts and len(self._bursts) >= MAX_ADDRESSES:
            key = _OTHERS
        burst = self._bursts.setdefault(key, _Burst())
        if cause in burst.causes or len(burst.causes) >= _CAUSES:
            burst.more += 1
            burst.last = cause
        else:
            burst.causes.add(cause)
            self._log.warning("refused %s: %s", shown_address(address), cause)
        if self._timer is None:
            self._timer = self._loop.call_later(BURST, self._go_on)

    def _go_on(self) -> None:
        quiet = [key for key, burst in self._bursts.items() if not burst.more]
        self._report()
        for key in quiet:
            del self._bursts[key]
        self._timer = self._loop.call_later(BURST, self._go_on) if self._bursts else None

    def _report(self) -> None:
        for key, burst in self._bursts.items():
            if burst.more:
                times = "once more" if burst.more == 1 else f"{burst.more} more times"
                self._log.warning("refused %s %s; the last time: %s", key, times, burst.last)
                burst.more = 0

    def close(self) -> None:
        """Log what was counted; the server ends."""
        self._report()
        self._bursts.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
