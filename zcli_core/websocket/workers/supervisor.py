"""The supervisor: starts the workers, replaces those that crash or hang, reloads and stops all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import WorkerError
from zcli_core.log import application_title
from zcli_core.system.forks import call_after_fork
from zcli_core.system.trusted import script_file
from zcli_core.websocket import systemd
from zcli_core.websocket.metric_sums import add, total
from zcli_core.websocket.running_server import RESTART_REASONS
from zcli_core.websocket.workers.process import WorkerFailure, WorkerProcess, write_stderr

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.config.sections import WebSocket
    from zcli_core.types import ServerMetrics, ServerStatus, WebSocketMetrics
    from zcli_core.websocket.event_loop import StopEvent
    from zcli_core.websocket.workers.channel import Message
    from zcli_core.websocket.workers.sockets import WorkerSockets

_T = TypeVar("_T")

#: So many crashes in so many seconds end the server, because all workers run the same code.
MAX_CRASHES = 5
CRASH_WINDOW = 60.0
#: Pauses before a worker that has crashed is started again, in seconds. A worker that has lived for CRASH_WINDOW begins
#: with the first pause again.
_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
#: Seconds between two reports of a worker, at most.
TICK = 1.0
#: Seconds to wait for the reports that metrics() and status() ask for.
_REPORT_TIMEOUT = 1.0
#: Seconds that a worker gets to stop, besides drain_timeout and close_timeout.
_STOP_MARGIN = 5.0
#: Seconds that a worker's script may run on after start() has returned.
_EXIT_TIMEOUT = 10.0
#: Seconds that a worker that is not ready gets to end at SIGTERM.
_TERM_TIMEOUT = 2.0


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def time_to_end(settings: WebSocket) -> tuple[float, float]:
    """Return the seconds that a worker gets to stop serving, and those that its script may run on after that."""
    return settings.drain_timeout + settings.close_timeout + _STOP_MARGIN, _EXIT_TIMEOUT


def tick_interval(worker_timeout: float) -> float:
    """Return the seconds between two reports of a worker."""
    return min(TICK, worker_timeout / 4)


class Supervisor:
    """The supervisor of one server. Implements :class:`zcli_core.websocket.running_server.RunningServer`.

    :meth:`metrics`, :meth:`status` and :meth:`reload` may be called from any thread; the others belong to the thread of
    the event loop.
    """

    def __init__(
        self, config: Config, command: Sequence[str], count: int, metrics: WebSocketMetrics, log: logging.Logger
    ) -> None:
        """Prepare a supervisor.

        Args:
            config: The settings.
            command: Starts the program again.
            count: Number of workers.
            metrics: What this process counts itself.
            log: The application's log.
        """
        self._settings = config.websocket
        self._title = application_title(config.title, script_file())
        self._command = command
        self._count = count
        self._log = log
        self._began = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._sockets: WorkerSockets | None = None
        #: The workers that take clients, by number.
        self._current: dict[int, WorkerProcess] = {}
        #: All workers whose process runs, also those that are being replaced.
        self._running: set[WorkerProcess] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Only one worker is being started at a time; see :meth:`WorkerProcess.start`.
        self._one_at_a_time = asyncio.Lock()
        self._stopping = False
        self._crashes: deque[float] = deque(maxlen=MAX_CRASHES)
        #: Crashes in a row, by number.
        self._in_a_row: dict[int, int] = {}
        self._fatal: asyncio.Future[WorkerError] | None = None
        #: Reports that were asked for and have not arrived.
        self._asked: dict[int, tuple[set[WorkerProcess], asyncio.Future[None]]] = {}
        self._questions = 0
        #: A worker that ends is counted below instead of in _running; no thread may see it in both, or in none.
        self._counting = threading.Lock()
        #: What the supervisor counts itself, and workers that have ended.
        self._ended_metrics = metrics
        self._restarts = dict.fromkeys(RESTART_REASONS, 0)
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._stop: StopEvent | None = None
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Close the descriptors, so that the workers notice the end of the parent."""
        for worker in self._running:
            worker.forget()
        if self._sockets is not None:
            self._sockets.forget()

    # --- the whole run ---

    async def serve(
        self, sockets: WorkerSockets, stop: StopEvent, announce: Callable[[], None]
    ) -> tuple[int, int, float]:
        """Start all workers, keep them running until a stop is requested, and stop them.

        Args:
            sockets: The sockets of the workers.
            stop: Requested when the server should stop.
            announce: Called when all workers are ready.

        Returns:
            How many clients were connected at the stop, how many had been closed because they read too slowly, and how
            many seconds the stop took.

        Raises:
            ConfigError, ListenError, BackplaneFailure: A worker cannot start.
            WorkerError: The workers cannot run the script.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()
        self._sockets, self._stop = sockets, stop
        self._fatal = self._loop.create_future()
        stopped = self._loop.create_task(stop.wait())
        try:
            with self._reload_at_sighup():
                starting = self._loop.create_task(self._start_all())
                await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    announce()
                    self._notify_ready()
                    if self._reload_again:
                        self._request_reload()
                    checking = self._begin(self._check_silence())
                    ends: set[asyncio.Future[Any]] = {self._fatal, stopped}
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    checking.cancel()
                else:
                    starting.cancel()
                systemd.notify_stopping("stopping all workers")
                summary = await self._stop_all()
            if self._fatal.done() and not stopped.done():
                raise self._fatal.result()
            return summary
        finally:
            stopped.cancel()
            await self._kill_all()

    def _notify_ready(self) -> None:
        assert self._sockets is not None
        systemd.notify_ready(f"listening on {self._sockets.url} with {self._count} workers")

    def abort(self) -> None:
        """Kill all workers at once."""
        self._stopping = True
        for worker in self._running:
            worker.told = True
            worker.kill()

    def _begin(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        assert self._loop is not None
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @contextlib.contextmanager
    def _reload_at_sighup(self) -> Iterator[None]:
        """Reload at SIGHUP, and stop at the SIGHUP of a terminal that is closed, unless ``nohup`` ignores that."""
        loop = asyncio.get_running_loop()
        before = signal.getsignal(signal.SIGHUP)
        had_terminal = has_terminal()

        def receive() -> None:
            if not had_terminal or has_terminal():
                self._request_reload()
            elif before is not signal.SIG_IGN:
                assert self._stop is not None
                self._stop.request()

        loop.add_signal_handler(signal.SIGHUP, receive)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)

    # --- starting ---

    async def _start_all(self) -> None:
        """Start the first workers and wait until all are ready. Raises what the first failure was."""
        workers: list[WorkerProcess] = []
        try:
            await self._spawn_all(workers, announces=False)
        except OSError as error:
            raise WorkerError(f"the server cannot start, because the system cannot start a process: {error}") from None
        except WorkerFailure as failure:
            write_stderr(failure.output)
            await self._discard(workers)
            if failure.error is not None:
                raise failure.error from None
            raise WorkerError(f"the server cannot start: {failure}") from None
        self._install(workers)

    def _install(self, workers: Sequence[WorkerProcess]) -> None:
        """Make workers that were ready the current ones."""
        self._current = {worker.number: worker for worker in workers}
        for worker in workers:
            if worker.ended.done():  # it has crashed since
                self._replace(worker)

    async def _spawn(self, number: int, *, quiet: bool) -> WorkerProcess:
        """Start the process of a worker, which has to be prepared in time, and then waits for :meth:`_let_accept`.

        Raises:
            OSError: The system cannot start a process.
        """
        assert self._loop is not None
        assert self._sockets is not None
        worker = WorkerProcess(number, self._count, self._received)
        async with self._one_at_a_time:
            await worker.start(self._command, self._sockets.groups[number - 1], quiet)
        self._running.add(worker)
        if self._stopping:
            worker.told = True
            worker.kill()
        worker.ended.add_done_callback(lambda _: self._ended(worker))
        self._limit(worker, worker.prepared)
        return worker

    def _let_accept(self, worker: WorkerProcess) -> None:
        """Let a worker serve that is prepared; it has to become ready in time."""
        self._limit(worker, worker.ready)
        worker.send(kind="accept")

    def _limit(self, worker: WorkerProcess, step: asyncio.Future[None]) -> None:
        assert self._loop is not None
        late = self._loop.call_later(self._settings.worker_timeout, self._too_late, worker, step)
        step.add_done_callback(lambda _: late.cancel())

    def _too_late(self, worker: WorkerProcess, step: asyncio.Future[None]) -> None:
        if step.done():  # a supervisor that was stopped itself gets the report and the timer at once
            return
        worker.give_up(f"it was not ready within {self._settings.worker_timeout:g} s (websocket.worker_timeout)")

    async def _spawn_all(self, workers: list[WorkerProcess], announces: bool) -> None:
        """Start a worker for each place, and wait until all are ready. None accepts clients before all are prepared.

        Args:
            workers: Gets the workers, also those of an attempt that fails.
            announces: Whether the first of them shows the warnings about the configuration.

        Raises:
            OSError: The system cannot start a process.
            WorkerFailure: The first failure of a worker.
        """
        for number in range(1, self._count + 1):
            worker = await self._spawn(number, quiet=number > 1 or not announces)
            workers.append(worker)
        await self._all_done({worker.prepared: worker for worker in workers})
        for worker in workers:
            self._let_accept(worker)
        await self._all_done({worker.ready: worker for worker in workers})

    async def _all_done(self, waiting: dict[asyncio.Future[None], WorkerProcess]) -> None:
        """Wait until all workers have done a step.

        Raises:
            WorkerFailure: The first failure; its message names the worker.
        """
        pending: set[asyncio.Future[None]] = set(waiting)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                try:
                    future.result()
                except WorkerFailure as failure:
                    text = f"{waiting[future]}: {failure}"
                    raise WorkerFailure(text, failure.error, failure.output) from None

    # --- when a worker ends ---

    def _ended(self, worker: WorkerProcess) -> None:
        with self._counting:
            self._running.discard(worker)
            if worker.metrics is not None:
                add(self._ended_metrics, worker.metrics)
        self._report_arrived(worker)
        if self._current.get(worker.number) is worker and not self._stopping:
            self._replace(worker)

    def _replace(self, worker: WorkerProcess) -> None:
        """Start another worker in the place of one that has ended by itself."""
        was_ready = worker.state != "starting"
        end = worker.describe_end()
        if not was_ready:
            failure = worker.ready.exception()
            end = str(failure)
            if isinstance(failure, WorkerFailure):
                write_stderr(failure.output)
        if was_ready and worker.status == 0 and not worker.hangs:
            self._restarts["exit"] += 1
            self._log.warning("%s has ended without being told to; a new one is started", worker)
            pause = 0.0
        else:
            self._restarts["hang" if worker.hangs else "crash"] += 1
            if self._crashed_too_often(worker, end):
                return
            pause = self._pause(worker)
            when = f"in {pause:g} s" if pause else "now"
            what = "hangs" if worker.hangs else "has crashed"
            self._log.error("%s %s: %s; a new one is started %s", worker, what, end, when)
        self._begin(self._start_again(worker, pause))

    def _crashed_too_often(self, worker: WorkerProcess, end: str) -> bool:
        now = time.monotonic()
        self._crashes.append(now)
        if len(self._crashes) < MAX_CRASHES or now - self._crashes[0] > CRASH_WINDOW:
            return False
        assert self._fatal is not None
        if not self._fatal.done():
            text = (
                f"{MAX_CRASHES} workers have crashed within {CRASH_WINDOW:g} s, so the server ends; the last: {worker}"
            )
            self._log.critical("%s: %s", text, end)
            self._fatal.set_result(WorkerError(f"{text}: {end}"))
        return True

    def _pause(self, worker: WorkerProcess) -> float:
        crashes = 0 if worker.uptime > CRASH_WINDOW else self._in_a_row.get(worker.number, 0)
        self._in_a_row[worker.number] = crashes + 1
        return _PAUSES[min(crashes, len(_PAUSES) - 1)]

    async def _start_again(self, old: WorkerProcess, pause: float) -> None:
        await asyncio.sleep(pause)
        number = old.number
        if self._stopping or self._current.get(number) is not old:  # a reload has replaced it
            return
        try:
            worker = await self._spawn(number, quiet=True)
        except OSError as error:
            self._log.error("worker %d cannot be started: %s; it is tried again in %g s", number, error, _PAUSES[-1])
            self._begin(self._start_again(old, _PAUSES[-1]))
            return
        if self._current.get(number) is not old:  # a reload has replaced it meanwhile
            await self._discard([worker])
            return
        self._current[number] = worker
        with contextlib.suppress(WorkerFailure):
            await worker.prepared
            self._let_accept(worker)
            await worker.ready
            self._log.info("%s is ready", worker)

    async def _check_silence(self) -> None:
        """Kill workers whose event loop has been silent for too long.

        Checks are counted and not seconds, so that a supervisor that was stopped itself does not blame its workers.
        """
        interval = tick_interval(self._settings.worker_timeout)
        while True:
            await asyncio.sleep(interval)
            for worker in self._running:
                if worker.state == "starting" or worker.has_left:
                    continue
                worker.silence += 1
                if worker.silence * interval > self._settings.worker_timeout and not worker.hangs:
                    worker.hangs = True
                    self._log.error(
                        "%s: its event loop has been blocked for %g s (websocket.worker_timeout); it is killed", worker,
                        self._settings.worker_timeout,
                    )  # fmt: skip
                    worker.kill()

    # --- reload ---

    def reload(self) -> None:
        """Replace every worker by a new one, which runs the code and the settings that are on the disk now.

        Returns at once; the log tells how it went. A call during a reload makes another one follow.

        Raises:
            RuntimeError: The server is not running.
        """
        loop = self._loop
        if loop is None or self._stopping:
            raise RuntimeError("the server is not running, so it cannot be reloaded")
        try:
            loop.call_soon_threadsafe(self._request_reload)
        except RuntimeError:
            raise RuntimeError("the server is not running, so it cannot be reloaded") from None

    def _request_reload(self) -> None:
        if self._stopping:
            return
        if not self._current:
            self._reload_again = True  # as soon as the start is complete
            return
        if self._reloading is not None and not self._reloading.done():
            if not self._reload_again:
                self._log.info("a reload is in progress; another one follows it")
            self._reload_again = True
            return
        self._reloading = self._begin(self._reload_all())

    async def _reload_all(self) -> None:
        while True:
            self._reload_again = False
            systemd.notify_reloading("replacing all workers")
            await self._reload_once()
            if not self._stopping:
                self._notify_ready()
            if not self._reload_again or self._stopping:
                return

    async def _reload_once(self) -> None:
        self._log.info("reload: %d new workers are started", self._count)
        began = time.monotonic()
        new: list[WorkerProcess] = []
        try:
            await self._spawn_all(new, announces=True)
        except (WorkerFailure, OSError) as error:
            if isinstance(error, WorkerFailure):
                write_stderr(error.output)
            self._log.error("the reload has failed and the old workers stay: %s", error)
            await self._discard(new)
            return
        except asyncio.CancelledError:
            for worker in new:
                worker.told = True
            raise
        old = [worker for worker in self._current.values() if worker in self._running]
        self._in_a_row.clear()
        self._restarts["reload"] += len(new)
        self._install(new)
        self._log.info("reload: %d new workers are ready after %.1f s", len(new), time.monotonic() - began)
        await self._retire(old)
        self._log.info("reload: done after %.1f s", time.monotonic() - began)

    async def _discard(self, workers: Sequence[WorkerProcess]) -> None:
        """End workers that have no part in serving."""
        starting = [worker for worker in workers if worker.state == "starting"]
        serving = [worker for worker in workers if worker not in starting]
        for worker in workers:
            worker.told = True
            worker.kill(signal.SIGTERM)
        for worker in serving:
            worker.state = "draining"
        await self._wait_ended(starting, _TERM_TIMEOUT)
        # A client may have reached one that was ready before the others.
        await self._wait_ended(serving, *time_to_end(self._settings))

    async def _retire(self, workers: Sequence[WorkerProcess]) -> None:
        """Let old workers close their clients over ``reload_spread`` and end.

        None closes a client before all have stopped accepting, so that no client is closed twice.
        """
        settings = self._settings
        for worker in workers:
            worker.told = True
            if worker.state == "starting":
                worker.kill(signal.SIGTERM)
            worker.state = "draining"
            worker.send(kind="stop accepting")
        if workers:
            await asyncio.wait([worker.accepts_no_more for worker in workers], timeout=settings.worker_timeout)
        for worker in workers:
            worker.send(kind="leave", seconds=settings.reload_spread)
        stop_timeout, exit_timeout = time_to_end(settings)
        await self._wait_ended(workers, settings.reload_spread + settings.open_timeout + stop_timeout, exit_timeout)

    # --- stopping ---

    async def _stop_all(self) -> tuple[int, int, float]:
        began = time.monotonic()
        self._stopping = True
        if self._reloading is not None:
            self._reloading.cancel()
        workers = list(self._running)
        for worker in workers:
            worker.told = True
            if worker.state == "starting":
                worker.kill(signal.SIGTERM)
            elif worker.state == "ready":
                worker.state = "draining"
            worker.send(kind="stop")
        await self._wait_ended(workers, *time_to_end(self._settings))
        slow = self._ended_metrics["slow_clients"]
        clients = sum(worker.clients_closed or 0 for worker in workers)
        return clients, slow, time.monotonic() - began

    async def _wait_ended(self, workers: Sequence[WorkerProcess], timeout: float, exit_timeout: float = 0.0) -> None:
        """Wait until workers have ended, and kill those that have not in time.

        Args:
            workers: The workers.
            timeout: Seconds for the end of ``start()``.
            exit_timeout: Further seconds for a worker whose ``start()`` has returned.
        """
        left = [worker.ended for worker in workers if not worker.ended.done()]
        if left:
            await asyncio.wait(left, timeout=timeout)
        left = [worker.ended for worker in workers if not worker.ended.done() and worker.has_left]
        if left and exit_timeout:
            await asyncio.wait(left, timeout=exit_timeout)
        for worker in workers:
            if not worker.ended.done():
                self._log.error("%s does not end; it is killed", worker)
                worker.kill()
                await worker.ended

    async def _kill_all(self) -> None:
        """Kill what still runs, and wait for the end of all processes."""
        self.abort()
        async with self._one_at_a_time:  # one may be about to start; _spawn() kills it
            pass
        if self._running:
            await asyncio.wait([worker.ended for worker in self._running])
        await asyncio.sleep(0)  # the callbacks of the futures

    # --- messages of workers ---

    def _received(self, worker: WorkerProcess, message: Message) -> None:
        """Handle a message that is not about the worker itself.

        ``report`` responds to ``ask``. ``stop`` asks for the end of the server, because the script called ``stop()``.
        ``wrong credential`` is relayed to the other workers, and confirmed.
        """
        kind = message.get("kind")
        if kind == "report":
            self._report_arrived(worker, message.get("question"))
        elif kind == "stop":
            assert self._stop is not None
            self._stop.request()
        elif kind == "wrong credential":
            for other in self._running:
                if other is not worker:
                    other.send(kind="wrong credential", networks=message.get("networks"))
            worker.send(kind="relayed", networks=message.get("networks"))

    # --- reports ---

    def _report_arrived(self, worker: WorkerProcess, question: object = None) -> None:
        for number, (workers, done) in self._asked.items():
            if question in (None, number):
                workers.discard(worker)
                if not workers and not done.done():
                    done.set_result(None)

    async def _ask_all(self) -> None:
        """Ask all workers for a report, and wait a limited time for it."""
        self._questions += 1
        number = self._questions
        workers = {
            worker
            for worker in self._running
            if worker.state != "starting" and worker.send(kind="ask", question=number)
        }
        if not workers:
            return
        done = asyncio.get_running_loop().create_future()
        self._asked[number] = workers, done
        try:
            await asyncio.wait({done}, timeout=_REPORT_TIMEOUT)
        finally:
            del self._asked[number]

    def _call(self, coroutine: Callable[[], Coroutine[Any, Any, _T]], at_once: Callable[[], _T]) -> _T:
        """Run a coroutine in the event loop, from any thread; without asking workers if that is not possible."""
        loop = self._loop
        if loop is None or not loop.is_running() or threading.current_thread() is self._thread:
            return at_once()
        made = coroutine()
        try:
            future: Future[_T] = asyncio.run_coroutine_threadsafe(made, loop)
        except RuntimeError:  # the event loop has just been closed
            made.close()
            return at_once()
        try:
            return future.result(_REPORT_TIMEOUT + 0.5)
        except (FutureTimeoutError, FutureCancelled):  # it is busy, or it is about to be closed
            return at_once()

    def metrics(self) -> ServerMetrics:
        """Return what the server counts, in all its workers, at this moment. Takes at most a second or two."""
        return self._call(self._asked_metrics, self._metrics)

    async def _asked_metrics(self) -> ServerMetrics:
        await self._ask_all()
        return self._metrics()

    def _metrics(self) -> ServerMetrics:
        with self._counting:
            running = {worker: worker.metrics for worker in tuple(self._running) if worker.metrics is not None}
            everything = total(running.values(), self._ended_metrics)
        current = {worker.number: running[worker] for worker in tuple(self._current.values()) if worker in running}
        return {"total": everything, "workers": current, "restarts": dict(self._restarts)}

    def status(self) -> ServerStatus:
        """Return the state of the server and of each worker. Takes at most a second or two."""
        return self._call(self._asked_status, self._status)

    async def _asked_status(self) -> ServerStatus:
        await self._ask_all()
        return self._status()

    def _status(self) -> ServerStatus:
        workers = [worker.report() for worker in sorted(self._running, key=lambda each: (each.number, each.pid))]
        return {
            "title": self._title,
            "pid": os.getpid(),
            "url": "" if self._sockets is None else self._sockets.url,
            "uptime": time.monotonic() - self._began,
            "clients": sum(worker["clients"] for worker in workers),
            "backplane": self._settings.backplane,
            "workers": workers,
            "restarts": dict(self._restarts),
        }
