"""Ports of other hosts, waiting for a server, and finding a free port."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from typing import Any

import pytest
from port_sockets import (
    bound,
    has_ipv6,
    listening,
    needs_ipv6,
    needs_linux,
    run_python,
    silent_listener,
)
from service_servers import free_ports
from slow_resolver import SLOW_HOST, slow_resolver

from zcli_core.net import port_probe
from zcli_core.net.ports import check_port, find_free_port, port_holder, port_state, wait_for_port

# --- elsewhere, or nowhere ---------------------------------------------------------------------------------


def test_a_host_that_cannot_be_resolved_gives_false_and_the_cause_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert check_port(80, "no-such-host.invalid", log=logging.getLogger("zcli.mine")) is False
    assert port_state(80, "no-such-host.invalid").status == "unknown"
    assert port_holder(80, "no-such-host.invalid") is None
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("zcli.mine", "WARNING")
    assert "port 80 of no-such-host.invalid: the name cannot be resolved" in record.getMessage()


def test_a_resolver_that_does_not_answer_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    with slow_resolver():
        assert wait_for_port(80, timeout=0.2, host=SLOW_HOST) is False
        assert check_port(80, SLOW_HOST) is False
    assert time.monotonic() - started < 30
    assert all("not resolved in time" in record.getMessage() for record in caplog.records)


def test_another_host_is_asked_by_connecting(sockets: contextlib.ExitStack) -> None:
    _, port = listening(sockets, "127.0.0.1")
    answers = [port_probe._endpoint("127.0.0.1", port)]
    refuses = [port_probe._endpoint("127.0.0.1", find_free_port())]
    assert port_probe._judge_remote(answers, 10).status == "in use"
    assert port_probe._judge_remote(refuses, 10).status == "available"


@needs_linux
def test_another_host_that_stays_silent_is_unknown_once_the_time_is_up(sockets: contextlib.ExitStack) -> None:
    port = silent_listener(sockets)
    verdict = port_probe._judge_remote([port_probe._endpoint("127.0.0.1", port)], 0.1)
    assert verdict.status == "unknown"
    assert "timed out" in verdict.detail


def test_an_address_of_nobody_here_is_never_judged_by_a_bind() -> None:
    assert port_probe._judge_local(port_probe._endpoint("192.0.2.1", 80)) is None  # RFC 5737


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit of open files to set")
def test_a_process_that_is_out_of_file_descriptors_says_so_instead_of_guessing() -> None:
    said = run_python(
        """
        import resource
        from zcli_core.net import port_holder, port_probe
        from zcli_core.net.ports import port_state
        port_state(80)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        print(port_state(80).status, port_state(80).detail)
        """
    )
    assert said.startswith("unknown port 80 of 127.0.0.1: too many open files")


# --- waiting -----------------------------------------------------------------------------------------------


def test_waiting_ends_when_the_server_comes_up(sockets: contextlib.ExitStack) -> None:
    server, port = bound(sockets, "127.0.0.1")
    timer = threading.Timer(0.2, server.listen)
    timer.start()
    started = time.monotonic()
    assert wait_for_port(port, timeout=60) is True
    assert time.monotonic() - started < 50
    timer.join()


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::"])
def test_waiting_finds_a_server_on_the_ipv6_loopback_alone(sockets: contextlib.ExitStack, host: str) -> None:
    _, port = listening(sockets, "::1")
    assert wait_for_port(port, timeout=30, host=host) is True


def test_waiting_for_nobody_gives_false_at_the_deadline_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_ports(1)[0]
    started = time.monotonic()
    assert wait_for_port(port, timeout=0.3) is False
    assert time.monotonic() - started >= 0.3
    assert caplog.messages == [
        f"wait_for_port: nothing served on port {port} of 127.0.0.1 within 0.3 s: connection refused"
    ]


def test_a_port_that_is_bound_and_does_not_listen_does_not_serve(sockets: contextlib.ExitStack) -> None:
    _, port = bound(sockets, "127.0.0.1")
    assert wait_for_port(port, timeout=0.2) is False


@needs_linux
def test_a_server_that_never_accepts_does_not_stretch_the_deadline(sockets: contextlib.ExitStack) -> None:
    port = silent_listener(sockets)
    started = time.monotonic()
    assert wait_for_port(port, timeout=0.5) is False
    assert time.monotonic() - started < 20


def test_waiting_leaves_a_connection_its_server_can_read_to_the_end(sockets: contextlib.ExitStack) -> None:
    server, port = listening(sockets, "127.0.0.1")
    assert wait_for_port(port, timeout=30) is True
    server.settimeout(30)
    accepted, _ = server.accept()
    with accepted:
        accepted.settimeout(30)
        assert accepted.recv(1) == b""  # closed in order, not reset


@needs_linux
def test_an_ephemeral_port_that_connects_to_itself_is_not_taken_for_a_server(
    monkeypatch: pytest.MonkeyPatch, sockets: contextlib.ExitStack
) -> None:
    port = find_free_port()
    real = socket.socket
    met: list[bool] = []

    class FromThatPort(real):  # type: ignore[valid-type, misc]
        """The kernel picks a source port; this makes it pick the one at which a connection meets itself."""

        def connect_ex(self, address: Any) -> int:
            if self.family == socket.AF_INET:
                self.bind(("127.0.0.1", port))
            code: int = super().connect_ex(address)
            if self.family == socket.AF_INET:
                met.append(self.getsockname() == self.getpeername())
            return code

    monkeypatch.setattr(socket, "socket", FromThatPort)
    assert wait_for_port(port, timeout=0.2) is False
    monkeypatch.undo()
    assert met
    assert all(met), "the connection did not meet itself, so nothing was tested"
    bound(sockets, "127.0.0.1", port)  # and nothing of it lingers


# --- finding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", pytest.param("::1", marks=needs_ipv6)])
def test_a_free_port_can_be_bound_at_once_at_every_address_of_its_pair(
    sockets: contextlib.ExitStack, host: str
) -> None:
    port = find_free_port(host)
    bound(sockets, "127.0.0.1", port)
    if has_ipv6():
        bound(sockets, "::1", port)


@needs_ipv6
def test_a_port_that_is_taken_at_the_other_address_of_the_pair_is_not_offered(
    sockets: contextlib.ExitStack,
) -> None:
    taken = {bound(sockets, "::1")[1] for _ in range(200)}
    assert taken.isdisjoint(find_free_port() for _ in range(200))

    def free(address: str, port: int) -> bool:
        return port_probe._judge_local(port_probe._endpoint(address, port)) == port_probe._FREE

    # Somebody else on a busy machine may hold one of them at 127.0.0.1, but not all of them.
    assert not any(free("::1", port) for port in sorted(taken)[:20])
    assert any(free("127.0.0.1", port) for port in taken)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_free_port_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=host):
        find_free_port(host)
