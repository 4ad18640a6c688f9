"""Whether a port is available, with real sockets in every state."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from port_sockets import (
    LINUX,
    PRIVILEGED_BELOW,
    bound,
    closed_server,
    listening,
    needs_ipv6,
    needs_linux,
    run_python,
)

from zcli_core.net import port_holder as holder_module
from zcli_core.net import port_probe
from zcli_core.net.ports import check_port, find_free_port, port_holder, port_state, wait_for_port

# --- arguments ---------------------------------------------------------------------------------------------

ASK = [check_port, port_state, port_holder, wait_for_port]


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize(
    ("port", "said"),
    [
        (0, "got 0; find_free_port() returns a free port"),
        (-1, "got -1"),
        (70000, "got 70000"),
        pytest.param(10**6000, "thousands of digits", id="huge"),
        ("80", "got '80' (str): write 80 without quotes"),
        ("http", "got 'http' (str)"),
        (True, "got True (bool)"),
        (80.0, "got 80.0 (float)"),
        (None, "got None (NoneType)"),
    ],
)
def test_invalid_port_raises(ask: Any, port: Any, said: str) -> None:
    """The message has the value and what to do."""
    with pytest.raises(ValueError) as caught:
        ask(port)
    assert "port must be an integer between 1 and 65535" in str(caught.value)
    assert said in str(caught.value)


@given(st.integers().filter(lambda n: not 1 <= n <= 65535) | st.text() | st.floats() | st.none() | st.binary())
def test_any_other_value_is_not_a_port(port: Any) -> None:
    """Only an integer from 1 to 65535 is a port."""
    with pytest.raises(ValueError, match="between 1 and 65535"):
        check_port(port)


@pytest.mark.parametrize(
    "timeout", [0, -1, "2", True, None, float("nan"), float("inf"), pytest.param(-(10**400), id="huge")]
)
def test_wait_for_port_invalid_timeout_raises(timeout: Any) -> None:
    """A timeout is a finite number above 0."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
        wait_for_port(80, timeout=timeout)


def test_wait_for_port_huge_timeout_is_accepted(sockets: contextlib.ExitStack) -> None:
    """A number beyond the range of float stands for the longest timeout."""
    _, port = listening(sockets, "127.0.0.1")
    assert wait_for_port(port, timeout=10**400)


@pytest.mark.parametrize("ask", [*ASK, lambda port, host: find_free_port(host)])
@pytest.mark.parametrize(
    "host",
    ["", None, 5, "a b", "a\0b", "[::1]", "localhost:80", "http://localhost", "x/y", "\ud800", "é" * 80],
)
def test_invalid_host_raises(ask: Any, host: Any) -> None:
    """A host is a name or an address."""
    with pytest.raises(ValueError, match="host must be a name or an address"):
        ask(80, host=host)


def test_url_as_host_is_not_repeated() -> None:
    """It may hold a password."""
    with pytest.raises(ValueError) as caught:
        check_port(5432, "postgres://me:hunter2@db")
    assert "hunter2" not in str(caught.value)


# --- taken -------------------------------------------------------------------------------------------------


def test_free_port_is_available() -> None:
    """The detail says so."""
    port = find_free_port()
    assert check_port(port) is True
    assert port_state(port).detail == f"port {port} of 127.0.0.1: no program uses it"


def test_listening_port_is_in_use(sockets: contextlib.ExitStack) -> None:
    """The detail has the address."""
    _, port = listening(sockets, "127.0.0.1")
    assert check_port(port) is False
    assert port_state(port).detail == f"port {port} of 127.0.0.1: in use at 127.0.0.1"


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,)], ids=["plain", "SO_REUSEADDR"])
def test_bound_port_is_in_use(sockets: contextlib.ExitStack, options: tuple[int, ...]) -> None:
    """It does not listen."""
    _, port = bound(sockets, "127.0.0.1", 0, *options)
    assert check_port(port) is False


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST.", "::1", "::ffff:127.0.0.1", "::"])
def test_ipv6_loopback_listener_counts_for_127_0_0_1(sockets: contextlib.ExitStack, host: str) -> None:
    """The loopback addresses are treated as one host."""
    _, port = listening(sockets, "::1")
    assert check_port(port, host) is False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_ipv4_wildcard_listener_counts(sockets: contextlib.ExitStack, host: str) -> None:
    """It covers the address."""
    _, port = listening(sockets, "0.0.0.0")
    assert check_port(port, host) is False


