"""WebSocket servers side by side: echo, broadcast, idle memory, upgrades. Linux only, with two processors.

Every server is a process, pinned to one processor; the load comes from this process, pinned to another. The result is
CPU time of the server per message, delivery or upgrade (user and system). Turns of all servers alternate and medians
are compared. A quick run takes about 90 seconds; ``ZCLI_BENCH_FULL=1`` measures everything, in about ten minutes.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import websocket_load as load
from tests.benchmarks.report import Row

HERE = Path(__file__).resolve().parent
FULL = os.environ.get("ZCLI_BENCH_FULL") == "1"

#: The other servers, by their names in websocket_peers.py; ``@uvloop`` runs one on uvloop.
ASYNCIO = ("zcli", "floor", "websockets", "aiohttp", "picows")
UVLOOP = (
    "zcli@uvloop", "websockets@uvloop", "aiohttp@uvloop", "picows@uvloop",
    "uvicorn+wsproto@uvloop", "uvicorn+websockets@uvloop",
)  # fmt: skip

#: zCLI's servers, and the marks of their rows.
VARIANTS = {"zcli": "", "zcli-pure": ", without the extra fast"}

#: zCLI's budget compared with each server, on asyncio's own loop.
Budgets = dict[tuple[str, str], float]
ECHO_BUDGETS: Budgets = {("zcli", "websockets"): 0.33, ("zcli", "aiohttp"): 0.85, ("zcli", "picows"): 1.4}
DEFLATE_BUDGETS: Budgets = {("zcli", "websockets"): 0.8}
BULK_BUDGETS: Budgets = {("zcli", "websockets"): 0.8}
BROADCAST_BUDGETS: Budgets = {("zcli", "floor"): 1.15, ("zcli", "websockets"): 0.65}
MEMORY_BUDGETS: Budgets = {("zcli", "websockets"): 0.7}
UPGRADE_BUDGETS: Budgets = {("zcli", "websockets"): 1.0}
IDLE_BUDGET = 1.2
ROOM_BUDGET = 1.05
ASGI_BUDGET = 1.15


class Server(NamedTuple):
    """A running server."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @property
    def cpu(self) -> float:
        """Return CPU seconds so far."""
        return load.process_cpu(self.process.pid)

    @property
    def rss(self) -> int:
        """Return resident bytes."""
        return load.process_rss(self.process.pid)


@contextlib.contextmanager
def servers(names: tuple[str, ...]) -> Iterator[list[Server]]:
    """Run servers on one processor and this process on another; end each by its own process id."""
    before = os.sched_getaffinity(0)
    root = HERE.parent.parent
    path = os.pathsep.join([str(root), str(root / "plugins"), str(HERE)])
    running: list[Server] = []
    try:
        for name in names:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "websocket_peers.py"), name],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
            os.sched_setaffinity(process.pid, {min(before)})
            running.append(Server(name, process, 0))
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{name} did not start: is it installed? (the extra bench)")
            running[-1] = running[-1]._replace(port=int(line))
        os.sched_setaffinity(0, {max(before)})
        yield running
    finally:
        os.sched_setaffinity(0, before)
        for server in running:
            server.process.kill()
            server.process.wait()
            server.process.stdout.close()  # type: ignore[union-attr]


def medians(names: tuple[str, ...], turns: int, measure_one: Callable[[Server], float]) -> dict[str, float]:
    """Alternate the servers' turns; a first turn of each warms up and does not count."""
    values: dict[str, list[float]] = {name: [] for name in names}
    with servers(names) as running:
        for turn in range(turns + 1):
            for server in running:
                value = measure_one(server)
                if turn:
                    values[server.name].append(value)
    return {name: statistics.median(found) for name, found in values.items()}


def compare(what: str, unit: str, found: dict[str, float], budgets: Budgets) -> list[Row]:
    """Return a row for each server, compared with zCLI on the same event loop."""
    rows = []
    for ours in [name for name in found if name.startswith("zcli")]:
        variant, _, loop = ours.replace("-deflate", "").partition("@")
        label = what + (", on uvloop" if loop else "") + VARIANTS[variant]
        for name, value in found.items():
            peer, _, its_loop = name.replace("-deflate", "").partition("@")
            if not name.startswith("zcli") and its_loop == loop:
                budget = None if loop else budgets.get((variant, peer))
                rows.append(Row(label, found[ours], peer, value, unit, budget))
    return rows


