"""WebSocket servers side by side: echo, broadcast, idle memory, upgrades. ``python bench_websocket.py [--quick]``.

Every server is a process of its own, pinned to one processor; the load comes from this process, pinned to another.
What counts is CPU time of the server per message, delivery or upgrade (user and system), as a ratio in one run: turns
of all servers alternate and medians are compared. Absolute numbers mean nothing on another machine. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import websocket_load as load  # noqa: E402

SERVER_CPU, LOAD_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))

ECHO_PEERS = (
    "floor", "zcli", "zcli@uvloop", "websockets", "websockets@uvloop", "aiohttp", "aiohttp@uvloop", "picows",
    "picows@uvloop", "uvicorn+wsproto@uvloop", "uvicorn+websockets@uvloop",
)  # fmt: skip
CROWD_PEERS = ("floor", "zcli", "zcli@uvloop", "websockets", "aiohttp", "picows")
BULK_PEERS = (*CROWD_PEERS, "zcli-pure")


@dataclass
class Server:
    """A running peer."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @property
    def cpu(self) -> float:
        """CPU seconds so far."""
        return load.process_cpu(self.process.pid)

    @property
    def rss(self) -> int:
        """Resident bytes."""
        return load.process_rss(self.process.pid)


@dataclass
class Row:
    """One scenario: what it measures, and each peer's median."""

    scenario: str
    unit: str
    medians: dict[str, float] = field(default_factory=dict)
    #: Peers that failed, with why.
    failures: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str, base: str) -> float:
        """How ``name`` compares with ``base``; below 1 is cheaper."""
        return self.medians[name] / self.medians[base]


@contextlib.contextmanager
def servers(names: tuple[str, ...]) -> Iterator[list[Server]]:
    """Run peers; each is ended by its own process id."""
    root = HERE.parent.parent
    path = os.pathsep.join([str(root), str(root / "plugins"), str(HERE)])
    running: list[Server] = []
    try:
        for name in names:
            command = [sys.executable, str(HERE / "websocket_peers.py"), name]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}
            )
            os.sched_setaffinity(process.pid, {SERVER_CPU})
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{name} did not start: is it installed?")
            running.append(Server(name, process, int(line)))
        yield running
    finally:
        for server in running:
            server.process.kill()
            server.process.wait()


def turns(row: Row, names: tuple[str, ...], count: int, measure_one: Callable[[Server], float]) -> Row:
    """Let the peers take turns; a first turn of each warms up and is not counted."""
    values: dict[str, list[float]] = {name: [] for name in names}
    with servers(names) as running:
        for turn in range(count + 1):
            for server in running:
                if server.name in row.failures:
                    continue
                try:
                    value = measure_one(server)
                except (OSError, RuntimeError) as error:
                    row.failures[server.name] = str(error)
                    continue
                if turn:
                    values[server.name].append(value)
    row.medians = {name: statistics.median(found) for name, found in values.items() if found}
    return row


def echo(
    names: tuple[str, ...], count: int, size: int, text: bool, connections: int, in_flight: int, seconds: float
) -> Row:
    """CPU microseconds per echoed message."""
    kind = "text" if text else "binary"
    row = Row(f"echo {size} B {kind}, {connections} x {in_flight}", "us/message")
    payload = b"a" * size

    def one(server: Server) -> float:
        with load.clients(server.port, connections) as sockets:
            load.echo(sockets, payload, text, in_flight, 0)
            before = server.cpu
            done = load.echo(sockets, payload, text, in_flight, seconds)
            return (server.cpu - before) / done * 1e6

    return turns(row, names, count, one)


def echo_beside_idle(names: tuple[str, ...], count: int, idle: int, seconds: float) -> Row:
    """CPU microseconds per echoed message while so many other connections are open and silent."""
    row = Row(f"echo 64 B text, 50 x 4, beside {idle} idle", "us/message")
    with contextlib.ExitStack() as stack:
        crowd: set[str] = set()

        def one(server: Server) -> float:
            if server.name not in crowd:
                stack.enter_context(load.clients(server.port, idle))
                crowd.add(server.name)
            with load.clients(server.port, 50) as sockets:
                load.echo(sockets, b"a" * 64, True, 4, 0)
                before = server.cpu
                done = load.echo(sockets, b"a" * 64, True, 4, seconds)
                return (server.cpu - before) / done * 1e6

        return turns(row, names, count, one)


