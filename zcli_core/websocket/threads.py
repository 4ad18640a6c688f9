"""Threads for plain handlers and strategies: one for each that runs, so that one that blocks holds up no other.

``concurrent.futures`` would make all wait for the slowest of its fixed number of workers, and would not let the
program end before the last of them has returned.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from zcli_core.system.forks import call_after_fork

_T = TypeVar("_T")


class StillRunning(asyncio.CancelledError):
    """The waiting for a plain function was cancelled, but the function goes on in its thread."""


#: Seconds after which a thread that has nothing to do ends.
_IDLE = 10.0

_Job = Callable[[], None]


class HandlerThreads:
    """Daemon threads, made as they are needed, kept for a while and then let go."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._local = threading.local()
        self._forks = 0
        call_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's threads: the child has none of them but the one that forked."""
        self._lock = threading.Lock()
        self._idle = []
        self._forks += 1

    @property
    def inside(self) -> bool:
        """Whether the calling thread is one of these."""
        return getattr(self._local, "inside", False)

    async def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function in a thread and wait for what it returns or raises.

        It sees the caller's context variables. If it raises what is not an ``Exception``, as ``sys.exit()`` does, that
        would end the event loop, so it becomes the cause of a RuntimeError. If the waiting is cancelled, the function
        goes on and StillRunning is raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            try:
                result = context.run(function, *arguments)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                _tell(loop, future, None, _as_exception(error))
            else:
                _tell(loop, future, result, None)

        self._start(job)
        try:
            return await future
        except asyncio.CancelledError as error:
            raise StillRunning(*error.args) from None

    def _start(self, job: _Job) -> None:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker(self)
            threading.Thread(target=worker.work, name=self._name, daemon=True).start()
        worker.jobs.put(job)

    @property
    def forks(self) -> int:
        """How many forks lie between the process that made this object and this one."""
        return self._forks

    def offer(self, worker: _Worker) -> bool:
        """A worker has nothing to do; whether it may wait for a job. One of the parent process may not."""
        with self._lock:
            if worker.forks == self._forks:
                self._idle.append(worker)
            return worker.forks == self._forks

    def withdraw(self, worker: _Worker) -> bool:
        """Whether a worker could be taken back before it was given a job."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True

    def enter(self) -> None:
        """Mark the calling thread as one of these."""
        self._local.inside = True


class _Worker:
    def __init__(self, owner: HandlerThreads) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._owner = owner
        self.forks = owner.forks

    def work(self) -> None:
        self._owner.enter()
        while True:
            try:
                job = self.jobs.get(timeout=_IDLE)
            except queue.Empty:
                if self._owner.withdraw(self):
                    return
                continue  # a job is on its way
            job()
            del job  # it holds on to a connection
            if not self._owner.offer(self):
                return


def _as_exception(error: BaseException) -> Exception:
    """An error as one that a future can hold and that ends nothing but the task which waits for it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):  # PEP 479
        return error
    wrapped = RuntimeError(f"a plain function raised {type(error).__name__}({error})")
    wrapped.__cause__ = error
    return wrapped


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[_T], result: Any, error: Exception | None) -> None:
    def set_outcome() -> None:
        if future.done():  # cancelled
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    try:
        loop.call_soon_threadsafe(set_outcome)
    except RuntimeError:  # the loop has closed: nobody waits any more
        return
