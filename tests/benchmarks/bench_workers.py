"""Workers: reload under load, spread, idle cost and start. Linux only, with two processors; needs redis-server.

The server's processes run on one processor, the clients and the engine on another. The clients are raw sockets in one
thread. ``ZCLI_BENCH_FULL=1`` measures the idle cost for longer.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.benchmarks.bench_websocket import allow_sockets
from tests.benchmarks.report import Row
from tests.benchmarks.scale_load import environment
from tests.benchmarks.websocket_load import process_cpu
from tests.broken_engines import engine
from tests.reconnecting_clients import Crowd, most_in_a_second
from zCLI import zCLI

FULL = os.environ.get("ZCLI_BENCH_FULL") == "1"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
WORKERS = 4
SPREAD = 10.0
ROOMS = 20
#: Messages a second that are published during the reload, each to one of the rooms.
RATE = 100

SCRIPT = """
import os, sys
from zCLI import zCLI

z = zCLI({"deployment": "Production", "title": "workers", "logger": "PROD", "logger_path": ".", "websocket": {
    "workers": int(sys.argv[1]), "backplane": sys.argv[2].partition(":")[0], "reload_spread": float(sys.argv[3]),
    "port": 0, "allowed_origins": ["*"], "max_connections": 20_000},
    "backplane": {"redis": {"url": sys.argv[2]}} if sys.argv[2] != "local" else {}})

async def connected(websocket):
    await websocket.send(f"worker {os.getpid()}")

async def handler(websocket, message):
    if message.startswith("join "):
        await websocket.join(message[5:])
    else:
        await websocket.send(message)

z.comm.websocket.start(handler=handler, on_connect=connected)
"""


class Server:
    """A supervisor with its workers."""

    def __init__(self, folder: Path, workers: int, backplane: str) -> None:
        (folder / "script.py").write_text(SCRIPT)
        errors = None if os.environ.get("ZCLI_BENCH_DEBUG") else subprocess.DEVNULL
        command = [sys.executable, "script.py", str(workers), backplane, str(SPREAD)]
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {CORES[0]})  # the processes inherit it
        try:
            self.process = psutil.Popen(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment()
            )
        finally:
            os.sched_setaffinity(0, before)
        line = self.process.stdout.readline()
        found = re.search(r"ws://127\.0\.0\.1:(\d+)", line)
        if found is None:
            raise RuntimeError(f"the server did not start: {line!r}; ZCLI_BENCH_DEBUG=1 shows why")
        self.address = ("127.0.0.1", int(found[1]))

    def family(self) -> list[int]:
        """Return the process ids of the supervisor and its workers."""
        return [self.process.pid, *(child.pid for child in self.process.children())]

    def cpu(self) -> dict[int, float]:
        """Return the CPU seconds of each process so far."""
        return {pid: process_cpu(pid) for pid in self.family()}


@contextlib.contextmanager
def server(workers: int = WORKERS, backplane: str = "local") -> Iterator[Server]:
    """Run a server until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        running = Server(Path(folder), workers, backplane)
        try:
            yield running
        finally:
            family = [running.process, *running.process.children()]
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            running.process.communicate()
            psutil.wait_procs(family)


