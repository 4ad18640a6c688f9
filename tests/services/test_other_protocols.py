"""Other protocols, silence and garbage at the port of a service, and a server that is frozen."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from service_servers import CannedServer, Cluster, free_ports, redis

from zcli_core.app import zCLI
from zcli_core.services.launchers import instances

Make = Callable[..., zCLI]
NAMES = ("postgresql", "redis", "mongodb", "nats")

MYSQL = b"\x4a\0\0\0\x0a8.0.36\0" + bytes(range(1, 60)) + b"mysql_native_password\0"
#: What another protocol sends, and whether it sends that before it receives anything.
OTHERS = {
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", True),
    "MySQL": (MYSQL, True),
    "NATS": (b'INFO {"server_id":"x","version":"2.10"}\r\n', True),
    "SMTP": (b"220 mail.example.com ESMTP\r\n", True),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
    "garbage": (bytes(range(200, 256)) * 3, False),
    "the letter S": (b"S" * 40, False),
    "the letter N": (b"N" * 40, False),
    "endless": (b"\0" * 400_000, False),
}
HOLDER = f"(pid {os.getpid()}) holds the port"


@pytest.mark.parametrize("service", NAMES)
@pytest.mark.parametrize("other", OTHERS)
def test_status_other_protocol_is_foreign(make: Make, service: str, other: str) -> None:
    """The error has the port and, on Linux, the process that holds it."""
    if (service, other) == ("nats", "NATS"):
        pytest.skip("it is the same protocol")
    sent, first = OTHERS[other]
    with CannedServer(sent, first=first) as server:
        for seconds in (0.5, 10):  # a loaded machine may need more time
            status = make(**{service: {"port": server.port}}, probe_timeout=seconds).comm.service_status(service)
            if status["state"] == "foreign":
                break
    assert (status["running"], status["ready"], status["state"]) == (False, False, "foreign"), status
    assert "another protocol answers there" in status["error"]
    assert HOLDER in status["error"] or sys.platform != "linux"
    assert str(server.port) in status["error"]
    assert "connection_info" not in status


@pytest.mark.parametrize("service", NAMES)
def test_status_silent_server_ends_in_time(make: Make, service: str) -> None:
    """The server accepts connections and sends nothing."""
    with CannedServer(b"", first=True) as server:
        z = make(**{service: {"port": server.port}}, probe_timeout=0.4)
        began = time.monotonic()
        status = z.comm.service_status(service)
        took = time.monotonic() - began
    assert (status["running"], status["state"]) == (False, "silent")
    assert "sends nothing" in status["error"]
    assert HOLDER in status["error"] or sys.platform != "linux"
    assert took < 20


@pytest.mark.parametrize("service", NAMES)
def test_status_single_bytes_end_in_time(make: Make, service: str) -> None:
    """The timeout holds for the whole reply, not for each byte."""

    class Dribbling(CannedServer):
        def _talk(self, connection):  # type: ignore[no-untyped-def]
            stop = time.monotonic() + 40
            try:
                while time.monotonic() < stop:
                    connection.sendall(b"*")
                    time.sleep(0.05)
            except OSError:
                pass

    with Dribbling(b"", first=True) as server:
        began = time.monotonic()
        status = make(**{service: {"port": server.port}}, probe_timeout=0.4).comm.service_status(service)
        took = time.monotonic() - began
    assert not status["running"]
    assert took < 20


@pytest.mark.parametrize("service", NAMES)
def test_status_closing_server_is_silent(make: Make, service: str) -> None:
    """A server that is out of connections closes them, as MongoDB does: it is not foreign."""

    class Closing(CannedServer):
        def _talk(self, connection: socket.socket) -> None:
            connection.shutdown(socket.SHUT_RDWR)

    with Closing(b"", first=True) as server:
        status = make(**{service: {"port": server.port}}, probe_timeout=0.5).comm.service_status(service)
    assert (status["running"], status["state"]) == (False, "silent"), status
    assert "closes connections" in status["error"]


def test_status_real_redis_is_not_another_service(make: Make, redis_server: Path, place: Path) -> None:
    """It does not answer the probes of other services, so its process identifies it."""
    with redis(redis_server, place) as port:
        found = make(postgresql={"port": port}, mongodb={"port": port}, probe_timeout=0.5).comm.service_status()
    for name in ("postgresql", "mongodb"):
        assert not found[name]["running"]
        assert "redis-server (pid " in found[name]["error"] or sys.platform != "linux"


def test_status_real_postgresql_is_not_another_service(make: Make, cluster: Cluster) -> None:
    """It closes the connections of other probes."""
    with cluster.running() as port:
        found = make(redis={"port": port}, mongodb={"port": port}, probe_timeout=10).comm.service_status()
    for name in ("redis", "mongodb"):
        assert not found[name]["running"]
        assert "closes connections" in found[name]["error"]
        assert "postgres (pid " in found[name]["error"] or sys.platform != "linux"


def test_status_free_port_is_stopped(make: Make) -> None:
    """Nothing listens there."""
    ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
    found = make(**{name: {"port": port} for name, port in ports.items()}).comm.service_status()
    assert {name: (s["running"], s["state"], s["port"]) for name, s in found.items()} == {
        name: (False, "stopped", port) for name, port in ports.items()
    }
    assert all("nothing listens there" in status["error"] for status in found.values())


def test_status_frozen_server_is_silent(make: Make, redis_server: Path, place: Path) -> None:
    """It is ready again when it continues, or after the command in the failure of a start."""
    z = make(redis={"port": free_ports(1)[0]}, probe_timeout=0.5)
    assert z.comm.start_service("redis", launcher="local"), z.comm.services.last_failure
    held = instances.find_running(place / "services", "redis", None)
    assert held is not None
    os.kill(held.process.pid, signal.SIGSTOP)
    status = z.comm.service_status("redis")
    assert (status["running"], status["ready"], status["state"]) == (False, False, "silent")
    assert not z.comm.start_service("redis", timeout=2)
    failure = z.comm.services.last_failure
    assert failure is not None
    assert "hangs" in failure.message
    assert failure.command is not None
    assert failure.command.endswith(f"services restart redis --port {held.port}")
    os.kill(held.process.pid, signal.SIGCONT)
    assert z.comm.service_status("redis")["ready"]
    os.kill(held.process.pid, signal.SIGSTOP)
    done = subprocess.run(failure.command, shell=True, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert z.comm.service_status("redis")["ready"]
    assert z.comm.stop_service("redis")


def test_status_of_all_probes_concurrently(make: Make) -> None:
    """Each server sends something only after all of them have a connection."""
    together = threading.Barrier(len(NAMES))

    class Waiting(CannedServer):
        def _talk(self, connection):  # type: ignore[no-untyped-def]
            if self.connections == 1:
                with contextlib.suppress(threading.BrokenBarrierError):
                    together.wait(20)
            super()._talk(connection)

    greeting = OTHERS["SSH"][0]
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(Waiting(greeting, first=True)).port for name in NAMES}
        found = make(**{name: {"port": port} for name, port in ports.items()}, probe_timeout=10).comm.service_status()
    assert [status["state"] for status in found.values()] == ["foreign"] * len(NAMES)
