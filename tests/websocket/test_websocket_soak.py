"""Random connects, disconnects, broadcasts and kills, for a few seconds or ZCLI_SOAK_SECONDS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from script_runs import started_script
from websocket_serving import DEADLINE
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("ZCLI_SOAK_SECONDS", "6"))
CLIENTS = 25

SCRIPT = """
import asyncio, gc, json, os, signal
from zCLI import zCLI

z = zCLI({"deployment": "Production", "title": "soak", "logger": "INFO", "logger_path": ".", "websocket": {
    "require_auth": True, "token": "the-right-token-of-the-soak-test", "max_connections": 20,
    "max_auth_failures": 1000000, "compression": True,
    "max_send_buffer": 65536, "open_timeout": 2, "close_timeout": 1, "ping_interval": 1, "ping_timeout": 1}})
comings = goings = 0

async def handler(websocket, message):
    if message == "all":
        await z.comm.websocket.broadcast("x" * 5000, exclude=websocket)
    elif message == "raise":
        raise ValueError("as asked")
    elif message == "close":
        await websocket.close(4000)
    else:
        await websocket.send(message)

async def on_connect(websocket):
    global comings
    comings += 1

def on_disconnect(websocket):
    global goings
    goings += 1

def sockets():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return sum(link.startswith("socket:") for link in links)

async def main():
    loop = asyncio.get_running_loop()
    before = sockets()
    loop.add_signal_handler(signal.SIGTERM, z.comm.websocket.stop)
    serving = asyncio.create_task(z.comm.websocket.serve(
        port=0, handler=handler, on_connect=on_connect, on_disconnect=on_disconnect))
    while not z.comm.websocket.is_running:
        await asyncio.sleep(0.01)
    print(z.comm.websocket.url, flush=True)
    await serving
    gc.collect()
    print(json.dumps({"tasks": len(asyncio.all_tasks()) - 1, "sockets": sockets() - before,
                      "comings": comings, "goings": goings}))

asyncio.run(main())
"""


async def _one_life(url: str, chance: random.Random) -> None:
    """Connect, do something, and disconnect with or without a close frame."""
    token = chance.choice(["the-right-token-of-the-soak-test"] * 8 + ["wrong", ""])
    compression = chance.choice([None, "deflate"])
    async with connect(f"{url}/?token={token}", proxy=None, compression=compression, close_timeout=1) as client:
        for _ in range(chance.randrange(6)):
            await client.send(chance.choice(["all", "hello", "x" * 20_000, "raise", "close", b"bytes"]))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.recv(), 0.05)
        await _go(client, chance.random())


async def _go(client: ClientConnection, how: float) -> None:
    if how < 0.3:
        client.transport.abort()  # as if the program was killed
    elif how < 0.4:
        client.transport.write(b"\xff\xff nonsense")
    elif how < 0.5:
        client.transport.pause_reading()
        await asyncio.sleep(how)
        client.transport.abort()


async def _at_random(url: str, chance: random.Random, end: float) -> int:
    lives = 0
    while time.monotonic() < end:
        with contextlib.suppress(WebSocketException, OSError, asyncio.TimeoutError, EOFError, RuntimeError):
            await _one_life(url, chance)
        lives += 1
    return lives


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="memory and sockets are counted as Linux shows them")
def test_server_under_random_load_stays_healthy(tmp_path: Path) -> None:
    """Only clients' own errors, constant memory after the first part, and nothing left after stop."""
    seed = random.randrange(10**6)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with started_script(script, folder=tmp_path) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        memory: list[int] = []

        async def soak(seconds: float) -> int:
            end = time.monotonic() + seconds
            lives = await asyncio.gather(*(_at_random(url, random.Random(f"{seed} {n}"), end) for n in range(CLIENTS)))
            memory.append(_memory(process.pid))
            return sum(lives)

        first = min(60.0, SECONDS / 2)
        lives = asyncio.run(soak(first)) + asyncio.run(soak(SECONDS - first))
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=DEADLINE * 3)
    assert process.returncode == 0, printed
    left = json.loads(printed.splitlines()[-1])
    assert (left["tasks"], left["sockets"]) == (0, 0), left
    assert left["comings"] == left["goings"] > 0, left
    assert lives > 10, "the machine was too busy to soak anything"
    assert memory[1] < memory[0] * 1.1, memory
    _check_log((tmp_path / "soak.log").read_text(encoding="utf-8"))


def _check_log(log: str) -> None:
    """Assert that every line above INFO is about an action of a client."""
    allowed = (
        "refused 127.0.0.1",
        "the handler failed on default at",
        "that arrived before the connection ended were not handled",
        "read too slowly and was disconnected",
        "clients are",
    )
    lines = [line for line in log.splitlines() if " WARNING " in line or " ERROR " in line]
    assert [line for line in lines if not any(text in line for text in allowed)] == []
    errors = {line.strip() for line in log.splitlines() if line.partition(":")[0].endswith(("Error", "Exception"))}
    assert errors <= {"ValueError: as asked"}
