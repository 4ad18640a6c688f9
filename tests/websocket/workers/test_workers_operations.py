"""What operators see of a server with workers: systemd, ``zcli ws``, and the lines of the log."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from script_runs import plain_environment
from supervised import said, supervised
from websocket_serving import DEADLINE, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


def _zcli(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "zCLI", "ws", *arguments]
    environment = plain_environment(folder, {})
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, text=True, capture_output=True, timeout=DEADLINE * 2
    ).stdout


def _next_state(told: socket.socket) -> str:
    """Return the next message to systemd that is not a ping."""
    while (state := told.recv(1000).decode()) == "WATCHDOG=1":
        pass
    return state


@pytest.mark.slow
def test_workers_are_seen_by_operators(tmp_path: Path) -> None:
    """The supervisor reports to systemd and to the commands, and each worker's lines have its number."""
    name = f"zcli-{os.getpid()}-{os.urandom(4).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"\0{name}")
        told.settimeout(DEADLINE * 2)
        variables = {
            "NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "2000000", "ZCLI_LOGGER_FORMAT": "json",
            "ZCLI_WEBSOCKET_ACCESS_LOG": "true",
        }  # fmt: skip
        with supervised(tmp_path, **variables) as script:
            assert _next_state(told) == f"READY=1\nSTATUS=listening on {script.url} with 2 workers"
            with contextlib.ExitStack() as stack:
                stack.enter_context(script.client())
                eventually(lambda: _status(tmp_path)["clients"] == 1)
                state = _status(tmp_path)
                assert (state["title"], state["pid"]) == ("served", script.process.pid)
                assert {worker["pid"] for worker in state["workers"]} == script.workers()
                process = said(stack.enter_context(script.client()))[0]
            number = next(worker["number"] for worker in state["workers"] if worker["pid"] == process)
            assert _zcli(tmp_path, "reload") == (
                f"served (pid {script.process.pid}): the reload has begun; its log tells how it goes\n"
            )
            assert _next_state(told).startswith("RELOADING=1\nMONOTONIC_USEC=")
            assert _next_state(told).startswith("READY=1\n")
            assert _status(tmp_path)["restarts"]["reload"] == 2
            assert told.recv(1000) == b"WATCHDOG=1"
            script.end()
            assert _next_state(told).startswith("STOPPING=1\n")
    lines = [json.loads(line) for line in script.log().splitlines()]
    assert {line.get("worker") for line in lines} == {None, 1, 2}
    (access,) = [line for line in lines if line.get("messages_in") == 1]
    assert (access["logger"], access["worker"], access["pid"]) == ("zcli.served.access", number, process)


def _status(folder: Path) -> Any:
    (state,) = json.loads(_zcli(folder, "status", "--json"))
    return state
