"""What is not the service: other protocols on its port, silence, rubbish, a frozen or killed server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from service_servers import Cluster, Lookalike, free_ports, redis

from zcli_core.app import zCLI

Make = Callable[..., zCLI]
NAMES = ("postgresql", "redis", "mongodb")

MYSQL = b"\x4a\0\0\0\x0a8.0.36\0" + bytes(range(1, 60)) + b"mysql_native_password\0"
STRANGERS = {
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", True, "an SSH server"),
    "MySQL": (MYSQL, True, "MySQL or MariaDB"),
    "NATS": (b'INFO {"server_id":"x","version":"2.10"}\r\n', True, "NATS"),
    "SMTP": (b"220 mail.example.com ESMTP\r\n", True, "a mail or FTP server"),
    "rubbish": (bytes(range(200, 256)) * 3, False, "something answers there with"),
    "the letter S": (b"S" * 40, False, "something answers there with"),
    "the letter N": (b"N" * 40, False, "something answers there with"),
    "endless": (b"\0" * 400_000, False, "something answers there with"),
}


def asked(make: Make, service: str, port: int, name: str) -> Any:
    """The status of a service at whose port something else answers, after a short time if that is enough.

    Some strangers take all the time that there is, and a loaded machine may need more of it.
    """
    for seconds in (0.5, 10):
        status = make(**{service: {"port": port}}, timeout=seconds).comm.service_status(service)
        if name in status.get("error", ""):
            break
    return status


@pytest.mark.parametrize("service", NAMES)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_another_protocol_is_told_and_named(make: Make, service: str, stranger: str) -> None:
    greeting, first, name = STRANGERS[stranger]
    with Lookalike(greeting, first=first) as server:
        status = asked(make, service, server.port, name)
    assert (status["running"], status["ready"], status["state"]) == (False, False, "foreign"), status
    assert name in status["error"]
    assert str(server.port) in status["error"]
    assert "connection_info" not in status


@pytest.mark.parametrize("service", NAMES)
def test_a_web_server_is_told_and_named(make: Make, service: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        status = asked(make, service, server.server_port, "an HTTP server answers there")
        server.shutdown()
    assert (status["running"], status["state"]) == (False, "foreign")
    assert "an HTTP server answers there" in status["error"]


@pytest.mark.parametrize("service", NAMES)
def test_one_that_accepts_and_says_nothing_is_silent_and_in_bounded_time(make: Make, service: str) -> None:
    with Lookalike(b"", first=True) as server:
        z = make(**{service: {"port": server.port}}, timeout=0.4)
        began = time.monotonic()
        status = z.comm.service_status(service)
        took = time.monotonic() - began
    assert (status["running"], status["state"]) == (False, "silent")
    assert "says nothing" in status["error"]
    assert took < 20  # a probe and a second look, each of 0.4 s


@pytest.mark.parametrize("service", NAMES)
def test_one_that_answers_byte_by_byte_cannot_hold_us(make: Make, service: str) -> None:
    """A whole answer is due within the time there is, not each byte of it."""

    class Dribbling(Lookalike):
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
        status = make(**{service: {"port": server.port}}, timeout=0.4).comm.service_status(service)
        took = time.monotonic() - began
    assert not status["running"]
    assert took < 20


@pytest.mark.parametrize("service", NAMES)
def test_status_closing_server_is_silent(make: Make, service: str) -> None:
    """A server that is out of connections closes them, as MongoDB does: it is not foreign."""

    class Closing(Lookalike):
        def _talk(self, connection: socket.socket) -> None:
            connection.shutdown(socket.SHUT_RDWR)

    with Closing(b"", first=True) as server:
        status = make(**{service: {"port": server.port}}, timeout=0.5).comm.service_status(service)
    assert (status["running"], status["state"]) == (False, "silent"), status
    assert "closes connections" in status["error"]


def test_a_real_redis_on_postgresqls_port_is_named(make: Make, redis_server: Path, place: Path) -> None:
    with redis(redis_server, place) as port:
        assert "Redis answers there" in asked(make, "postgresql", port, "Redis answers there")["error"]
        assert not asked(make, "mongodb", port, "")["running"]


def test_a_real_postgresql_on_the_others_ports_is_not_one_of_them(make: Make, cluster: Cluster) -> None:
    with cluster.running() as port:
        found = make(redis={"port": port}, mongodb={"port": port}, timeout=10).comm.service_status()
    for name in ("redis", "mongodb"):
        assert (found[name]["running"], found[name]["state"]) == (False, "foreign"), found[name]


def test_nothing_there_is_stopped(make: Make) -> None:
    ports = dict(zip(NAMES, free_ports(3), strict=True))
    found = make(**{name: {"port": port} for name, port in ports.items()}).comm.service_status()
    assert {name: (s["running"], s["state"], s["port"]) for name, s in found.items()} == {
        name: (False, "stopped", port) for name, port in ports.items()
    }
    assert all("nothing listens there" in status["error"] for status in found.values())


def test_a_frozen_server_is_not_running_and_a_thawed_one_is(make: Make, redis_server: Path, place: Path) -> None:
    z = make(redis={"port": free_ports(1)[0]}, timeout=0.5)
    assert z.comm.start_service("redis", launcher="local"), z.comm.services.last_failure
    from zcli_core.services.launchers import instance

    held = instance.running(place / "services", "redis", None)
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


def test_all_services_are_asked_at_once(make: Make) -> None:
    """Each server greets once all three have a connection."""
    together = threading.Barrier(3)

    class Waiting(Lookalike):
        def _talk(self, connection):  # type: ignore[no-untyped-def]
            if self.connections == 1:
                with contextlib.suppress(threading.BrokenBarrierError):
                    together.wait(20)
            super()._talk(connection)

    greeting = STRANGERS["SSH"][0]
    with Waiting(greeting, first=True) as a, Waiting(greeting, first=True) as b, Waiting(greeting, first=True) as c:
        ports = dict(zip(NAMES, (a.port, b.port, c.port), strict=True))
        found = make(**{name: {"port": port} for name, port in ports.items()}, timeout=10).comm.service_status()
    assert [status["state"] for status in found.values()] == ["foreign"] * 3
