"""The subsystem: calls functions at intervals, in one thread, until the application is closed."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from zcli_core.subsystems.contract import Application, SubsystemContext

from zcli_skeleton.settings import Skeleton


class _Job(NamedTuple):
    due: float
    number: int  # so that two jobs never compare their functions
    seconds: float
    function: Callable[[Application], object]


class SkeletonScheduler:
    """Calls functions at intervals. Every method may be called from any thread."""

    def __init__(self, context: SubsystemContext) -> None:
        self._app = context.app
        self._log = context.log
        self._shortest = context.config.section(Skeleton).shortest
        self._jobs: list[_Job] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def every(self, seconds: float, function: Callable[[Application], object]) -> None:
        """Call ``function(z)`` every ``seconds`` seconds. If it raises, the error is logged and the calls go on.

        Raises:
            ValueError: The interval is shorter than ``skeleton.shortest``.
            RuntimeError: The application is closed.
        """
        if not seconds >= self._shortest:
            raise ValueError(f"the interval must be at least {self._shortest:g} s (skeleton.shortest), got {seconds!r}")
        with self._changed:
            if self._closed:
                raise RuntimeError("the scheduler is closed")
            heapq.heappush(self._jobs, _Job(time.monotonic() + seconds, len(self._jobs), seconds, function))
            if self._thread is None:  # not before it is needed
                self._thread = threading.Thread(target=self._work, name="skeleton", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Call no further function, and wait for the one that runs."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (wait := self._jobs[0].due - time.monotonic()) > 0:
                    self._changed.wait(wait)
                if self._closed:
                    return
                job = self._jobs[0]
                heapq.heapreplace(self._jobs, job._replace(due=time.monotonic() + job.seconds))
            try:
                job.function(self._app)
            except Exception:  # noqa: BLE001 - the calls go on
                self._log.exception("a function failed that is called every %g s", job.seconds)

    def __repr__(self) -> str:
        return f"<SkeletonScheduler: {len(self._jobs)} functions>"
