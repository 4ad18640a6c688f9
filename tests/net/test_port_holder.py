"""The process that has a port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from port_sockets import (
    closed_server,
    listening,
    needs_ipv6,
    needs_linux,
)
from slow_resolver import SLOW_HOST, slow_resolver

from zcli_core.net import port_holder as holder_module
from zcli_core.net.ports import find_free_port, port_holder


@needs_linux
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", pytest.param("::", marks=needs_ipv6)])
def test_port_holder_is_the_listening_process(sockets: contextlib.ExitStack, address: str) -> None:
    """It has the pid and the name."""
    _, port = listening(sockets, address)
    holder = port_holder(port)
    assert holder is not None
    assert holder.pid == os.getpid()
    assert holder.name == Path("/proc/self/comm").read_text().strip()
    assert str(holder) == f"{holder.name} (pid {os.getpid()})"


@needs_linux
def test_port_holder_has_no_command_line() -> None:
    """It may hold a password."""
    serve = "import socket,sys; s=socket.create_server(('127.0.0.1',0)); print(s.getsockname()[1],flush=True)"
    command = [sys.executable, "-c", f"{serve}; sys.stdin.read()", "--password=hunter2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        holder = port_holder(port, "localhost")
        assert server.stdin is not None
        server.stdin.close()
    assert holder is not None
    assert holder.pid == server.pid
    assert "hunter2" not in f"{holder} {holder!r}"


@needs_linux
def test_port_holder_prefers_the_listener(sockets: contextlib.ExitStack) -> None:
    """Connections use the same local port."""
    server, port = listening(sockets, "127.0.0.1")
    sockets.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
    sockets.enter_context(server.accept()[0])
    entries = holder_module.tcp_sockets(port, ["127.0.0.1"])
    assert entries is not None
    assert sorted(entry.listening for entry in entries) == [False, True]
    holder = port_holder(port)
    assert holder is not None
    assert holder.pid == os.getpid()


def test_port_holder_that_has_ended_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of a server has its sockets until it closes them, and may have ended when its name is read."""
    connections = holder_module._connections
    looked: list[str] = []
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()

    def outdated(kind: str) -> Iterator[tuple[int, Any]]:
        looked.append(kind)
        for pid, each in connections(kind):
            yield (child.pid if len(looked) == 1 else pid), each

    monkeypatch.setattr(holder_module, "_connections", outdated)
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = port_holder(server.getsockname()[1])
    assert found is not None
    assert (found.pid, len(looked)) == (os.getpid(), 2)


def test_port_holder_of_a_free_port_is_none() -> None:
    """There is no process."""
    assert port_holder(find_free_port()) is None
    assert port_holder(80, "192.0.2.1") is None


@needs_linux
def test_port_holder_of_closed_connections_is_none() -> None:
    """No process has sockets in TIME_WAIT."""
    assert port_holder(closed_server(reuse=True)) is None


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.parametrize("function", [lambda: port_holder(80, SLOW_HOST), lambda: find_free_port(SLOW_HOST)])
def test_resolving_signal_exception_passes_through(function: Callable[[], object]) -> None:
    """A TimeoutError of a signal handler is not a host that cannot be resolved."""

    def ring(*_: object) -> None:
        raise TimeoutError("by a signal")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with slow_resolver():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(TimeoutError, match="by a signal"):
                function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
