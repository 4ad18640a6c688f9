"""Faults of starting and stopping that depend on what happens at the same time, or on the time that is left."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from service_servers import free_ports

from zcli_core.app import zCLI
from zcli_core.services.launchers import instances, server_process
from zcli_core.services.launchers import local as local_launcher
from zcli_core.services.launchers.context import LaunchContext
from zcli_core.services.launchers.local import Local
from zcli_core.services.launchers.server_folder import lock_data
from zcli_core.system.users import own_name
from zcli_core.testing.tcp_peers import TcpPeer

Make = Callable[..., zCLI]


class SlowRedis(TcpPeer):
    """Never replies to the first connection. Replies to the others after the time of a short probe."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0

    def talk(self, connection: socket.socket) -> None:
        """Reply to each command after the time of a short probe."""
        self.connections += 1
        connection.settimeout(60 if self.connections == 1 else 0.3)
        data = connection.recv(4096)
        if self.connections == 1:
            connection.recv(4096)  # until the probe gives up
            return
        while data:
            try:
                if not connection.recv(4096):
                    return
            except TimeoutError:
                pass
            connection.sendall(b"+PONG\r\n")
            connection.settimeout(60)
            data = connection.recv(4096)
            if data:
                connection.sendall(b"-ERR unknown command\r\n")


def _launch_context(z: zCLI, port: int, timeout: float) -> LaunchContext:
    return z.comm.services._context_of("redis", port, None, timeout)


def _local(context: LaunchContext) -> Local:
    method = context.backend.launchers[-1]
    launcher = local_launcher.Local(context, method)  # type: ignore[arg-type]
    assert launcher.runs()
    return launcher


def test_start_slow_server_after_silence_is_ready(make: Make) -> None:
    """The short probes of the wait get no reply; the full probe after them does."""
    with SlowRedis() as server:
        z = make(redis={"port": server.port}, probe_timeout=3.0)
        assert z.comm.start_service("redis", timeout=0.1), z.comm.services.last_failure
        assert server.connections > 2


def test_stop_without_time_left_saves_the_data(local: tuple[zCLI, int], place: Path) -> None:
    """Even if finding the server took all the time, it is not killed at once."""
    z, port = local
    context = _launch_context(z, port, 60)
    context._deadline -= 100
    _local(context).stop()
    assert "bye bye" in (place / "services" / "redis" / "server.log").read_text()


def test_stop_keeps_the_record_of_a_later_server(
    local: tuple[zCLI, int], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may start a server as soon as the old one has ended."""
    z, port = local
    launcher = _local(_launch_context(z, port, 60))
    end = server_process.end

    def end_and_start_elsewhere(*arguments: object) -> None:
        end(*arguments)  # type: ignore[arg-type]
        assert z.comm.start_service("redis", port=port), z.comm.services.last_failure

    monkeypatch.setattr(server_process, "end", end_and_start_elsewhere)
    launcher.stop()
    assert instances.find_running(place / "services", "redis", None) is not None


def test_start_interrupted_frees_the_data_folder(make: Make, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl+C the program continues and may start the server later."""
    z = make(redis={"port": free_ports(1)[0], "launcher": "local"})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local_launcher, "process_in", interrupt)
        with pytest.raises(KeyboardInterrupt):
            z.comm.start_service("redis")
    lock = lock_data(os.open(place / "services" / "redis" / "data", os.O_RDONLY))
    assert lock is not None
    os.close(lock)


def test_stop_at_another_port_keeps_what_was_started(make: Make, place: Path) -> None:
    """The server that was started with arguments is still the default for later calls."""
    first, second = free_ports(2)
    z = make(redis={"launcher": "local"})
    assert z.comm.start_service("redis", port=first, data_dir=place / "own"), z.comm.services.last_failure
    assert z.comm.stop_service("redis", port=second)
    assert z.comm.service_status("redis")["port"] == first
    assert z.comm.stop_service("redis")
    assert instances.find_running(place / "services", "redis", place / "own") is None


def test_user_name_is_the_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """After setpriv, LOGNAME has the user from before."""
    monkeypatch.setenv("LOGNAME", "another-user")
    monkeypatch.setenv("USER", "another-user")
    assert own_name() != "another-user"
