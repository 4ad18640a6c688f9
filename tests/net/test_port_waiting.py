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

# --- other hosts -------------------------------------------------------------------------------------------


def test_check_port_unresolvable_host_is_false(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The cause is logged."""
    assert check_port(80, "no-such-host.invalid", log=logging.getLogger("zcli.mine")) is False
    assert port_state(80, "no-such-host.invalid").status == "unknown"
    assert port_holder(80, "no-such-host.invalid") is None
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("zcli.mine", "WARNING")
    assert "port 80 of no-such-host.invalid: the name cannot be resolved" in record.getMessage()


def test_check_port_slow_resolver_times_out(caplog: pytest.LogCaptureFixture) -> None:
    """The functions do not wait for the resolver."""
    started = time.monotonic()
    with slow_resolver():
        assert wait_for_port(80, timeout=0.2, host=SLOW_HOST) is False
        assert check_port(80, SLOW_HOST) is False
    assert time.monotonic() - started < 30
    assert all("not resolved in time" in record.getMessage() for record in caplog.records)


def test_remote_port_is_probed_by_connecting(sockets: contextlib.ExitStack) -> None:
    """A connection is in use, a refusal is available."""
    _, port = listening(sockets, "127.0.0.1")
    answers = [port_probe._endpoint("127.0.0.1", port)]
    refuses = [port_probe._endpoint("127.0.0.1", find_free_port())]
    assert port_probe._judge_remote(answers, 10).status == "in use"
    assert port_probe._judge_remote(refuses, 10).status == "available"


@needs_linux
def test_silent_remote_port_is_unknown(sockets: contextlib.ExitStack) -> None:
    """The probe ends at its deadline."""
    port = silent_listener(sockets)
    verdict = port_probe._judge_remote([port_probe._endpoint("127.0.0.1", port)], 0.1)
    assert verdict.status == "unknown"
    assert "timed out" in verdict.detail


def test_foreign_address_is_not_judged_by_binding() -> None:
    """It is not an address of this machine."""
    assert port_probe._judge_local(port_probe._endpoint("192.0.2.1", 80)) is None  # RFC 5737


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit of open files to set")
def test_no_file_descriptors_is_unknown() -> None:
    """The detail has the cause."""
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


def test_wait_for_port_ends_when_a_server_starts(sockets: contextlib.ExitStack) -> None:
    """It returns True."""
    server, port = bound(sockets, "127.0.0.1")
    timer = threading.Timer(0.2, server.listen)
    timer.start()
    started = time.monotonic()
    assert wait_for_port(port, timeout=60) is True
    assert time.monotonic() - started < 50
    timer.join()


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::"])
def test_wait_for_port_finds_ipv6_loopback(sockets: contextlib.ExitStack, host: str) -> None:
    """``localhost`` stands for both loopback addresses."""
    _, port = listening(sockets, "::1")
    assert wait_for_port(port, timeout=30, host=host) is True


def test_wait_for_port_without_server_is_false(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The cause is logged."""
    port = free_ports(1)[0]
    started = time.monotonic()
    assert wait_for_port(port, timeout=0.3) is False
    assert time.monotonic() - started >= 0.3
    assert caplog.messages == [
        f"wait_for_port: nothing served on port {port} of 127.0.0.1 within 0.3 s: connection refused"
    ]


def test_wait_for_port_bound_port_does_not_serve(sockets: contextlib.ExitStack) -> None:
    """It does not listen."""
    _, port = bound(sockets, "127.0.0.1")
    assert wait_for_port(port, timeout=0.2) is False


@needs_linux
def test_wait_for_port_full_backlog_ends_in_time(sockets: contextlib.ExitStack) -> None:
    """The server never accepts."""
    port = silent_listener(sockets)
    started = time.monotonic()
    assert wait_for_port(port, timeout=0.5) is False
    assert time.monotonic() - started < 20


def test_wait_for_port_closes_its_connection(sockets: contextlib.ExitStack) -> None:
    """The server reads the end of the connection."""
    server, port = listening(sockets, "127.0.0.1")
    assert wait_for_port(port, timeout=30) is True
    server.settimeout(30)
    accepted, _ = server.accept()
    with accepted:
        accepted.settimeout(30)
        assert accepted.recv(1) == b""  # closed regularly, not reset


@needs_linux
def test_wait_for_port_ignores_self_connection(monkeypatch: pytest.MonkeyPatch, sockets: contextlib.ExitStack) -> None:
    """A free ephemeral port can be connected to itself."""
    port = find_free_port()
    real = socket.socket
    met: list[bool] = []

    class FromThatPort(real):  # type: ignore[valid-type, misc]
        """Makes the system choose the source port with which a connection is connected to itself."""

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
    bound(sockets, "127.0.0.1", port)  # there is no TIME_WAIT


# --- finding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", pytest.param("::1", marks=needs_ipv6)])
def test_find_free_port_is_free_at_both_addresses(sockets: contextlib.ExitStack, host: str) -> None:
    """It can be bound at once."""
    port = find_free_port(host)
    bound(sockets, "127.0.0.1", port)
    if has_ipv6():
        bound(sockets, "::1", port)


@needs_ipv6
def test_find_free_port_skips_half_used_ports(
    sockets: contextlib.ExitStack,
) -> None:
    """They are in use at the other address of the pair."""
    taken = {bound(sockets, "::1")[1] for _ in range(200)}
    assert taken.isdisjoint(find_free_port() for _ in range(200))

    def free(address: str, port: int) -> bool:
        return port_probe._judge_local(port_probe._endpoint(address, port)) == port_probe._FREE

    # Other programs may have some of them at 127.0.0.1, but not all.
    assert not any(free("::1", port) for port in sorted(taken)[:20])
    assert any(free("127.0.0.1", port) for port in taken)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_find_free_port_of_another_machine_raises(host: str) -> None:
    """The message has the host."""
    with pytest.raises(ValueError, match=host):
        find_free_port(host)
