"""Throttle guessing: after too many wrong credentials, an address has to wait."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcli_core.websocket.addresses import Network, Networks

#: Seconds after which a client may try again while the failures of its networks are not known in all processes yet.
_UNSETTLED_WAIT = 1.0

#: Maximum number of throttled addresses and networks that are remembered. The same limit applies, separately, to those
#: with failures that are not throttled. Beyond it, the entry whose last failure is oldest is forgotten.
MAX_ADDRESSES = 10_000


class FailureThrottle:
    """Counters of wrong credentials, by address and by larger IPv6 network, in a sliding window.

    An address may fail ``limit`` times in ``window`` seconds, and a larger network a multiple of that
    (:func:`~.addresses.throttled_networks`). Then its clients have to wait until the oldest of these failures has left
    the window. A credential that is being checked counts as failed until the result is known. Otherwise credentials
    that arrive together would all be checked before the first failure counts.

    Several processes may count together (:meth:`share`). Until the others know of a failure, it counts once for each
    process, because the same client may be guessing there at the same time.

    Not thread-safe: use it in the thread of one event loop.
    """

    def __init__(self, limit: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        # Throttled addresses have their own table, so that failures from many other addresses do not displace them.
        self._counted: OrderedDict[str, deque[float]] = OrderedDict()
        self._throttled: OrderedDict[str, deque[float]] = OrderedDict()
        #: Number of credentials that are being checked.
        self._pending: dict[str, int] = {}
        #: Clients that wait for their turn, by the largest of their networks.
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        #: Tells the other processes about a failure; False if that is impossible.
        self._relay: Callable[[Networks], bool] | None = None
        self._others = 0
        #: Failures that the other processes do not know yet.
        self._unsettled: dict[str, int] = {}

    def __len__(self) -> int:
        """Number of addresses and networks that are remembered."""
        return len(self._counted) + len(self._throttled)

    def share(self, relay: Callable[[Networks], bool], others: int) -> None:
        """Count together with other processes.

        Args:
            relay: Tells them about a failure: they call :meth:`failed_elsewhere`, and then :meth:`settled` is called
                here. It returns False if that is impossible.
            others: Number of the other processes.
        """
        self._relay = relay
        self._others = others

    def failed(self, networks: Networks) -> None:
        """Count a failure."""
        self.failed_elsewhere(networks)
        if self._relay is not None and self._relay(networks):
            for key, _ in networks:
                self._unsettled[key] = self._unsettled.get(key, 0) + 1

    def settled(self, networks: Networks) -> None:
        """Note that the other processes know of a failure."""
        for key, _ in networks:
            left = self._unsettled.pop(key, 0) - 1
            if left > 0:
                self._unsettled[key] = left

    def failed_elsewhere(self, networks: Networks) -> None:
        """Count a failure of which this process does not tell the others."""
        now = self._clock()
        for network in networks:
            key, limit = network.key, self._limit * network.share
            times = self._throttled.pop(key, None) or self._counted.pop(key, None) or deque(maxlen=limit)
            times.append(now)
            table = self._throttled if len(times) == limit else self._counted
            table[key] = times
            if len(table) > MAX_ADDRESSES:
                forgotten, _ = table.popitem(last=False)
                self._unsettled.pop(forgotten, None)

    def wait(self, networks: Networks) -> float:
        """Return the seconds until a client of these networks may try again; 0 if it may now."""
        return max(self._wait(network) for network in networks)

    def _wait(self, network: Network) -> float:
        key = network.key
        times = self._throttled.get(key) or self._counted.get(key)
        if times is None:
            return 0.0
        now, throttled = self._clock(), key in self._throttled
        while times and times[0] + self._window <= now:
            times.popleft()
        if throttled and len(times) == self._limit * network.share:
            return times[0] + self._window - now
        if throttled:
            self._counted[key] = self._throttled.pop(key)
        if not times:
            del self._counted[key]
            self._unsettled.pop(key, None)
        elif len(times) + self._others * self._unsettled.get(key, 0) >= self._limit * network.share:
            return _UNSETTLED_WAIT
        return 0.0

    # --- checks in progress ---

    def may_begin(self, networks: Networks) -> bool:
        """Whether another credential may be checked now."""
        return not self.wait(networks) and all(
            self._pending.get(key, 0) * (1 + self._others)
            + self._unsettled.get(key, 0) * self._others
            + len(self._counted.get(key, ()))
            < self._limit * share
            for key, share in networks
        )

    async def begin(self, networks: Networks) -> float:
        """Wait until another credential may be checked, and count the check as begun. Call :meth:`end` after it.

        Returns:
            0 if the check may begin; otherwise the seconds until the client may try again, and nothing has begun.
        """
        while not self.may_begin(networks):
            seconds = self.wait(networks)
            if seconds:
                return seconds
            left = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(networks[-1].key, []).append(left)
            await left
        for key, _ in networks:
            self._pending[key] = self._pending.get(key, 0) + 1
        return 0.0

    def end(self, networks: Networks, failed: bool) -> None:
        """Count a check as ended: the credential has been checked, or its client has disconnected."""
        for key, _ in networks:
            self._pending[key] -= 1
            if not self._pending[key]:
                del self._pending[key]
        if failed:
            self.failed(networks)
        for left in self._waiting.pop(networks[-1].key, ()):
            if not left.done():
                left.set_result(None)
