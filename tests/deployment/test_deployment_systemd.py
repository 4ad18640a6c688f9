"""The systemd units of the deployment guide, as far as that is possible without a running systemd."""

from __future__ import annotations

import itertools
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from documents import file_in
from needs import missing, needs
from script_runs import plain_environment
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from zcli_core.config.sections import WebSocket
from zcli_core.websocket.workers.supervisor import _STOP_MARGIN

pytestmark = pytest.mark.slow

PAGE = "docs/guide/deployment/systemd.md"
DEADLINE = 30.0


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as files; only the program and the user differ, because this machine has neither."""
    changes = {"/srv/app/.venv/bin/python": "/usr/bin/env python", "User=app": "User=root"}
    files = []
    for name in ("app.service", "app.socket"):
        text = file_in(PAGE, name)
        for written, used in changes.items():
            text = text.replace(written, used)
        files.append(tmp_path / name)
        files[-1].write_text(text)
    return files


def test_systemd_units_are_valid(units: list[Path]) -> None:
    """``systemd-analyze verify`` has nothing to say about them."""
    verify = needs("systemd-analyze", "systemd")
    done = subprocess.run([verify, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_service_is_hardened(units: list[Path]) -> None:
    """The service's exposure is below 3 of 10, although it must listen on the network."""
    analyze = needs("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", "--threshold=30", units[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _value(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def test_systemd_waits_for_the_supervisor() -> None:
    """systemd does not kill the service before the supervisor has killed a worker that hangs."""
    (seconds,) = _value(file_in(PAGE, "app.service"), "TimeoutStopSec")
    settings = WebSocket()
    assert int(seconds) > settings.drain_timeout + settings.close_timeout + _STOP_MARGIN


def _environment(unit: str, folder: Path) -> dict[str, str]:
    """The environment that a unit gives to its service, with a free port, two workers and another folder."""
    given = (each.split("=", 1) for line in _value(unit, "Environment") for each in shlex.split(line))
    return plain_environment(folder) | dict(given) | {
        "WEBSOCKET_PORT": "0", "WEBSOCKET_WORKERS": "2", "XDG_STATE_HOME": str(folder / "state"),
    }  # fmt: skip


def _calls(group: str) -> Iterator[str]:
    """Yield the system calls of a group, such as ``@system-service``."""
    analyze = needs("systemd-analyze", "systemd")
    listed = subprocess.run([analyze, "syscall-filter", group], capture_output=True, text=True, check=True).stdout
    for name in (line.strip() for line in listed.splitlines()[1:]):
        if name.startswith("@"):
            yield from _calls(name)
        elif not name.startswith("#"):
            yield name


def _allowed(unit: str) -> set[str]:
    """The system calls that the filters of a unit allow."""
    allowed: set[str] = set()
    for line in _value(unit, "SystemCallFilter"):
        calls = {call for group in line.lstrip("~").split() for call in _calls(group)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    # systemd always allows these.
    return allowed | set(_calls("@default")) | {"execve", "exit", "exit_group", "getrlimit", "rt_sigreturn"}


def test_systemd_service_allows_system_calls(tmp_path: Path) -> None:
    """A server that starts, serves, is reloaded and stopped makes no system call that the unit forbids."""
    strace = needs("strace", "strace")
    unit = file_in(PAGE, "app.service")
    (tmp_path / "app.py").write_text(file_in("docs/guide/deployment.md", "app.py"))
    process = subprocess.Popen(
        [strace, "-f", "-qq", "-o", tmp_path / "calls", sys.executable, "app.py"],
        cwd=tmp_path, env=_environment(unit, tmp_path), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = re.search(r"ws://\S+", process.stdout.readline())
    if url is None:
        process.communicate(timeout=DEADLINE)
        missing("strace cannot trace a process here")
    with connect(url[0], proxy=None, open_timeout=DEADLINE) as client:
        client.send("hello")
        client.recv(timeout=DEADLINE)
        (server,) = psutil.Process(process.pid).children()
        server.send_signal(signal.SIGHUP)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=DEADLINE)
    server.terminate()
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    made = set(re.findall(r"^\d+ +(\w+)\(", (tmp_path / "calls").read_text(), re.MULTILINE))
    assert made > {"listen", "accept4"}
    assert made - _allowed(unit) == set()


def test_systemd_is_notified_by_the_supervisor(tmp_path: Path) -> None:
    """It reports the start, a reload and the stop, and pings the watchdog; workers report nothing."""
    unit = file_in(PAGE, "app.service")
    (tmp_path / "app.py").write_text(file_in("docs/guide/deployment.md", "app.py"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(DEADLINE)
        received = (systemd.recv(4096).decode().partition("\n")[0] for _ in itertools.count())
        states = (state for state in received if not state.startswith(("WATCHDOG=", "STATUS=")))
        variables = _environment(unit, tmp_path) | {
            "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000", "WEBSOCKET_RELOAD_SPREAD": "0",
        }  # fmt: skip
        process = psutil.Popen([sys.executable, "app.py"], cwd=tmp_path, env=variables, stdout=subprocess.DEVNULL)
        try:
            assert next(states) == "READY=1"
            assert "WATCHDOG=1" in received
            process.send_signal(signal.SIGHUP)
            assert next(states) == "RELOADING=1"
            assert next(states) == "READY=1"
            process.terminate()
            assert next(states) == "STOPPING=1"
            assert process.wait(DEADLINE) == 0
        finally:
            for each in [*process.children(), process] if process.is_running() else []:
                each.kill()
            process.wait()
