"""Run an auth strategy for the gate: whatever the strategy does, the outcome is a verdict or a failure."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from zcli_core.auth.contract import AuthStrategy, Identified, IdentifiedClients, Rejected
from zcli_core.errors import is_ctrl_c
from zcli_core.websocket.callbacks import is_async
from zcli_core.websocket.refusals import BURST

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Request
    from zcli_core.websocket.handler_threads import HandlerThreads


#: Most simultaneous calls of one plain strategy, because a call that hangs keeps its thread forever.
MAX_THREADS = 64
#: Seconds until ``watch`` of a strategy is called again after an error.
_WATCH_AGAIN = 1.0


class Failed:
    """The strategy raised, or returned something other than a verdict."""


FAILED = Failed()
Outcome = Identified | Rejected | Failed | None


class StrategyRunner:
    """One strategy, with the name that selects it and the plugin that it is from."""

    def __init__(
        self, name: str, plugin: str, strategy: AuthStrategy, threads: HandlerThreads, log: logging.Logger
    ) -> None:
        self.name = name
        self._plugin = plugin
        self._strategy = strategy
        self._threads = threads
        self._log = log
        self._free_threads = threading.BoundedSemaphore(MAX_THREADS)
        #: When each error was logged.
        self._logged: dict[str, float] = {}
        self._is_async = is_async(strategy.authenticate)
        #: Whether :meth:`authenticate` can be called, which does not wait.
        self.immediate = not self._is_async and getattr(strategy, "never_blocks", False) is True
        #: Whether :meth:`watch` can be called.
        self.watches = hasattr(strategy, "watch")

    def authenticate(self, request: Request) -> Outcome:
        """Call a strategy that is ``immediate``."""
        try:
            return self._checked(self._strategy.authenticate(request))
        except BaseException as error:  # noqa: BLE001 - a failing plugin refuses this client only
            return self._failed(error)

    def authenticate_throttled(self, request: Request) -> Identified | None:
        """Identify a client at a throttled address. None if the strategy cannot or does not support this."""
        authenticate = getattr(self._strategy, "authenticate_throttled", None)
        if authenticate is None:
            return None
        try:
            outcome = self._checked(authenticate(request))
        except BaseException as error:  # noqa: BLE001
            outcome = self._failed(error)
        return outcome if isinstance(outcome, Identified) else None

    async def authenticate_async(self, request: Request) -> Outcome:
        """Call any strategy: in this task, or in a thread if it is a plain one that may block."""
        if self.immediate:
            return self.authenticate(request)
        try:
            if self._is_async:
                verdict: Any = self._strategy.authenticate(request)
            elif not self._free_threads.acquire(blocking=False):
                self._log_error(f"has {MAX_THREADS} threads that have not returned")
                return FAILED
            else:
                verdict = await self._threads.run(self._in_thread, request)
            return self._checked(await verdict if inspect.isawaitable(verdict) else verdict)
        except BaseException as error:  # noqa: BLE001
            return self._failed(error)

    async def watch(self, clients: IdentifiedClients) -> None:
        """Let the strategy, which ``watches``, close clients whose credentials are revoked."""
        strategy: Any = self._strategy
        while True:
            try:
                await strategy.watch(clients)
            except BaseException as error:  # noqa: BLE001
                self._failed(error, "watching for revoked credentials; it is called again")
                await asyncio.sleep(_WATCH_AGAIN)
            else:
                return

    def _in_thread(self, request: Request) -> Any:
        try:
            return self._strategy.authenticate(request)
        finally:
            self._free_threads.release()

    def _checked(self, verdict: Any) -> Outcome:
        if verdict is None or isinstance(verdict, Rejected):
            return verdict
        if isinstance(verdict, Identified) and isinstance(verdict.identity, str) and verdict.identity:
            expires_at = verdict.expires_at
            if expires_at is None or (type(expires_at) in (int, float) and expires_at == expires_at):
                has_expired = expires_at is not None and expires_at <= time.time()
                return Rejected("the credential has expired") if has_expired else verdict
            self._log_error(f"returned an expires_at that is not a number of seconds ({type(expires_at).__name__})")
            return FAILED
        if inspect.iscoroutine(verdict):
            verdict.close()
        self._log_error(f"returned {type(verdict).__name__}, which is not a verdict")
        return FAILED

    def _failed(self, error: BaseException, effect: str = "refused (1011)") -> Failed:
        """Log an error of the strategy. Raise it again if it is Ctrl+C or the cancellation of the calling task."""
        if is_ctrl_c(error) or isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            raise error
        # Log the place but not the message, which may quote the credential.
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:]))
        self._log_error(f"failed: {type(error).__name__} at {where}", effect)
        return FAILED

    def _log_error(self, what: str, effect: str = "refused (1011)") -> None:
        """Log an error, but the same one only once in BURST seconds, because clients may reconnect all the time."""
        now = time.monotonic()
        if what not in self._logged or now - self._logged[what] >= BURST:
            self._logged = {text: logged for text, logged in self._logged.items() if now - logged < BURST} | {what: now}
            self._log.error("%s %s: %s", self, what, effect)

    def __str__(self) -> str:
        return f"the auth strategy {self.name!r} of the plugin {self._plugin}"
