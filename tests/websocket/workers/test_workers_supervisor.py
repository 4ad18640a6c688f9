"""The supervisor's own decisions, with real processes that are not Python programs and so start quickly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from zcli_core.websocket.workers import assignment
from zcli_core.websocket.workers.process import WorkerProcess
from zcli_core.websocket.workers.supervisor import Supervisor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers")

SLEEP = ["sleep", "3600"]


def _with_supervisor(make_z: Any, test: Callable[[Supervisor], Awaitable[None]]) -> None:
    """Run a test with a supervisor of one worker, which never becomes ready."""
    z = make_z(workers=2, backplane="local")

    async def run() -> None:
        supervisor = Supervisor(z.config, SLEEP, 1, z.comm.websocket.metrics(), z.log)
        supervisor._loop = asyncio.get_running_loop()
        supervisor._fatal = supervisor._loop.create_future()
        with socket.socket() as sock:
            supervisor._sockets = SimpleNamespace(groups=[[sock]])  # type: ignore[assignment]
            try:
                await asyncio.wait_for(test(supervisor), 20)
            finally:
                await supervisor._kill_all()

    asyncio.run(run())


def test_worker_ready_when_timer_fires_is_kept(make_z: Any) -> None:
    """A supervisor that was stopped gets the report of a worker and its timer at the same time."""

    async def test(supervisor: Supervisor) -> None:
        worker = await supervisor._spawn(1, quiet=True)
        for kind, step in (("prepared", worker.prepared), ("ready", worker.ready)):
            worker._received({"kind": kind})
            supervisor._too_late(worker, step)
            assert worker._given_up is None

    _with_supervisor(make_z, test)


def test_reload_wins_over_late_replacement(make_z: Any) -> None:
    """A process that replaces a crashed worker is ended if a reload has put another worker into its place."""

    async def test(supervisor: Supervisor) -> None:
        old = supervisor._current[1] = await supervisor._spawn(1, quiet=True)
        new = await supervisor._spawn(1, quiet=True)
        async with supervisor._one_at_a_time:
            again = asyncio.ensure_future(supervisor._start_again(old, 0.0))
            while not supervisor._one_at_a_time._waiters:
                await asyncio.sleep(0.001)
            supervisor._install([new])
        await again
        assert supervisor._current == {1: new}
        assert supervisor._running == {old, new}

    _with_supervisor(make_z, test)


def test_metrics_while_loop_ends_are_the_last_ones(make_z: Any) -> None:
    """A question that the end of the event loop cancels is answered without asking the workers."""

    async def test(supervisor: Supervisor) -> None:
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()

        async def hang() -> str:
            begun.set()
            await asyncio.sleep(3600)
            return "asked"

        with ThreadPoolExecutor(1) as threads:
            result = loop.run_in_executor(threads, supervisor._call, hang, lambda: "at once")
            await begun.wait()
            for task in asyncio.all_tasks():
                if task.get_coro().__name__ == "hang":  # type: ignore[union-attr]
                    task.cancel()
            assert await result == "at once"

    _with_supervisor(make_z, test)


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_worker_without_descriptors_leaks_none() -> None:
    """Whichever of the descriptors is the one too many."""
    import resource

    async def run() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard))
        taken: list[int] = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            for free in range(5):  # it opens five before it starts the process
                with pytest.raises(OSError, match="Too many open files"):
                    await WorkerProcess(1, 2, lambda *_: None).start(SLEEP, [], True)
                found = [os.open(os.devnull, os.O_RDONLY) for _ in range(free)]
                taken += found
                os.close(taken.pop())
                for _ in range(free):
                    os.close(taken.pop())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken:
                os.close(descriptor)

    asyncio.run(run())


def test_process_without_its_sockets_starts_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers would get none either, and start workers of their own."""
    monkeypatch.setenv(assignment.VARIABLE, "1:2:1000:1001:1002:0")
    code = "from zcli_core.websocket.workers import assignment; assignment.supervise()"
    found = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert "has ZCLI_WORKER=1:2:1000:1001:1002:0, but not the sockets that it names" in found.stderr