def broadcast(names: tuple[str, ...], count: int, listeners: int, rounds: int) -> Row:
    """CPU microseconds per delivery of a broadcast of 256 bytes."""
    row = Row(f"broadcast 256 B to {listeners}", "us/delivery")
    payload = b"B" + b"a" * 255

    def one(server: Server) -> float:
        with load.clients(server.port, listeners + 1) as (trigger, *others):
            load.broadcast(trigger, others, payload, 1)
            before = server.cpu
            deliveries = load.broadcast(trigger, others, payload, rounds)
            return (server.cpu - before) / deliveries * 1e6

    return turns(row, names, count, one)


def idle_memory(names: tuple[str, ...], connections: int) -> Row:
    """Resident KiB per idle connection, in a fresh process, after a warm-up that loads all code."""
    row = Row(f"memory of {connections} idle connections", "KiB each")

    def one(server: Server) -> float:
        with load.clients(server.port, 1) as sockets:
            load.echo(sockets, b"a" * 64, True, 1, 0)
        before = server.rss
        with load.clients(server.port, connections) as sockets:
            load.echo(sockets, b"a" * 64, True, 1, 0)
            return (server.rss - before) / connections / 1024

    with contextlib.ExitStack() as stack:
        for name in names:
            (server,) = stack.enter_context(servers((name,)))
            try:
                row.medians[name] = one(server)
            except OSError as error:
                row.failures[name] = str(error)
    return row


def upgrades(names: tuple[str, ...], count: int, number: int) -> Row:
    """CPU microseconds per connection that is opened and reset again."""
    row = Row(f"upgrade, {number} in a row", "us/upgrade")

    def one(server: Server) -> float:
        before = server.cpu
        for _ in range(number):
            load.reset(load.connect(server.port))
        return (server.cpu - before) / number * 1e6

    return turns(row, names, count, one)


def measure(quick: bool = False) -> list[Row]:
    """Run every scenario; the rows in the order of DESIGN's budgets."""
    if SERVER_CPU == LOAD_CPU:
        raise RuntimeError("the benchmark needs two processors: one for the server, one for the load")
    os.sched_setaffinity(0, {LOAD_CPU})
    count, seconds = (3, 0.2) if quick else (9, 0.4)
    crowd = 1000 if quick else 5000
    _allow_sockets(2 * crowd + 500)
    rows = [
        echo(ECHO_PEERS, count, 64, True, 50, 4, seconds),
        echo(ECHO_PEERS, count, 64, True, 1, 1, seconds),
        echo(CROWD_PEERS, count, 64, True, 1000, 1, seconds),
        echo(BULK_PEERS, count, 1024, False, 50, 4, seconds),
        echo(BULK_PEERS, count, 16 * 1024, False, 20, 2, seconds),
        echo(BULK_PEERS, count, 128 * 1024, False, 10, 2, seconds),
        echo_beside_idle(("zcli", "websockets"), count, crowd, seconds),
    ]
    sizes = (100, 1000) if quick else (100, 1000, crowd)
    rows += [broadcast(CROWD_PEERS, count, size, max(2, 5000 // size)) for size in sizes]
    rows += [idle_memory(CROWD_PEERS, 1000 if quick else 2000), upgrades(CROWD_PEERS, count, 100 if quick else 300)]
    return rows


def _allow_sockets(wanted: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def show(rows: list[Row]) -> str:
    """The rows as one table: each peer's median, and zCLI's ratio to it."""
    lines = []
    for row in rows:
        lines.append(f"\n{row.scenario} ({row.unit})")
        for name, value in row.medians.items():
            ratio = f"{row.ratio('zcli', name):8.2f}" if "zcli" in row.medians else ""
            lines.append(f"  {name:28}{value:10.2f}   zcli/this {ratio}")
        lines += [f"  {name:28}failed: {why}" for name, why in row.failures.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a short run, good for a first look only")
    print(show(measure(arguments.parse_args().quick)))


if __name__ == "__main__":
    main()