@needs_ipv6
@pytest.mark.parametrize("options", [(), (socket.IPV6_V6ONLY,)], ids=["both families", "IPv6 only"])
def test_ipv6_wildcard_listener_counts(sockets: contextlib.ExitStack, options: tuple[int, ...]) -> None:
    """It covers the address."""
    _, port = listening(sockets, "::", *options)
    assert check_port(port) is False
    assert check_port(port, "localhost") is False


@needs_linux
def test_listener_with_reuse_port_is_in_use(sockets: contextlib.ExitStack) -> None:
    """It has SO_REUSEPORT."""
    _, port = listening(sockets, "127.0.0.1", socket.SO_REUSEPORT, socket.SO_REUSEADDR)
    assert check_port(port) is False


@needs_linux
def test_other_loopback_address_does_not_count(sockets: contextlib.ExitStack) -> None:
    """127.0.0.2 is another address."""
    _, port = listening(sockets, "127.0.0.2")
    assert check_port(port) is True
    assert check_port(port, "127.0.0.2") is False
    assert check_port(port, "0.0.0.0") is False


def test_source_port_of_a_connection_is_in_use(sockets: contextlib.ExitStack) -> None:
    """A client has the port."""
    _, port = listening(sockets, "127.0.0.1")
    client = sockets.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
    assert check_port(client.getsockname()[1]) is False


@needs_linux
def test_check_port_makes_no_connection(sockets: contextlib.ExitStack) -> None:
    """The server sees nothing."""
    server, port = listening(sockets, "127.0.0.1")
    assert check_port(port) is False
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()


def test_check_port_leaves_the_port_free(
    sockets: contextlib.ExitStack,
) -> None:
    """A server without socket options can bind it."""
    port = find_free_port()
    assert check_port(port) is True
    bound(sockets, "127.0.0.1", port)


