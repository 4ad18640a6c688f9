"""Random kills of processes, of the engine and of clients: a minute of them, or ZCLI_SOAK_SECONDS.

Three servers share a Redis and one room. The clients reconnect as a browser's script does. Rounds of faults alternate
with rounds of quiet, at whose end the presence must be right.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_engines import Engine, engine
from needs import needs
from script_runs import plain_environment
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("ZCLI_SOAK_SECONDS", "60"))
LONG = SECONDS > 120
CLIENTS = 500 if LONG else 100
PROCESSES = 3
#: Faults in a round.
FAULTS = 4
#: A crashed process may be seen for this long; so the presence must be right after it.
PRESENCE_TIMEOUT = 10.0 if LONG else 4.0
#: After this time without a message, a process must not say that it is ready: a probe's interval, its timeout, and time
#: for a busy machine.
LONGEST_DEAF = 12.0
#: Quiet after a round of faults: PRESENCE_TIMEOUT, and time for reconnects.
QUIET = 15.0

SCRIPT = """
import asyncio, gc, json, os, signal, sys, threading
from zCLI import zCLI

z = zCLI({"deployment": "Production", "title": sys.argv[1], "logger": "INFO", "logger_path": ".",
    "websocket": {"backplane": "redis"},
    "backplane": {"redis": {"url": sys.argv[2]}, "required": False, "probe_interval": 1, "probe_timeout": 2,
        "presence_timeout": float(sys.argv[3])}})
server = z.comm.websocket

async def handler(websocket, message):
    order, _, text = message.partition(" ")
    if order == "join":
        await websocket.join("hall", data={"name": text})
        await websocket.send("joined")
    elif order == "say":
        server.publish(text, to="hall")
    elif order == "who":
        try:
            members = await server.presence("hall", limit=10_000)
        except Exception as error:
            await websocket.send("who " + json.dumps({"failure": str(error)}))
        else:
            await websocket.send("who " + json.dumps({"names": sorted(member.data["name"] for member in members)}))

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
    before, threads = sockets(), threading.enumerate()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    serving = asyncio.create_task(server.serve(port=0, handler=handler))
    while not server.is_running:
        if serving.done():
            serving.result()
        await asyncio.sleep(0.01)
    print(server.url, flush=True)
    await serving
    gc.collect()
    # The threads of the event loop's own executor end with it.
    left = [each.name for each in threading.enumerate() if each not in threads]
    print(json.dumps({"tasks": len(asyncio.all_tasks()) - 1, "sockets": sockets() - before,
                      "threads": [name for name in left if not name.startswith("asyncio_")]}), flush=True)