# Scenarios ------------------------------------------------------------------------------------------------------


def echo_cost(server: Server, size: int, text: bool, connections: int, in_flight: int, seconds: float) -> float:
    """Return CPU microseconds per echoed message."""
    payload = b"a" * size
    with load.clients(server.port, connections) as sockets:
        load.echo(sockets, payload, text, in_flight, 0)
        before = server.cpu
        done = load.echo(sockets, payload, text, in_flight, seconds)
        return (server.cpu - before) / done * 1e6


def echo(
    names: tuple[str, ...], size: int, text: bool, connections: int, in_flight: int, budgets: Budgets
) -> list[Row]:
    """Measure messages of one size over so many connections."""
    found = medians(names, TURNS, lambda server: echo_cost(server, size, text, connections, in_flight, SECONDS))
    kind = "text" if text else "binary"
    length = f"{size // 1024} KiB" if size >= 1024 else f"{size} B"
    return compare(f"echo {length} {kind}, {connections} x {in_flight}", "µs", found, budgets)


def messages_echo(
    names: tuple[str, ...], what: str, frames: Sequence[bytes], headers: str, budgets: Budgets
) -> list[Row]:
    """Return CPU microseconds per echoed message, for messages that are made before."""

    def one(server: Server) -> float:
        with load.clients(server.port, 20, headers) as sockets:
            load.echo_frames(sockets, frames, 2, 0)
            before = server.cpu
            done = load.echo_frames(sockets, frames, 2, SECONDS)
            return (server.cpu - before) / done * 1e6

    return compare(what, "µs", medians(names, TURNS, one), budgets)


def deflate_echo() -> list[Row]:
    """Measure JSON texts of 1 KiB with permessage-deflate, in a window of 4 KiB both ways."""
    frames = [load.compressed_frame(message) for message in load.json_messages(64, 1024)]
    names = ("zcli-deflate", "websockets-deflate", "aiohttp-deflate")
    return messages_echo(names, "echo 1 KiB JSON text, permessage-deflate", frames, load.DEFLATE, DEFLATE_BUDGETS)


def fragments_echo() -> list[Row]:
    """Measure text messages of 4 KiB in 64 fragments."""
    frames = [load.fragmented_frames(b"a" * 4096, 64)]
    return messages_echo(("zcli", "websockets", "aiohttp"), "echo 4 KiB text in 64 fragments", frames, "", {})


def echo_beside_idle(idle: int) -> list[Row]:
    """Measure echoes with so many idle connections beside them: two servers, one with the idle connections."""
    crowds = contextlib.ExitStack()
    crowded: list[int] = []

    def one(server: Server) -> float:
        if server.name == "zcli+idle" and not crowded:
            crowds.enter_context(load.clients(server.port, idle))
            crowded.append(server.port)
        return echo_cost(server, 64, True, 50, 4, SECONDS)

    with crowds:
        found = medians(("zcli", "zcli+idle"), TURNS, one)
    what = f"echo 64 B text, 50 x 4, beside {idle} idle"
    return [Row(what, found["zcli+idle"], "zCLI beside none", found["zcli"], "µs", IDLE_BUDGET)]


