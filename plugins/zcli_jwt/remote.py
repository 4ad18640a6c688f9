"""The keys at a URL, kept: fetched in a thread, one fetch at a time, and seldom.

A fetch is due when the keys are older than ``jwks_refresh``, or when a token names a key that is not among them, for
then the keys may have been changed. However many such tokens come, ``jwks_interval`` lies between two fetches. If a
fetch fails, the keys that are known stay in use until they are older than ``jwks_max_age``: whoever can block the
fetches could otherwise keep a revoked key in use. Failures are logged when they begin and when they are over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from zcli_jwt.keys import InvalidKey, KeySet


class RemoteKeys:
    """The keys at a URL, as they were when it was last asked."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[], KeySet],
        refresh: float,
        interval: float,
        max_age: float,
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``fetch`` may block and raises InvalidKey; times are in seconds."""
        #: What the log calls the place.
        self.name = name
        self._fetch = fetch
        self._refresh = refresh
        self._interval = interval
        self._max_age = max_age
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = KeySet(())
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._flight: Future[None] | None = None
        #: Why the last fetch has failed.
        self.trouble: str | None = None
        self._logged = ""

    def current(self) -> KeySet:
        """The keys that are known now: none at first, and none when the last fetch is too long ago."""
        return self._keys if self._is_younger_than(self._max_age) else KeySet(())

    @property
    def is_fresh(self) -> bool:
        """Whether the keys can be used without asking."""
        return self._is_younger_than(min(self._refresh, self._max_age))

    def _is_younger_than(self, seconds: float) -> bool:
        fetched_at = self._fetched_at
        return fetched_at is not None and self._clock() - fetched_at < seconds

    def begin_fetch(self) -> Future[None] | None:
        """The fetch that is under way, or a new one; None if it is too early for one. The future raises nothing."""
        with self._lock:
            if self._flight is not None:
                return self._flight
            now = self._clock()
            if self._tried_at is not None and now - self._tried_at < self._interval:
                return None
            self._tried_at = now
            flight = self._flight = Future()
        # It cannot be cancelled: a client that leaves must not take the fetch away from those who wait with it.
        flight.set_running_or_notify_cancel()
        # A daemon, for a name server may keep it longer than the program wants to live.
        try:
            threading.Thread(target=self._run, args=(flight,), name="zcli-jwt-fetch", daemon=True).start()
        except RuntimeError:  # the system has no thread to give; the next fetch may find one
            self._note_trouble("no thread could be started to fetch it")
            self._land(flight)
        return flight

    async def fetched(self, patience: float) -> None:
        """Wait for a fetch, one that is under way or a new one if it is not too early, ``patience`` seconds at most."""
        flight = self.begin_fetch()
        if flight is not None:
            try:
                await asyncio.wait_for(asyncio.wrap_future(flight), patience)
            except asyncio.TimeoutError:
                with self._lock:
                    if self._flight is flight and not self.is_fresh:
                        self._note_trouble("it has not come yet")

    def _run(self, flight: Future[None]) -> None:
        try:
            keys = self._fetch()
        except InvalidKey as problem:
            self._note_trouble(str(problem))
        except Exception as error:  # noqa: BLE001 - what nobody thought of must not leave everybody waiting
            self._note_trouble(f"{type(error).__name__} while it was fetched")
        else:
            self._take(keys)
        finally:
            self._land(flight)

    def _land(self, flight: Future[None]) -> None:
        with self._lock:
            self._flight = None
        flight.set_result(None)

    def _take(self, keys: KeySet) -> None:
        before, trouble = self._keys, self.trouble
        self._keys, self._fetched_at, self.trouble, self._logged = keys, self._clock(), None, ""
        if trouble or {key.kid for key in before.keys} != {key.kid for key in keys.keys}:
            self._log.info("jwt: fetched %s: %r", self.name, keys)
        for reason in keys.ignored:
            if reason not in before.ignored:
                self._log.warning("jwt: %s: %s; it is ignored", self.name, reason)

    def _note_trouble(self, trouble: str) -> None:
        self.trouble = trouble
        if self.current().keys:
            consequence = f"the keys of before are kept until they are {self._max_age:g} s old (jwt.jwks_max_age)"
        else:
            consequence = "no client can be admitted until it is fetched"
        if self._logged != f"{trouble}; {consequence}":
            self._logged = f"{trouble}; {consequence}"
            self._log.error("jwt: %s: %s", self.name, self._logged)
