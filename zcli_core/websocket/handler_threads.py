"""Threads for plain handlers and strategies: one for each call, so that a call that blocks delays no other.

``concurrent.futures`` has a fixed number of workers, so that a few blocked calls would stop all others, and the program
could not end before the last of them has returned.
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
    """The task that waited for a plain function was cancelled, but the function still runs in its thread."""


#: Seconds after which an idle thread ends.
_IDLE_TIMEOUT = 10.0

_Job = Callable[[], None]


class HandlerThreads:
    """A pool of daemon threads that grows on demand; a thread ends when it was idle for a while."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._local = threading.local()
        self._after_fork()
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Forget the threads of the parent process, which the child does not have."""
        self._lock = threading.Lock()
        #: The queue of each thread that waits for a job. The last one is used first, so that surplus threads end.
        self._idle: list[queue.SimpleQueue[_Job]] = []

    @property
    def inside(self) -> bool:
        """Whether the calling thread is one of the pool."""
        return getattr(self._local, "inside", False)

    async def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function in a thread, with the caller's context variables, and return its result.

        Raises:
            Exception: The function raised it.
            RuntimeError: The function raised another exception, such as SystemExit, which would end the event loop.
                That exception is the cause.
            StillRunning: The calling task was cancelled. The function still runs.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            try:
                result = context.run(function, *arguments)
            except BaseException as error:  # noqa: BLE001 - raised in the waiting task
                _set_outcome(loop, future, None, _as_exception(error))
            else:
                _set_outcome(loop, future, result, None)

        self._start(job)
        try:
            return await future
        except asyncio.CancelledError as error:
            raise StillRunning(*error.args) from None

    def _start(self, job: _Job) -> None:
        with self._lock:
            idle = self._idle
            jobs = idle.pop() if idle else None
        if jobs is None:
            jobs = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(jobs, idle), name=self._name, daemon=True).start()
        jobs.put(job)

    def _work(self, jobs: queue.SimpleQueue[_Job], idle: list[queue.SimpleQueue[_Job]]) -> None:
        self._local.inside = True
        while True:
            try:
                job = jobs.get(timeout=_IDLE_TIMEOUT)
            except queue.Empty:
                with self._lock:
                    if jobs in idle:
                        idle.remove(jobs)
                        return
                continue  # a job was just put into the queue
            job()
            del job  # it references a connection
            with self._lock:
                if idle is not self._idle:
                    return  # the job has forked, and this is the child process
                idle.append(jobs)


def _as_exception(error: BaseException) -> Exception:
    """Convert an error to one that a future accepts and that ends only the task that waits for it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):  # PEP 479
        return error
    wrapped = RuntimeError(f"a plain function raised {type(error).__name__}({error})")
    wrapped.__cause__ = error
    return wrapped


def _set_outcome(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[_T], result: Any, error: Exception | None
) -> None:
    """Set the result or the error of a future from another thread."""

    def set_in_loop() -> None:
        if future.done():  # cancelled
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    try:
        loop.call_soon_threadsafe(set_in_loop)
    except RuntimeError:  # the loop is closed, and so is the waiting task
        return