@contextlib.contextmanager
def publisher(url: str) -> Iterator[None]:
    """Publish to the rooms in turn, 100 times a second, until the block ends."""
    ending = threading.Event()
    options = {"deployment": "Production", "logger": "PROD", "logger_path": tempfile.gettempdir(), "title": "publisher"}

    def publish() -> None:
        with zCLI({**options, "websocket": {"backplane": "redis"}, "backplane": {"redis": {"url": url}}}) as z:
            number = 0
            while not ending.wait(1 / RATE):
                z.comm.websocket.publish("a" * 64, to=f"room {number % ROOMS}")
                number += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def reload(clients: int) -> list[Row]:
    """Reload a server under a publisher, and count what each client sees."""
    with engine("redis") as broker, server(backplane=broker.url) as running, publisher(broker.url):
        crowd = Crowd(running.address, clients, greeting=lambda number: f"join room {number % ROOMS}")
        with crowd:
            crowd.wait_connected()
            old = set(running.family()[1:])
            crowd.wait_for(lambda: crowd.messages > clients)
            began = time.monotonic()
            running.process.send_signal(1)
            crowd.wait_for(lambda: not old & set(running.family()), 120)
            crowd.wait_connected()
            crowd.wait_for(lambda: time.monotonic() > began + SPREAD + 5)
            endings, counts = crowd.endings(began), crowd.per_client(began)
            arrivals = [each for each in crowd.connected if each.at > began]
    lost = sum(count for how, count in endings.items() if how != "1012")
    print(f"B11: endings {dict(endings)}, disconnects per client {dict(counts)}")
    what = f"B11 {clients} clients, reload"
    others = clients - counts[1]
    most = most_in_a_second(each.at for each in arrivals)
    return [
        Row(f"{what}: refused, reset or without a close frame", lost, "clients", clients, "", 0.0),
        Row(f"{what}: clients without exactly one disconnect", others, "clients", clients, "", 0.0),
        Row(f"{what}: most reconnects in a second", most, "evenly spread", clients / SPREAD, "", 1.3),
        Row(f"{what}: longest wait until connected again", max(e.seconds for e in arrivals), "a second", 1.0, "s"),
    ]


def spread(clients: int) -> list[Row]:
    """Connect clients, and compare the workers with the most and the fewest."""
    with server() as running, Crowd(running.address, clients) as crowd:
        crowd.wait_connected(120)
        numbers = sorted(crowd.workers().values())
        lost = len(crowd.disconnected)
    print(f"B12: {numbers} clients")
    if len(numbers) != WORKERS:
        raise RuntimeError(f"only {len(numbers)} workers have clients")
    what = f"B12 {clients} clients on {WORKERS} workers"
    return [
        Row(f"{what}: most on one", numbers[-1], "fewest on one", numbers[0], "", 1.25),
        Row(f"{what}: refused or reset", lost, "clients", clients, "", 0.0),
    ]


def idle(clients: int, seconds: float) -> list[Row]:
    """Measure the CPU of each process while its clients do nothing but answer pings."""
    with (
        engine("redis") as broker,
        server(backplane=broker.url) as running,
        Crowd(running.address, clients) as crowd,
    ):
        crowd.wait_connected(120)
        time.sleep(2)
        before = running.cpu()
        time.sleep(seconds)
        after = running.cpu()
        lost = len(crowd.disconnected)
    used = {pid: (after[pid] - before[pid]) / seconds * 100 for pid in before}
    print(f"B13: CPU % of supervisor and workers: {', '.join(f'{value:.2f}' for value in used.values())}; lost {lost}")
    supervisor, *workers = used.values()
    what = f"B13 {clients} idle clients on {WORKERS} workers: CPU of"
    return [
        Row(f"{what} the busiest worker", max(workers), "allowed", 1.0, "%", 1.0),
        Row(f"{what} the supervisor", supervisor, "allowed", 1.0, "%", 1.0),
    ]


def start() -> list[Row]:
    """Measure the CPU of all processes until they serve, beside one process without a supervisor."""
    found: dict[int, list[float]] = {1: [], WORKERS: []}
    for _ in range(5):
        for workers, costs in found.items():
            with server(workers) as running:
                used = running.cpu()
                costs.append(sum(used.values()) / len(used) * 1e3)
    one, several = (sorted(costs)[2] for costs in found.values())
    return [Row(f"B14 start with {WORKERS} workers, each process", several, "a single process", one, "ms", 1.1)]


def measure() -> list[Row]:
    """Run the scenarios."""
    if len(CORES) < 2:
        raise RuntimeError("this benchmark needs Linux and two processors: one for the servers, one for the load")
    allow_sockets(24_000)
    os.sched_setaffinity(0, {CORES[-1]})
    try:
        return [*start(), *spread(10_000), *reload(2_000), *idle(10_000, 60 if FULL else 30)]
    finally:
        os.sched_setaffinity(0, CORES)
