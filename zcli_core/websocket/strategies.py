"""Auth strategies as the gate asks them: whatever one does, the answer is a verdict or a failure."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from zcli_core.auth.contract import AuthStrategy, Identified, Rejected
from zcli_core.errors import is_ctrl_c
from zcli_core.websocket.callbacks import is_async
from zcli_core.websocket.refusals import BURST

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Request
    from zcli_core.websocket.threads import HandlerThreads


#: Calls of one plain strategy at once. One that hangs keeps its threads for ever: there must be an end to them.
MAX_THREADS = 64


class Failed:
    """The strategy raised, or answered with what is no verdict."""


FAILED = Failed()
Outcome = Identified | Rejected | Failed | None


class AskedStrategy:
    """One strategy, the name that selects it, and the plugin that it is from."""

    def __init__(
        self, name: str, plugin: str, strategy: AuthStrategy, threads: HandlerThreads, log: logging.Logger
    ) -> None:
        self.name = name
        self._plugin = plugin
        self._strategy = strategy
        self._threads = threads
        self._log = log
        self._places = threading.BoundedSemaphore(MAX_THREADS)
        #: When each error was logged.
        self._said: dict[str, float] = {}
        self._is_async = is_async(strategy.authenticate)
        #: Whether it can be asked without waiting.
        self.immediate = not self._is_async and getattr(strategy, "never_blocks", False) is True

    def judge(self, request: Request) -> Outcome:
        """Ask a strategy that is ``immediate``."""
        try:
            return self._checked(self._strategy.authenticate(request))
        except BaseException as error:  # noqa: BLE001 - a plugin's fault refuses its client and no more
            return self._failed(error)

    def judge_throttled(self, request: Request) -> Identified | None:
        """Ask about a client at a throttled address; None also from a strategy that takes no part in that."""
        authenticate = getattr(self._strategy, "authenticate_throttled", None)
        if authenticate is None:
            return None
        try:
            outcome = self._checked(authenticate(request))
        except BaseException as error:  # noqa: BLE001
            outcome = self._failed(error)
        return outcome if isinstance(outcome, Identified) else None

    async def judge_later(self, request: Request) -> Outcome:
        """Ask any strategy: in this task, or in a thread if it is a plain one that may block."""
        if self.immediate:
            return self.judge(request)
        try:
            if self._is_async:
                answer: Any = self._strategy.authenticate(request)
            elif not self._places.acquire(blocking=False):
                self._say(f"has {MAX_THREADS} threads that have not returned")
                return FAILED
            else:
                answer = await self._threads.run(self._in_thread, request)
            return self._checked(await answer if inspect.isawaitable(answer) else answer)
        except BaseException as error:  # noqa: BLE001
            return self._failed(error)

    def _in_thread(self, request: Request) -> Any:
        try:
            return self._strategy.authenticate(request)
        finally:
            self._places.release()

    def _checked(self, answer: Any) -> Outcome:
        if answer is None or isinstance(answer, Rejected):
            return answer
        if isinstance(answer, Identified) and isinstance(answer.identity, str) and answer.identity:
            expires_at = answer.expires_at
            if expires_at is None or (type(expires_at) in (int, float) and expires_at == expires_at):
                has_expired = expires_at is not None and expires_at <= time.time()
                return Rejected("the credential has expired") if has_expired else answer
            self._say(f"gave a wrong expires_at ({type(expires_at).__name__}, not a number of seconds)")
            return FAILED
        if inspect.iscoroutine(answer):
            answer.close()
        self._say(f"gave {type(answer).__name__}, which is no verdict")
        return FAILED

    def _failed(self, error: BaseException) -> Failed:
        """Log an error of the strategy; raise it again if it is Ctrl+C or ends the task that asks."""
        if is_ctrl_c(error) or isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            raise error
        # Where it failed, but not what it said: that may quote the credential.
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:]))
        self._say(f"failed: {type(error).__name__} at {where}")
        return FAILED

    def _say(self, what: str) -> None:
        """Log an error, the same one once in a while: clients may come again and again. The gate counts them."""
        now = time.monotonic()
        if what not in self._said or now - self._said[what] >= BURST:
            self._said = {text: said for text, said in self._said.items() if now - said < BURST} | {what: now}
            self._log.error("%s %s: refused (1011)", self, what)

    def __str__(self) -> str:
        return f"the auth strategy {self.name!r} of the plugin {self._plugin}"
