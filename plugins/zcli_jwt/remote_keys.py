"""The keys at a URL: fetched in a thread, one fetch at a time, and cached.

A fetch is due when the keys are older than ``jwks_refresh``, or when a token names an unknown key, because the keys may
have changed. ``jwks_interval`` is the minimum time between two fetches, however many such tokens come. If a fetch
fails, the known keys stay in use until they are older than ``jwks_max_age``. Without that limit, an attacker who blocks
the fetches could keep a revoked key in use. Failures are logged when they begin and when they are over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from zcli_jwt.keys import InvalidKey, KeySet


@dataclass(eq=False)
class RemoteKeys:
    """The keys at a URL, as of the last successful fetch. Nothing is fetched before the first use.

    Attributes:
        name: The URL without its query, for the log.
        fetch: Fetches the keys; it may block, and raises InvalidKey.
        refresh: Seconds after which the keys are fetched again.
        interval: Least seconds between two fetches.
        max_age: Seconds after which the keys are no longer used.
        log: The log for failures and changes.
        clock: The current time in seconds.
    """

    name: str
    fetch: Callable[[], KeySet]
    refresh: float
    interval: float
    max_age: float
    log: logging.Logger
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._keys = KeySet(())
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._pending_fetch: Future[None] | None = None
        #: Why the last fetch failed; None if it succeeded.
        self.last_error: str | None = None
        self._logged = ""

    def current(self) -> KeySet:
        """Return the known keys: none before the first fetch, and none if the last one is too long ago."""
        return self._keys if self._is_younger_than(self.max_age) else KeySet(())

    @property
    def is_fresh(self) -> bool:
        """Whether the keys can be used without a fetch."""
        return self._is_younger_than(min(self.refresh, self.max_age))

    def _is_younger_than(self, seconds: float) -> bool:
        fetched_at = self._fetched_at
        return fetched_at is not None and self.clock() - fetched_at < seconds

    def begin_fetch(self) -> Future[None] | None:
        """Return the pending fetch or begin one; return None if it is too early. The future raises nothing."""
        with self._lock:
            if self._pending_fetch is not None:
                return self._pending_fetch
            now = self.clock()
            if self._tried_at is not None and now - self._tried_at < self.interval:
                return None
            self._tried_at = now
            fetch = self._pending_fetch = Future()
        # It cannot be cancelled: a client that leaves must not end the fetch for the others.
        fetch.set_running_or_notify_cancel()
        # A daemon thread, because a name lookup may take longer than the program runs.
        try:
            threading.Thread(target=self._run, args=(fetch,), name="zcli-jwt-fetch", daemon=True).start()
        except RuntimeError:  # the system has no thread for it now
            self._note_error("no thread could be started to fetch it")
            self._finish_fetch(fetch)
        return fetch

    async def fetched(self, max_wait: float) -> None:
        """Wait at most ``max_wait`` seconds for the pending fetch, or for a new one if it is not too early."""
        fetch = self.begin_fetch()
        if fetch is not None:
            try:
                await asyncio.wait_for(asyncio.wrap_future(fetch), max_wait)
            except asyncio.TimeoutError:
                with self._lock:
                    if self._pending_fetch is fetch and not self.is_fresh:
                        self._note_error("not received yet")

    def _run(self, fetch: Future[None]) -> None:
        try:
            keys = self.fetch()
        except InvalidKey as problem:
            self._note_error(str(problem))
        except Exception as error:  # noqa: BLE001 - an unexpected error must not leave the clients waiting
            self._note_error(f"{type(error).__name__} while it was fetched")
        else:
            self._take(keys)
        finally:
            self._finish_fetch(fetch)

    def _finish_fetch(self, fetch: Future[None]) -> None:
        with self._lock:
            self._pending_fetch = None
        fetch.set_result(None)

    def _take(self, keys: KeySet) -> None:
        before, error = self._keys, self.last_error
        self._keys, self._fetched_at, self.last_error, self._logged = keys, self.clock(), None, ""
        if error or {key.kid for key in before.keys} != {key.kid for key in keys.keys}:
            self.log.info("jwt: fetched %s: %r", self.name, keys)
        for reason in keys.ignored:
            if reason not in before.ignored:
                self.log.warning("jwt: %s: %s", self.name, reason)

    def _note_error(self, error: str) -> None:
        self.last_error = error
        if self.current().keys:
            consequence = f"the previous keys stay in use until they are {self.max_age:g} s old (jwt.jwks_max_age)"
        else:
            consequence = "no client can be admitted until it is fetched"
        if self._logged != f"{error}; {consequence}":
            self._logged = f"{error}; {consequence}"
            self.log.error("jwt: %s: %s", self.name, self._logged)
