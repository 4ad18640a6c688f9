"""systemd: its sockets are used, and it is notified."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websocket_serving import DEADLINE, talks
from websockets.sync.client import connect, unix_connect

from zcli_core.errors import ListenError
from zcli_core.websocket import systemd

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd is Linux's")

#: Starts a server twice. It sets the variables itself, because its parent cannot know its process id. The sockets are
#: passed from descriptor 3 on.
PROGRAM = """
import os, sys
passed = [int(word) for word in sys.argv[2].split(",")]
copies = [os.dup(fd) for fd in passed]
for number, fd in enumerate(copies):
    os.dup2(fd, 3 + number)
os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"] = str(len(passed)), str(os.getpid())
from zCLI import zCLI
z = zCLI({"deployment": "Production", "logger": "PROD", "logger_path": sys.argv[1], "title": "systemd",
          "websocket": {"port": 1, "loop": sys.argv[3]}})
for _ in range(2):
    with z.comm.websocket.start_background() as server:
        print(server.url, flush=True)
        sys.stdin.readline()
"""


def _serving(tmp_path: Path, loop: str, *sockets: socket.socket) -> subprocess.Popen[str]:
    descriptors = [sock.fileno() for sock in sockets]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), ",".join(map(str, descriptors)), loop],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=descriptors,
    )  # fmt: skip


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_systemd_sockets_are_served_twice(isolated: Path, loop: str) -> None:
    """A TCP and a Unix socket, instead of the configured port; stopping keeps them for the next start."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    path = isolated / "s"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        url = f"ws://127.0.0.1:{tcp.getsockname()[1]}"
        with _serving(isolated, loop, tcp, unix) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            for _ in range(2):
                assert program.stdout.readline().strip() == url
                with connect(url, proxy=None, open_timeout=DEADLINE) as client:
                    assert talks(client)
                with unix_connect(str(path), uri="ws://localhost/", open_timeout=DEADLINE) as client:
                    assert talks(client)
                program.stdin.write("\n")
                program.stdin.flush()
        assert program.returncode == 0
        assert path.exists()


def _announced(monkeypatch: pytest.MonkeyPatch, count: object, process: object = None) -> None:
    monkeypatch.setenv("LISTEN_FDS", str(count))
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() if process is None else process))


@pytest.mark.parametrize(
    ("count", "process"), [(1, 1), (1, ""), (0, None), ("", None), ("many", None), (1, os.getppid())]
)
def test_systemd_variables_of_parent_are_ignored(
    monkeypatch: pytest.MonkeyPatch, count: object, process: object
) -> None:
    """A child inherits the variables that were meant for its parent."""
    _announced(monkeypatch, count, process)
    assert systemd.passed_sockets() == ()


@pytest.mark.parametrize("kind", ["file", "datagram", "connected", "closed"])
def test_systemd_descriptor_invalid_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    """The error says which descriptor, and what the unit needs."""
    one, two = socket.socketpair()
    with (
        one,
        two,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
        (tmp_path / "file").open("w") as file,
    ):
        descriptor = {"file": file, "datagram": datagram, "connected": one}.get(kind)
        number = 10_000 if descriptor is None else descriptor.fileno()
        monkeypatch.setattr(systemd, "_FIRST_DESCRIPTOR", number)
        _announced(monkeypatch, 1)
        with pytest.raises(ListenError, match=rf"descriptor {number} of LISTEN_FDS is not a"):
            systemd.passed_sockets()


def test_systemd_socket_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that the server starts do not keep the port open."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        monkeypatch.setattr(systemd, "_FIRST_DESCRIPTOR", listening.fileno())
        _announced(monkeypatch, 1)
        (found,) = systemd.passed_sockets()
        with found:
            assert not os.get_inheritable(listening.fileno())
            assert not found.get_inheritable()
            assert found.getsockname() == listening.getsockname()


