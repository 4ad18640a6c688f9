"""A child process after a fork: the server is its parent's."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from zcli_core.app import zCLI
from zcli_core.websocket.handler_threads import HandlerThreads, _Worker

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


def _in_a_child(work: Callable[[], list[bool]]) -> str:
    """What is true in a child process, as ``"1101"``."""
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
    """Whatever ends the child finds nothing to stop, and the parent's server goes on."""
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


def test_forked_child_may_serve_itself(make_z: Callable[..., zCLI]) -> None:
    """On another port, with threads of its own."""
    z = make_z()
    with z.comm.websocket.start_background(port=0, handler=lambda websocket, message: None) as server:

        def work() -> list[bool]:
            with z.comm.websocket.start_background(port=0) as own:
                return [own.port != server.port, z.comm.websocket.is_running]

        assert _in_a_child(work) == "11"


def test_forked_handler_thread_ends_with_its_job() -> None:
    """It does not wait for another job, which nothing in the child would give it."""
    threads = HandlerThreads("t")
    worker = _Worker(threads)

    def work() -> list[bool]:
        return [not threads.offer(worker), threads._idle == [], threads.offer(_Worker(threads))]

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
            assert _in_a_child(work) == "111"
        finally:
            free.set()
    assert threads.offer(worker)
