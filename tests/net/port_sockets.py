"""Real sockets in every state that a port can be in, for the tests of ports."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from zcli_core.net.ports import find_free_port

ROOT = Path(__file__).parents[2]
LINUX = sys.platform.startswith("linux")
PRIVILEGED_BELOW = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="::1 cannot be bound on this machine")
needs_linux = pytest.mark.skipif(not LINUX, reason="only Linux tells this")


def bound(stack: contextlib.ExitStack, address: str, port: int = 0, *options: int) -> tuple[socket.socket, int]:
    """Return a socket that is bound to an address and does not listen (yet)."""
    sock = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    if ":" in address:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(socket.IPV6_V6ONLY in options))
    for option in options:
        if option != socket.IPV6_V6ONLY:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind((address, port))
    return sock, int(sock.getsockname()[1])


def listening(stack: contextlib.ExitStack, address: str, *options: int) -> tuple[socket.socket, int]:
    sock, port = bound(stack, address, find_free_port(), *options)
    sock.listen()
    return sock, port


def closed_server(reuse: bool, keep_connection: contextlib.ExitStack | None = None) -> int:
    """The port of a server that has served one connection, closed it first, and ended."""
    with contextlib.ExitStack() as stack:
        server, port = listening(stack, "127.0.0.1", *([socket.SO_REUSEADDR] if reuse else []))
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        accepted, _ = server.accept()
        if keep_connection is None:
            accepted.close()
            assert client.recv(1) == b""
            client.close()
        else:
            keep_connection.enter_context(accepted)
            keep_connection.enter_context(client)
    return port


def run_python(script: str, *arguments: str) -> str:
    """Run a script in an interpreter of its own, with this checkout importable, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def silent_listener(stack: contextlib.ExitStack) -> int:
    """The port of a listener whose queue is full: Linux then drops further connection attempts."""
    server, port = bound(stack, "127.0.0.1")
    server.listen(0)
    for _ in range(3):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
    return port