asyncio.run(main())
"""


class Process:
    """One server: a process that may be killed and started again."""

    def __init__(self, number: int, folder: Path, url: str) -> None:
        self.number = number
        self._folder = folder
        self._command = [sys.executable, str(folder / "script.py"), f"soak-{number}", url, str(PRESENCE_TIMEOUT)]
        self.url = ""
        self.start()

    def start(self) -> None:
        self.popen = subprocess.Popen(
            self._command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            env=plain_environment(self._folder),
        )  # fmt: skip
        assert self.popen.stdout is not None
        self.url = self.popen.stdout.readline().strip()
        assert self.url, "the server did not start"

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()

    def end(self) -> dict[str, object]:
        """Stop it with SIGTERM, and return what it says is left."""
        self.popen.send_signal(signal.SIGTERM)
        printed, _ = self.popen.communicate(timeout=60)
        assert self.popen.returncode == 0, printed
        left: dict[str, object] = json.loads(printed.splitlines()[-1])
        return left

    def memory(self) -> int:
        return int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Soak:
    """The clients, the faults, and what is watched."""

    def __init__(self, engine: Engine, processes: list[Process], chance: random.Random) -> None:
        self.engine = engine
        self.processes = processes
        self.chance = chance
        #: Names of the clients that have joined.
        self.joined: set[str] = set()
        self.complaints: list[str] = []
        self.checks = self.rounds = 0
        #: Resident memory of the first process at each check.
        self.memory: list[int] = []
        #: When the watcher of a process last received a message of another one.
        self.heard: dict[tuple[int, int], float] = {}
        #: Since when a process says, without a break, that it is ready.
        self.ready_since: dict[int, float | None] = dict.fromkeys(range(len(processes)), None)
        self._calm = True
        self._over = False

    async def run(self, seconds: float) -> None:
        """Let clients come and go while there are faults for that time, and check after each round."""
        self._over = False
        async with asyncio.TaskGroup() if hasattr(asyncio, "TaskGroup") else _Tasks() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._client(number, random.Random(self.chance.random())))
            for process in self.processes:
                tasks.create_task(self._watch(process))
                tasks.create_task(self._ask_ready(process))
            await self._settle("the start")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self._calm = False
                for _ in range(FAULTS):
                    await self._fault()
                self._calm = True
                self.rounds += 1
                await self._settle(f"round {self.rounds}")
            self._over = True

    async def _settle(self, what: str) -> None:
        """Wait until every process shows exactly the clients that are there."""
        began = time.monotonic()
        found: list[Any] = []
        while time.monotonic() < began + QUIET + LONGEST_DEAF:
            await asyncio.sleep(0.3)
            found = [await self._who(process) for process in self.processes]
            if len(self.joined) == CLIENTS + PROCESSES and all(each == sorted(self.joined) for each in found):
                self.checks += 1
                self.memory.append(self.processes[0].memory())
                return
        for process, each in zip(self.processes, found, strict=True):
            if each != sorted(self.joined):
                shown = set(each) if isinstance(each, list) else set()
                self.complaints.append(
                    f"after {what}, process {process.number}: {len(shown - self.joined)} false, "
                    f"{len(self.joined - shown)} missing of {len(self.joined)} ({each if not shown else ''})"
                )

    async def _who(self, process: Process) -> Any:
        with contextlib.suppress(WebSocketException, OSError, asyncio.TimeoutError):
            async with connect(process.url, proxy=None, close_timeout=1) as client:
                await client.send("who")
                message = await asyncio.wait_for(client.recv(), 10)
                found = json.loads(str(message).partition(" ")[2])
                return found.get("names", found)
        return None

    async def _client(self, number: int, chance: random.Random) -> None:
        """Join, stay, go, and come back, on any process."""
        name = f"client {number}"
        while not self._over:
            with contextlib.suppress(WebSocketException, OSError, asyncio.TimeoutError, EOFError):
                async with connect(chance.choice(self.processes).url, proxy=None, close_timeout=1) as client:
                    await client.send(f"join {name}")
                    while await asyncio.wait_for(client.recv(), 20) != "joined":
                        pass
                    self.joined.add(name)
                    try:
                        await self._stay(client, chance)
                    finally:
                        self.joined.discard(name)
            await asyncio.sleep(chance.random())

    async def _stay(self, client: Any, chance: random.Random) -> None:
        leaving = time.monotonic() + chance.uniform(1, 20)
        while not self._over:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.recv(), 0.5)
            if not self._calm and time.monotonic() > leaving:
                if chance.random() < 0.5:
                    client.transport.abort()
                return

    async def _watch(self, process: Process) -> None:
        """Publish from this process twice a second, and note what arrives from the others."""
        while not self._over:
            with contextlib.suppress(WebSocketException, OSError, asyncio.TimeoutError, EOFError):
                async with connect(process.url, proxy=None, close_timeout=1) as client:
                    await client.send(f"join watcher {process.number}")
                    self.joined.add(f"watcher {process.number}")
                    try:
                        await self._listen(client, process)
                    finally:
                        self.joined.discard(f"watcher {process.number}")
            await asyncio.sleep(0.2)

    async def _listen(self, client: Any, process: Process) -> None:
        for other in self.processes:  # what came before this connection says nothing
            self.heard[process.number, other.number] = time.monotonic()
        said = 0.0
        while not self._over:
            if time.monotonic() > said + 0.5:
                said = time.monotonic()
                await client.send(f"say from {process.number}")
            with contextlib.suppress(asyncio.TimeoutError):
                message = str(await asyncio.wait_for(client.recv(), 0.2))
                if message.startswith("from "):
                    self.heard[process.number, int(message[5:])] = time.monotonic()
            self._check_deaf(process)

    def _check_deaf(self, process: Process) -> None:
        now = time.monotonic()
        for other in self.processes:
            since = [self.ready_since[each.number] for each in (process, other)]
            if other is process or None in since:
                continue
            quiet = now - max(self.heard[process.number, other.number], *since)  # type: ignore[type-var]  # no None: see above
            if quiet > LONGEST_DEAF:
                self.heard[process.number, other.number] = now
                self.complaints.append(
                    f"process {process.number} says that it is ready, and heard nothing of {other.number} "
                    f"for {quiet:.1f} s"
                )

    async def _ask_ready(self, process: Process) -> None:
        while not self._over:
            ready = await _is_ready(process.url)
            if not ready:
                self.ready_since[process.number] = None
            elif self.ready_since[process.number] is None:
                self.ready_since[process.number] = time.monotonic()
            await asyncio.sleep(0.2)

    async def _fault(self) -> None:
        kind = self.chance.choice(["process", "process", "engine", "engine", "freeze", "nothing"])
        if kind == "process":  # the first one is never killed: its memory is watched
            process = self.chance.choice(self.processes[1:])
            self.ready_since[process.number] = None
            await asyncio.to_thread(process.kill)
            await asyncio.sleep(self.chance.uniform(0, 2))
            await asyncio.to_thread(process.start)
        elif kind == "engine":
            await asyncio.to_thread(self.engine.kill)
            await asyncio.sleep(self.chance.uniform(0, 3))
            await asyncio.to_thread(self.engine.start)
        elif kind == "freeze":
            self.engine.freeze()
            await asyncio.sleep(self.chance.uniform(0, 5))
            self.engine.thaw()
        await asyncio.sleep(self.chance.uniform(0, 2))


class _Tasks:
    """asyncio.TaskGroup for Python 3.10."""

    async def __aenter__(self) -> _Tasks:
        self._tasks: list[asyncio.Task[Any]] = []
        return self

    def create_task(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=kind is not None)


async def _is_ready(url: str) -> bool:
    """Ask a server's ``/ready``."""
    host, _, port = url.removeprefix("ws://").partition(":")
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 2)
        try:
            writer.write(f"GET /ready HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            answer = await asyncio.wait_for(reader.read(), 2)
            return answer.startswith(b"HTTP/1.1 200")
        finally:
            writer.close()
    return False


@contextlib.contextmanager
def _processes(folder: Path, url: str) -> Iterator[list[Process]]:
    running: list[Process] = []
    try:
        for number in range(PROCESSES):
            running.append(Process(number, folder, url))  # noqa: PERF401 - those that started must be ended
        yield running
    finally:
        for process in running:
            if process.popen.poll() is None:
                process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="memory and sockets are counted as Linux shows them")
def test_backplane_random_kills_heal(tmp_path: Path) -> None:
    """After kills, presence is right, no deaf process says that it is ready, and nothing is left behind."""
    needs("redis-server", "redis-server")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    chance = random.Random(seed := os.environ.get("ZCLI_SOAK_SEED") or str(random.randrange(10**6)))
    with engine("redis") as redis, _processes(tmp_path, redis.url) as running:
        soak = Soak(redis, running, chance)
        asyncio.run(soak.run(SECONDS))
        left = [process.end() for process in running]
    assert soak.complaints == [], f"seed {seed}"
    assert soak.checks == soak.rounds + 1 >= 3
    assert left == [{"tasks": 0, "sockets": 0, "threads": []}] * PROCESSES, f"seed {seed}"
    # The first half fills pools and caches. The second half is compared with the end of the first.
    half, quarter = len(soak.memory) // 2, max(1, len(soak.memory) // 4)
    assert min(soak.memory[-quarter:]) < max(soak.memory[half - quarter : half]) * 1.1, soak.memory
