"""A script that serves, as a process: Ctrl+C, a second Ctrl+C, SIGTERM, and restarting at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from script_runs import started_script
from websocket_serving import DEADLINE, end_of, eventually, talks
from websockets.sync.client import connect

from zcli_core.websocket.event_loop import StopEvent
from zcli_core.websocket.signals import stopped_by_signals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")

SCRIPT = """
import asyncio, os, signal, sys, time
from zCLI import zCLI

tasks = []

async def interrupt_at_end():
    try:
        await asyncio.sleep(3600)
    finally:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

async def echo(websocket, message):
    if message == "block the loop":
        time.sleep(3600)
    if message == "hang":
        await asyncio.sleep(3600)
    if message == "leave a task":
        tasks.append(asyncio.create_task(interrupt_at_end()))
    await websocket.send(message)

def goodbye(websocket):
    with open("gone", "a") as file:
        file.write(f"{websocket.close_code}\\n")

websocket = {"loop": LOOP, "close_timeout": 2, "max_connections": 2000}
z = zCLI({"deployment": "Production", "title": "served", "logger_path": ".", "websocket": websocket})
z.comm.websocket.start(port=PORT, handler=echo, on_disconnect=goodbye)
print("after start()")
"""
LOOPS = ["asyncio", "uvloop"]
HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Script:
    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def end(self, *signals: int) -> tuple[int, str, float]:
        """Send the signals; return the exit status, the remaining output, and the seconds."""
        began = time.monotonic()
        for place, number in enumerate(signals):
            if place:
                time.sleep(0.8)  # so that the first signal is being handled
            self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=DEADLINE * 3)
        return self.process.returncode, rest, time.monotonic() - began


@contextlib.contextmanager
def _running(folder: Path, loop: str, port: int = 0) -> Iterator[Script]:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    file = folder / "script.py"
    file.write_text(SCRIPT.replace("LOOP", repr(loop)).replace("PORT", str(port)))
    with started_script(file, folder=folder) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("[WebSocket] listening on ws://"), first + process.stdout.read()
        yield Script(process, first.split()[3])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl+C", "SIGTERM"])
def test_signal_stops_gracefully(tmp_path: Path, loop: str, number: int) -> None:
    """Clients get 1001, on_disconnect is called, the script continues after start() and exits with status 0."""
    with _running(tmp_path, loop) as script, connect(script.url, proxy=None) as client:
        assert talks(client)
        script.process.send_signal(number)
        assert end_of(client) == (1001, "the server is shutting down")
        status, printed, _ = script.end()
    assert status == 0
    stopped, after = printed.splitlines()
    assert stopped.startswith(f"[WebSocket] stopped: 1 client closed, port {script.port} released")
    assert after == "after start()"
    assert (tmp_path / "gone").read_text() == "1001\n"
    assert "Traceback" not in (tmp_path / "served.log").read_text()


@pytest.mark.parametrize("loop", LOOPS)
def test_signal_with_thousand_clients_stops_in_time(tmp_path: Path, loop: str) -> None:
    """All get 1001 within close_timeout although none responds, and the status is 0."""
    count = _room_for(1000)
    with contextlib.ExitStack() as stack, _running(tmp_path, loop) as script:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", script.port), timeout=DEADLINE))
            client.sendall(HEAD)
            clients.append(client)
        for client in clients:
            assert client.recv(1000).endswith(b"\r\n\r\n")
        status, printed, seconds = script.end(signal.SIGINT)
        assert status == 0
        assert f"{count} clients closed" in printed
        assert seconds < 2 + DEADLINE
        for client in clients:
            opcode, _, *code = client.recv(1000)[:4]
            assert (opcode, code) == (0x88, [1001 >> 8, 1001 & 255])
    assert (tmp_path / "gone").read_text().count("\n") == count


def _room_for(count: int) -> int:
    """Return the number of connections that this process may open, at most ``count``."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 200), hard))
    return min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("trouble", ["a client that does not answer", "hang", "block the loop"])
