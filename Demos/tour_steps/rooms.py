"""Rooms: the chat of level 6 as two processes that share a Redis."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tour_steps.plugins import main_app
from tour_steps.services import servers_folder
from tour_steps.walk import StepFailed, Tour, expect
from tour_steps.websocket import server_process

_ROOT = Path(__file__).resolve().parent.parent.parent
_CHAT = Path("Demos", "Layer_0", "zComm_Demo", "lvl6_rooms", "1_chat.py")
_TIMEOUT = 30.0  # seconds


def show_rooms(tour: Tour) -> str:
    if os.name != "posix":
        return "skipped: zCLI starts no servers on this system"
    folder = tour.once(servers_folder)
    (tour.folder / _CHAT.parent.name).mkdir()
    script = Path(shutil.copy(_ROOT / _CHAT, tour.folder / _CHAT.parent.name))  # it logs beside itself
    port = tour.once(main_app).comm.find_free_port()
    z = tour.app("after-the-chat", services={"folder": str(folder), "redis": {"port": port, "launcher": "local"}})
    variables = {
        "ZCLI_SERVICES_FOLDER": str(folder),
        "ZCLI_SERVICES_REDIS_LAUNCHER": "local",
        "ZCLI_SERVICES_REDIS_PORT": str(port),
    }
    try:
        with contextlib.ExitStack() as stack:
            urls = [stack.enter_context(_served(tour, script, variables)) for _ in range(2)]
            _talk(tour, stack, urls)
    finally:
        stopped = z.comm.stop_service("redis")
    expect(stopped, f"Redis did not stop: {z.comm.services.last_failure}")
    return "a message reached the members of a room on the other process, and presence showed both"


def _talk(tour: Tour, stack: contextlib.ExitStack, urls: list[str]) -> None:
    ann, eve, ben = (_join(stack, url, name, room) for url, name, room in (
        (urls[0], "Ann", "kitchen"), (urls[0], "Eve", "garden"), (urls[1], "Ben", "kitchen")
    ))  # fmt: skip
    ann.send(json.dumps({"who": True}))
    here = json.loads(ann.recv(timeout=_TIMEOUT))["here"]
    names = sorted(name for name, _process in here)
    tour.print(f"in the kitchen are {' and '.join(names)}, on {len({process for _, process in here})} processes")
    expect(names == ["Ann", "Ben"], f"presence shows {names}")
    ann.send(json.dumps({"say": "good morning"}))
    received = json.loads(ben.recv(timeout=_TIMEOUT))
    tour.print(f"Ann says 'good morning'; Ben, on the other process, receives {received['text']!r}")
    expect(received == {"from": "Ann", "text": "good morning"}, f"Ben received {received}")
    try:
        other = eve.recv(timeout=0.2)
    except TimeoutError:
        tour.print("Eve, in the garden, receives nothing")
    else:
        raise StepFailed(f"Eve received {other}")


def _join(stack: contextlib.ExitStack, url: str, name: str, room: str) -> Any:
    from websockets.sync.client import connect

    client = stack.enter_context(connect(url, proxy=None, open_timeout=_TIMEOUT))
    client.send(json.dumps({"join": room, "name": name}))
    client.recv(timeout=_TIMEOUT)  # the members of the room
    return client


@contextlib.contextmanager
def _served(tour: Tour, script: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Run one process of the chat and give its URL."""
    tour.print(str(_CHAT), "cyan")
    with server_process(script, variables) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if " listening on " in line:
                tour.print(line.partition(";")[0], deeper=2)
                yield line.split(" listening on ")[1].split()[0]
                _stop(process)
                return
        raise StepFailed(f"{script.name} did not start to listen: {printed.strip()}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    printed, _ = process.communicate(timeout=_TIMEOUT)
    expect(process.returncode == 0, f"the server ended with status {process.returncode}: {printed}")