@needs_linux
def test_free_port_is_free_at_all_addresses(sockets: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system offers a port that is free at the first address only."""
    _, taken = bound(sockets, "127.0.0.2")
    free = find_free_port()
    offers = iter([0, taken, free])  # the first bind only shows that the address is one of this machine

    class Offered(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(("127.0.0.1", next(offers)) if address == ("127.0.0.1", 0) else address)

    endpoints = [port_probe._endpoint(host, 0) for host in ("127.0.0.1", "127.0.0.2")]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Offered)
        assert port_probe.free_port(endpoints) == free


def test_check_port_in_threads_is_available() -> None:
    """Threads that bind the same free port do not find each other."""
    port = find_free_port()
    answers: list[bool] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(30)
        answers.extend(check_port(port) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_check_port_works_after_a_fork_during_it() -> None:
    """The child has its own lock."""
    run_python(
        """
        import os, signal
        from zcli_core.net import port_probe
        from zcli_core.net.ports import check_port, find_free_port
        port = find_free_port()
        with port_probe._probing:
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(0 if check_port(port) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        """
    )


# --- closed connections --------------------------------------------------------------------------------------------


@needs_linux
@pytest.mark.parametrize("reuse", [True, False], ids=["SO_REUSEADDR", "plain"])
def test_time_wait_does_not_use_the_port(reuse: bool) -> None:
    """No program has the port."""
    port = closed_server(reuse)
    assert port_probe._bind(port_probe._endpoint("127.0.0.1", port), None) == errno.EADDRINUSE, "no TIME_WAIT"
    state = port_state(port)
    assert state.available
    assert "still closing" in state.detail


@needs_linux
def test_old_connections_leave_the_port_available(
    sockets: contextlib.ExitStack,
) -> None:
    """Another server can bind the port."""
    port = closed_server(reuse=True, keep_connection=sockets)
    assert check_port(port) is True
    bound(sockets, "127.0.0.1", port, socket.SO_REUSEADDR)


@needs_linux
def test_exclusive_connections_use_the_port(sockets: contextlib.ExitStack) -> None:
    """Another server cannot bind the port."""
    port = closed_server(reuse=False, keep_connection=sockets)
    assert check_port(port) is False
    with pytest.raises(OSError):
        bound(sockets, "127.0.0.1", port, socket.SO_REUSEADDR)


# --- without the tables that only Linux has ----------------------------------------------------------------


@pytest.fixture
def no_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system without /proc."""
    monkeypatch.setattr(holder_module, "_PROC", tmp_path)


@pytest.mark.usefixtures("no_tables")
def test_check_port_works_without_socket_tables(
    sockets: contextlib.ExitStack,
) -> None:
    """Listeners and closed connections are still distinguished."""
    _, serving = listening(sockets, "127.0.0.1")
    _, silent = bound(sockets, "127.0.0.1")
    assert check_port(serving) is False
    assert check_port(silent) is False
    assert check_port(find_free_port()) is True
    assert check_port(closed_server(reuse=True)) is True
    assert (holder := port_holder(serving)) is not None
    assert holder.pid == os.getpid()


def test_windows_bind_does_not_take_a_used_port() -> None:
    """SO_REUSEADDR would take it from its server."""
    assert socket.SO_REUSEADDR not in port_probe.bind_options("win32")
    assert port_probe.bind_options("win32")[0] == ~socket.SO_REUSEADDR  # winsock2.h: SO_EXCLUSIVEADDRUSE
    assert port_probe.bind_options("linux") == (None, socket.SO_REUSEADDR)


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows lets a second socket take a port")
def test_windows_server_without_options_is_in_use(sockets: contextlib.ExitStack) -> None:
    """Only Windows lets another socket bind the port."""
    _, port = listening(sockets, "0.0.0.0")
    assert check_port(port) is False


# --- privileged --------------------------------------------------------------------------------------------

AS_ORDINARY_USER = """
    import os, sys
    import pwd
    from zcli_core.net import port_holder as _, port_probe
    from zcli_core.net.ports import check_port, port_holder, port_state
    port = int(sys.argv[1])
    str(port_holder(port)), check_port(port)  # imports what it takes while we may still read all of it
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    state = port_state(port)
    print(check_port(port), state.status, state.privileged, "may not bind" in state.detail, port_holder(port))
"""


def _is_privileged(port: int) -> bool:
    return not PRIVILEGED_BELOW.exists() or port < int(PRIVILEGED_BELOW.read_text())


def free_privileged_port() -> int:
    for port in random.sample(range(512, 1024), 512):  # at random, for another run may do the same right now
        if check_port(port):
            if not _is_privileged(port):
                pytest.skip(f"{PRIVILEGED_BELOW} lets every user bind port {port}")
            return port
    pytest.skip("every port from 512 to 1023 is in use")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="this system has no privileged ports")
def test_free_privileged_port_is_available() -> None:
    """``privileged`` is set for a user who may not bind it."""
    assert run_python(AS_ORDINARY_USER, str(free_privileged_port())).split() == [
        "True", "available", "True", "True", "None",
    ]  # fmt: skip


@pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason="only root can hold a privileged port here")
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", pytest.param("::1", marks=needs_ipv6)])
def test_used_privileged_port_names_the_user(sockets: contextlib.ExitStack, address: str) -> None:
    """The process of root is hidden."""
    server, port = bound(sockets, address, free_privileged_port())
    server.listen()
    said = run_python(AS_ORDINARY_USER, str(port)).strip()
    assert said == "False in use True False a process of user root"


# --- cost --------------------------------------------------------------------------------------------------


def test_import_ports_imports_no_sockets() -> None:
    """Nor an event loop."""
    said = run_python(
        """
        import sys
        import zcli_core
        before = set(sys.modules)
        import zcli_core.net.ports
        print(*sorted(set(sys.modules) - before))
        """
    )
    heavy = {"socket", "_socket", "selectors", "asyncio", "ssl", "pwd"}
    assert "zcli_core.net.ports" in said.split()
    assert heavy.isdisjoint(said.split())
