"""A child process after a fork, which does not have the server and the threads of its parent."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from zcli_core.app import zCLI
from zcli_core.websocket import handler_threads
from zcli_core.websocket.handler_threads import HandlerThreads

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


def _in_a_child(work: Callable[[], list[bool]]) -> str:
    """Run a function in a child process; return its truth values as ``"1101"``."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, "".join("01"[bool(each)] for each in work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


@pytest.mark.parametrize("how", ["stop", "handle", "with", "close"])
def test_forked_child_ends_without_its_parents_server(make_z: Callable[..., zCLI], how: str) -> None:
    """Stopping in the child succeeds at once, and the parent's server continues."""
    z = make_z()
    server = z.comm.websocket.start_background(port=0)

    def work() -> list[bool]:
        found = [not z.comm.websocket.is_running, z.comm.websocket.url is None, z.comm.websocket.client_count == 0]
        if how == "stop":
            return [*found, z.comm.websocket.stop()]
        if how == "handle":
            return [*found, server.stop()]
        if how == "with":
            with server:
                pass
            return [*found, server.wait(0)]
        z.comm.close()
        return [*found, True]

    assert _in_a_child(work) == "1111"
    assert z.comm.websocket.is_running
    assert server.port is not None
    socket.create_connection(("127.0.0.1", server.port), timeout=30).close()
    assert server.stop()


def test_forked_child_can_start_a_server(make_z: Callable[..., zCLI]) -> None:
    """The child can start a server on another port, with threads of its own."""
    z = make_z()
    with z.comm.websocket.start_background(port=0, handler=lambda websocket, message: None) as server:

        def work() -> list[bool]:
            with z.comm.websocket.start_background(port=0) as own:
                return [own.port != server.port, z.comm.websocket.is_running]

        assert _in_a_child(work) == "11"


def test_fork_in_handler_thread_ends_it_after_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the child process, the thread that has forked does not wait for another job."""
    monkeypatch.setattr(handler_threads, "_IDLE_TIMEOUT", 60.0)
    threads = HandlerThreads("t")
    jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    idle = threads._idle

    def work() -> list[bool]:
        signal.alarm(15)
        jobs.put(lambda: None)
        threads._work(jobs, idle)
        return [threads._idle is not idle, not threads._idle]

    with ThreadPoolExecutor(1) as other:
        held = threading.Event()
        free = threading.Event()

        def hold() -> None:
            with threads._lock:
                held.set()
                free.wait(60)

        other.submit(hold)
        held.wait(60)
        try:
            assert _in_a_child(work) == "11"
        finally:
            free.set()


def test_handler_threads_idle_thread_is_reused_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call uses the thread of the first; without further calls it ends."""
    monkeypatch.setattr(handler_threads, "_IDLE_TIMEOUT", 0.2)
    threads = HandlerThreads("t")

    async def call_twice() -> list[threading.Thread]:
        first = await threads.run(threading.current_thread)
        while not threads._idle:
            await asyncio.sleep(0)
        return [first, await threads.run(threading.current_thread)]

    first, second = asyncio.run(call_twice())
    first.join(30)
    assert (first is second, first.is_alive(), threads._idle) == (True, False, [])


def test_handler_threads_last_idle_thread_is_used_first() -> None:
    """After a burst, calls one after the other keep one thread busy, so that the others become idle and end."""
    threads = HandlerThreads("t")
    together = threading.Barrier(4)

    def work(wait: bool) -> threading.Thread:
        if wait:
            together.wait(60)
        return threading.current_thread()

    async def idle(count: int) -> None:
        while len(threads._idle) < count:
            await asyncio.sleep(0)

    async def call() -> tuple[set[threading.Thread], set[threading.Thread]]:
        burst = set(await asyncio.gather(*(threads.run(work, True) for _ in range(4))))
        used = set()
        for _ in range(8):
            await idle(4)
            used.add(await threads.run(work, False))
        return burst, used

    burst, used = asyncio.run(call())
    assert len(burst) == 4
    assert len(used) == 1