def broadcast_cost(server: Server, listeners: int) -> float:
    """Return CPU microseconds per delivery of 256 bytes."""
    payload = b"B" + b"a" * 255
    with load.clients(server.port, listeners + 1) as (trigger, *others):
        load.broadcast(trigger, others, payload, 1)
        before = server.cpu
        deliveries = load.broadcast(trigger, others, payload, max(2, 10_000 // listeners))
        return (server.cpu - before) / deliveries * 1e6


def broadcast_to_room(listeners: int) -> list[Row]:
    """Return CPU microseconds per delivery to the clients of a room, compared with a broadcast to all."""
    found = medians(("product", "product-room"), max(TURNS, 7), lambda server: broadcast_cost(server, listeners))
    what = f"broadcast 256 B to a room of {listeners}, a delivery"
    return [Row(what, found["product-room"], "to all", found["product"], "µs", ROOM_BUDGET)]


def asgi_echo() -> list[Row]:
    """Measure zCLI as an ASGI application, and the transport ``uvicorn``, beside a bare application on that server."""
    rows = []
    for implementation in ("wsproto", "websockets"):
        bare, ours = f"uvicorn+{implementation}", f"uvicorn+{implementation}+zcli"
        found = medians((bare, ours), TURNS, lambda server: echo_cost(server, 64, True, 50, 4, SECONDS))
        rows.append(Row("echo 64 B text, as ASGI application", found[ours], bare, found[bare], "µs", ASGI_BUDGET))
    names = ("zcli-on-uvicorn", "uvicorn+websockets", "zcli")
    found = medians(names, TURNS, lambda server: echo_cost(server, 64, True, 50, 4, SECONDS))
    what, ours = "echo 64 B text, transport uvicorn", found.pop("zcli-on-uvicorn")
    return rows + [Row(what, ours, peer, cost, "µs") for peer, cost in found.items()]


def broadcast(sizes: tuple[int, ...]) -> list[Row]:
    """Return CPU microseconds per delivery of 256 bytes."""
    rows, ours = [], {}
    for listeners in sizes:

        def one(server: Server, listeners: int = listeners) -> float:
            return broadcast_cost(server, listeners)

        found = medians(ASYNCIO, min(TURNS, 5), one)
        ours[listeners] = found["zcli"]
        budgets = BROADCAST_BUDGETS if listeners == 1000 else {}
        rows += compare(f"broadcast 256 B to {listeners}, a delivery", "µs", found, budgets)
    if len(sizes) > 1:
        few, many = min(sizes), max(sizes)
        rows.append(Row(f"broadcast 256 B to {many}, a delivery", ours[many], f"zCLI to {few}", ours[few], "µs"))
    return rows


def idle_memory(connections: int) -> list[Row]:
    """Return resident KiB per idle connection, in a fresh process, after a warm-up that loads all code."""

    def one(server: Server) -> float:
        with load.clients(server.port, 1) as sockets:
            load.echo(sockets, b"a" * 64, True, 1, 0)
        before = server.rss
        with load.clients(server.port, connections) as sockets:
            load.echo(sockets, b"a" * 64, True, 1, 0)
            return (server.rss - before) / connections / 1024

    found = {}
    for name in ASYNCIO:
        with servers((name,)) as (server,):
            found[name] = one(server)
    return compare(f"memory, {connections} idle connections", "KiB", found, MEMORY_BUDGETS)


def upgrades(number: int) -> list[Row]:
    """Return CPU microseconds per connection that is opened and reset."""

    def one(server: Server) -> float:
        before = server.cpu
        for _ in range(number):
            load.reset(load.connect(server.port))
        return (server.cpu - before) / number * 1e6

    found = medians((*ASYNCIO, *UVLOOP) if FULL else ASYNCIO, TURNS, one)
    return compare("upgrade", "µs", found, UPGRADE_BUDGETS)


TURNS, SECONDS = (9, 0.4) if FULL else (3, 0.25)


def measure() -> list[Row]:
    """Run the scenarios; the rows in the order of their budgets."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        raise RuntimeError("this benchmark needs Linux and two processors: one for the server, one for the load")
    allow_sockets(12_000 if FULL else 4000)
    few = ("zcli", "zcli-pure", "websockets", "aiohttp", "picows")
    bulk = (*ASYNCIO, "zcli-pure", *UVLOOP) if FULL else few
    rows = echo((*ASYNCIO, *UVLOOP), 64, True, 50, 4, ECHO_BUDGETS)
    if FULL:
        rows += echo((*ASYNCIO, *UVLOOP), 64, True, 1, 1, {})
        rows += echo((*ASYNCIO, *UVLOOP), 64, True, 1000, 1, {})
        rows += echo(bulk, 1024, False, 50, 4, {})
    rows += echo(bulk, 16 * 1024, False, 20, 2, BULK_BUDGETS)
    rows += echo(bulk, 128 * 1024, False, 10, 2, BULK_BUDGETS)
    rows += deflate_echo()
    rows += fragments_echo()
    rows += asgi_echo()
    rows += echo_beside_idle(5000 if FULL else 1000)
    rows += broadcast((100, 1000, 5000) if FULL else (1000,))
    rows += broadcast_to_room(1000)
    rows += idle_memory(2000 if FULL else 1000)
    return rows + upgrades(300 if FULL else 150)


def allow_sockets(wanted: int) -> None:
    """Raise the limit of open files of this process, and of those it starts."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