def test_port_argument_overrides_systemd_sockets(monkeypatch: pytest.MonkeyPatch, make_z: Any) -> None:
    """A script with two servers can give the second one a port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(systemd, "_FIRST_DESCRIPTOR", listening.fileno())
        _announced(monkeypatch, 1)
        with make_z().comm.websocket.start_background(port=0) as handle:
            assert handle.port not in (None, listening.getsockname()[1])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """The notification socket of systemd, as a file or abstract."""
    address = f"\0zcli-{os.getpid()}-{id(request)}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(DEADLINE)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        yield sock


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
@pytest.mark.parametrize("told", ["file", "abstract"], indirect=True)
def test_systemd_is_notified(told: socket.socket, make_z: Any) -> None:
    """When the port is open, and when the server stops."""
    with make_z().comm.websocket.start_background(port=0) as handle:
        assert told.recv(100) == f"READY=1\nSTATUS=listening on {handle.url}".encode()
        with connect(handle.url, proxy=None) as client:
            assert talks(client)
    assert told.recv(100) == b"STOPPING=1\nSTATUS=closing all clients"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
@pytest.mark.parametrize("told", ["file", "abstract"], indirect=True)
def test_systemd_watchdog_is_pinged_by_the_loop(
    told: socket.socket, make_z: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half of its time, until the server has ended; not while a handler blocks the event loop."""
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    blocked, go_on = threading.Event(), threading.Event()

    async def handler(websocket: Any, message: Any) -> None:
        blocked.set()
        go_on.wait(DEADLINE)  # blocks the loop

    with make_z().comm.websocket.start_background(port=0, handler=handler) as handle:
        states = [told.recv(100) for _ in range(4)]
        assert [state for state in states if state != b"WATCHDOG=1"] == [states[1]]
        assert states[1].startswith(b"READY=1")
        with connect(handle.url, proxy=None) as client:
            client.send("block")
            assert blocked.wait(DEADLINE)
            told.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while told.recv(100):
                    pass
            told.settimeout(0.1)  # five times its interval
            with pytest.raises(TimeoutError):
                told.recv(100)
            go_on.set()
            told.settimeout(DEADLINE)
            assert told.recv(100) == b"WATCHDOG=1"
    monkeypatch.delenv("NOTIFY_SOCKET")


@pytest.mark.parametrize(
    ("allowed", "process", "interval"),
    [
        ("30000000", None, 15.0), ("30000000", "", 15.0), ("30000000", "me", 15.0), ("1", "me", 0.01),
        ("30000000", "1", None), (None, "me", None), ("0", "me", None), ("", None, None), ("-1", None, None),
        ("1e6", None, None), ("\u0663", None, None), ("9" * 30, None, None),
    ],
)  # fmt: skip
def test_watchdog_is_on_as_systemd_says(
    monkeypatch: pytest.MonkeyPatch, allowed: str | None, process: str | None, interval: float | None
) -> None:
    """The variables of a parent process, and values that are not a time, turn it off."""
    for name, value in {"WATCHDOG_USEC": allowed, "WATCHDOG_PID": process}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(os.getpid()) if value == "me" else value)
    assert systemd.Watchdog().interval == interval


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
@pytest.mark.parametrize("told", ["file", "abstract"], indirect=True)
def test_systemd_gets_states_with_one_line_of_status(told: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload has the time of CLOCK_MONOTONIC; a line break in a status cannot begin another assignment."""
    before = time.monotonic_ns() // 1000
    systemd.notify_reloading("5 of\nREADY=1")
    systemd.notify_ready("ws://127.0.0.1:1")
    systemd.notify_stopping("the end")
    reloading, since, status = told.recv(200).decode().split("\n")
    assert (reloading, status) == ("RELOADING=1", "STATUS=5 of\\nREADY=1")
    assert before <= int(since.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert told.recv(200) == b"READY=1\nSTATUS=ws://127.0.0.1:1"
    assert told.recv(200) == b"STOPPING=1\nSTATUS=the end"
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    systemd.Watchdog().ping()
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    systemd.Watchdog().ping()
    assert told.recv(200) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@no-such-socket", "vsock:2:1"])
def test_systemd_notify_errors_are_ignored(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Also if the variable has another meaning."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify("READY=1")


def test_systemd_descriptor_copy_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the copy, because the descriptor belongs to the parent process."""
    copies: list[int] = []
    dup = os.dup

    def recorded(descriptor: int) -> int:
        copies.append(dup(descriptor))
        return copies[-1]

    monkeypatch.setattr(os, "dup", recorded)
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setattr(systemd, "_FIRST_DESCRIPTOR", file.fileno())
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with pytest.raises(ListenError, match="is not a socket"):
            systemd.passed_sockets()
        (copy,) = copies
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(copy)
        os.fstat(file.fileno())