def test_second_signal_ends_at_once(tmp_path: Path, loop: str, trouble: str) -> None:
    """While a silent client, a waiting handler or a blocked event loop delays the stop."""
    with (
        _running(tmp_path, loop) as script,
        socket.create_connection(("127.0.0.1", script.port), timeout=DEADLINE) as client,
    ):
        client.sendall(HEAD)
        assert b"101" in client.recv(1000)
        if len(trouble) < 20:
            payload = trouble.encode()
            client.sendall(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
            time.sleep(0.3)  # the test cannot see that the signal handler has begun
        # Two different signals, because the system may merge two equal ones.
        status, printed, _ = script.end(signal.SIGTERM, signal.SIGINT)
    assert status == 0, printed
    assert "[WebSocket] interrupted: every connection was dropped" in printed
    assert "Traceback" not in printed
    assert "after start()" in printed


@pytest.mark.parametrize("loop", LOOPS)
def test_restart_on_same_port_works_at_once(tmp_path: Path, loop: str) -> None:
    """Also after it was killed with clients connected, whose sockets remain in the system."""
    port = 0
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        with _running(tmp_path, loop, port) as script:
            port = script.port
            with connect(script.url, proxy=None) as client:
                assert talks(client)
                status = script.end(number)[0]
            assert status == (-9 if number == signal.SIGKILL else 0)


def test_signal_handlers_are_restored(tmp_path: Path) -> None:
    """A script with handlers of its own gets them back."""
    code = """
import signal, threading, time
from zCLI import zCLI
mine = lambda number, frame: None
signal.signal(signal.SIGTERM, mine)
ctrl_c = signal.getsignal(signal.SIGINT)  # ignored, where a shell started this in the background
z = zCLI({"deployment": "Production", "logger_path": "."})
def stop_once_it_runs():
    while not z.comm.websocket.is_running:
        time.sleep(0.01)
    z.comm.websocket.stop()
threading.Thread(target=stop_once_it_runs).start()
z.comm.websocket.start(port=0)
assert signal.getsignal(signal.SIGTERM) is mine
assert signal.getsignal(signal.SIGINT) == ctrl_c
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_script_end_stops_background_server(tmp_path: Path) -> None:
    """Its clients get 1001 without a call of stop()."""
    file = tmp_path / "script.py"
    file.write_text(
        "import sys\n"
        "from zCLI import zCLI\n"
        "z = zCLI({'deployment': 'Production', 'logger_path': '.'})\n"
        "print(z.comm.websocket.start_background(port=0).url, flush=True)\n"
        "sys.stdin.read(1)\n"
    )
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen([sys.executable, str(file)], **options) as process:
        with connect(process.stdout.readline().strip(), proxy=None) as client:  # type: ignore[union-attr]
            assert talks(client)
            process.stdin.close()  # type: ignore[union-attr]
            assert end_of(client) == (1001, "the server is shutting down")
        assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize("handler", ["the system's", "the script's", "ignored"])
def test_sigterm_closes_background_clients(tmp_path: Path, handler: str) -> None:
    """With stop_on_sigterm the clients get 1001, then SIGTERM has its previous effect."""
    own = {
        "the system's": "",
        "the script's": "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))\n",
        "ignored": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
    }
    file = tmp_path / "script.py"
    file.write_text(
        "import signal, sys, threading\n"
        "from zCLI import zCLI\n"
        f"{own[handler]}"
        "z = zCLI({'deployment': 'Production', 'logger_path': '.'})\n"
        "server = z.comm.websocket.start_background(port=0, stop_on_sigterm=True)\n"
        "print(server.url, flush=True)\n"
        "server.wait()\n"
        "sys.exit(5)\n"
    )
    with started_script(file, folder=tmp_path) as process:
        assert process.stdout is not None
        with connect(process.stdout.readline().strip(), proxy=None) as client:
            assert talks(client)
            process.send_signal(signal.SIGTERM)
            assert end_of(client) == (1001, "the server is shutting down")
        status = process.wait(DEADLINE)
    assert status == {"the system's": -signal.SIGTERM, "the script's": 7, "ignored": 5}[handler]


def test_stop_on_sigterm_is_restored(make_z: Any) -> None:
    """When the server stops or cannot start; outside the main thread it is an error."""
    before = signal.getsignal(signal.SIGTERM)
    server = make_z().comm.websocket
    with server.start_background(port=0, stop_on_sigterm=True) as handle:
        assert signal.getsignal(signal.SIGTERM) != before
        with pytest.raises(RuntimeError, match="is already running"):
            server.start_background(port=0, stop_on_sigterm=True)
        handle.stop()
    assert signal.getsignal(signal.SIGTERM) == before
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            server.start_background(port=0, stop_on_sigterm=True)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(DEADLINE)
    assert "main thread only" in str(errors[0])
    assert not server.is_running


def test_killed_client_is_disconnected(tmp_path: Path) -> None:
    """SIGKILL sends no close frame; the system closes the socket."""
    code = (
        "import sys; from websockets.sync.client import connect\n"
        "with connect(sys.argv[1], proxy=None) as client: print(client.ping(), flush=True); client.recv()"
    )
    with _running(tmp_path, "asyncio") as script:
        with subprocess.Popen([sys.executable, "-c", code, script.url], stdout=subprocess.PIPE) as client:
            client.stdout.readline()  # type: ignore[union-attr]
            client.kill()
        eventually((tmp_path / "gone").exists)
        assert (tmp_path / "gone").read_text() == "1006\n"
        assert script.end(signal.SIGINT)[0] == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_signal_while_the_loop_is_closed_is_ignored(tmp_path: Path, loop: str) -> None:
    """The server has stopped, and an interrupted event loop cannot be closed."""
    with _running(tmp_path, loop) as script:
        with connect(script.url, proxy=None) as client:
            client.send("leave a task")
            assert client.recv(timeout=DEADLINE) == "leave a task"
        status, printed, _ = script.end(signal.SIGINT)
    assert status == 0
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["[WebSocket] stopped", "after start()"]


def test_signals_are_not_ignored_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of the script may keep the event loop from being closed."""
    with stopped_by_signals(StopEvent(), lambda: None) as signals:
        signals.closing()
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert not signals.aborted
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 60)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signal_after_the_end_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has stopped, so nothing is aborted and there is no traceback."""
    restore = signal.signal
    dropped: list[bool] = []

    def interrupted(number: int, handler: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return restore(number, handler)

    before = signal.getsignal(signal.SIGINT)
    with stopped_by_signals(StopEvent(), lambda: dropped.append(True)) as signals:
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(signal, "signal", interrupted)
    assert not signals.aborted
    assert not dropped
    assert signal.getsignal(signal.SIGINT) == before
