"""Follows the change table, so that this process notices the writes of all processes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from zcli_bifrost.data.errors import DataError

#: Longest time between two polls, in seconds.
INTERVAL = 0.5
#: Shortest time between two polls, in seconds: changes of a flood are combined.
SHORTEST = 0.02
#: A result of the cache is used only if the last poll began at most so long ago, in seconds. A poll sees all earlier
#: changes, so no client gets data that is older than a second.
MAX_AGE = 0.9


class Follower:
    """Polls the change table, at least every 0.5 seconds, and at once when it is woken.

    Attributes:
        known: Version of the database up to which all changes are taken over.
    """

    def __init__(self, poll: Callable[[int], Awaitable[int]], log: logging.Logger) -> None:
        """Prepare the follower.

        Args:
            poll: Takes over the changes after a version, and returns the version that the database has.
            log: Gets failures, once for each outage.
        """
        self.known = 0
        self._poll = poll
        self._log = log
        self._last_poll = float("-inf")
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self, version: int) -> None:
        """Begin to follow from a version, which must be read from the database just now."""
        self.known = version
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """Poll now."""
        self._woken.set()

    def is_current(self) -> bool:
        """Return whether all changes that are older than a second are taken over."""
        return time.monotonic() - self._last_poll < MAX_AGE

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            started = time.monotonic()
            await self._poll_once(started)
            await asyncio.sleep(SHORTEST)
            rest = INTERVAL - (time.monotonic() - started)
            if rest > 0 and not self._woken.is_set():
                timer = asyncio.get_running_loop().call_later(rest, self._woken.set)
                try:
                    await self._woken.wait()
                finally:
                    timer.cancel()

    async def _poll_once(self, started: float) -> None:
        try:
            self.known = await self._poll(self.known)
        except DataError as error:
            if not self._failing:
                self._log.warning("bifrost: cannot follow the changes of other processes: %s", error)
            self._failing = True
        except Exception:  # noqa: BLE001 - it must go on, whatever is wrong
            self._log.exception("bifrost: following the changes of other processes failed")
            self._failing = True
        else:
            self._last_poll = started
            if self._failing:
                self._log.info("bifrost: following the changes of other processes again")
            self._failing = False
