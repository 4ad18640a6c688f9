"""The cost of plugins at run time: of those without running hooks, and of hooks with code to run.

It is CPU time, user and system: of this process for a GET, of server processes for WebSockets. Turns of all sets of
plugins alternate and medians are compared. There is no hook for a WebSocket message, so an echo must cost the same.
Linux only, with two processors; takes about a minute.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import hooks_plugins
from tests.benchmarks import websocket_load as load
from tests.benchmarks.report import Row, pinned

TURNS = 31
CALLS_A_TURN = 30
UPGRADES_A_TURN = 60
ECHO_SECONDS = 0.15
#: The difference of two measurements of the same work, mostly between two processes; a row shows it.
NOISE = 1.1
#: The allowed cost of an operation compared with the same operation plus the hook's code, which is cheaper in a loop.
CALLING = 1.1


def measure() -> list[Row]:
    """Return rows for GET, echo and upgrades, each compared with zCLI's own plugins only."""
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    if len(processors) < 2:
        raise RuntimeError("this benchmark needs Linux and two processors: one for the server, one for the load")
    with tempfile.TemporaryDirectory() as name, pinned():
        folder = Path(name)
        sites = {plugins: hooks_plugins.install(folder, plugins) for plugins in hooks_plugins.SETS}
        work = _cost_of_work()
        other = min(processors)  # this process runs on the first
        return [*_http_rows(folder, sites, work, other), *_websocket_rows(folder, sites, work, other)]


def _cost_of_work() -> float:
    """Return the microseconds of the work of a hook."""
    code = compile(f"def work():\n    {hooks_plugins.WORK}", "work", "exec")
    found: dict[str, Callable[[], None]] = {}
    exec(code, found)
    return statistics.median(_cost(found["work"], 200) for _ in range(TURNS))


def _cost(call: Callable[[], Any], calls: int) -> float:
    before = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - before) / calls * 1e6


def _medians(measures: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Alternate the turns; a first turn of each warms up and does not count."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(TURNS + 1):
        for name, measure_one in measures.items():
            value = measure_one()
            if turn:
                values[name].append(value)
    return {name: statistics.median(found) for name, found in values.items()}


def _rows(what: str, found: dict[str, float], kind: str, hook: str, work: float) -> list[Row]:
    none = found["none"]
    rows = [Row(f"{what}, no plugin again", found["again"], "no plugin", none, "µs")]
    rows.append(Row(f"{what}, 20 plugins without such a hook", found["idle"], "no plugin", none, "µs", NOISE))
    rows.append(Row(f"{what}, {hook} does nothing", found[f"{kind}-trivial"], "no plugin", none, "µs", CALLING))
    label = f"no plugin + {work:.1f} µs"
    rows.append(Row(f"{what}, {hook} works {work:.1f} µs", found[f"{kind}-work"], label, none + work, "µs", CALLING))
    return rows


# HTTP -----------------------------------------------------------------------------------------------------------


def _http_rows(folder: Path, sites: dict[str, Path], work: float, processor: int) -> list[Row]:
    sys.path.insert(0, str(Path(__file__).parents[2] / "Demos"))
    try:
        from local_httpbin import httpbin_process
    finally:
        del sys.path[0]
    sets = [name for name in sites if not name.startswith("websocket")]
    with contextlib.ExitStack() as stack:
        url, _ = stack.enter_context(httpbin_process(https=False, cpu=processor))
        calls = {name: _getter(stack, folder, sites[name], f"{url}/get") for name in sets}
        found = _medians({name: lambda call=call: _cost(call, CALLS_A_TURN) for name, call in calls.items()})
    return _rows("http_get", found, "http", "zcli_http_response", work)


def _getter(stack: contextlib.ExitStack, folder: Path, site: Path, url: str) -> Callable[[], Any]:
    """Return a function that sends a GET by a ``zCLI`` with these plugins."""
    from zCLI import zCLI

    sys.path.insert(0, str(site))
    try:
        z = stack.enter_context(zCLI({"deployment": "Production", "title": "bench", "logger_path": str(folder)}))
    finally:
        sys.path.remove(str(site))
    assert z.comm.http_get(url) is not None
    return lambda: z.comm.http_get(url)


# WebSocket ------------------------------------------------------------------------------------------------------


def _websocket_rows(folder: Path, sites: dict[str, Path], work: float, processor: int) -> list[Row]:
    sets = [name for name in sites if not name.startswith("http")]
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(_server(folder, sites[name], processor)) for name in sets}
        echoes = _medians({name: lambda s=server: _echo(*s) for name, server in servers.items()})
        upgrades = _medians({name: lambda s=server: _upgrades(*s) for name, server in servers.items()})
    label = "echo 64 B text, 50 x 4"
    return [
        Row(f"{label}, no plugin again", echoes["again"], "no plugin", echoes["none"], "µs"),
        Row(f"{label}, 20 plugins without hooks", echoes["idle"], "no plugin", echoes["none"], "µs", NOISE),
        Row(f"{label}, hooks for clients", echoes["websocket-work"], "no plugin", echoes["none"], "µs", NOISE),
        *_rows("a connection", upgrades, "websocket", "zcli_websocket_opened/closed", 2 * work),
    ]


@contextlib.contextmanager
def _server(folder: Path, site: Path, processor: int) -> Iterator[tuple[int, int]]:
    """Start a server with these plugins on the other processor; return its process id and port."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(site), str(root), str(root / "plugins"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, hooks_plugins.__file__, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        os.sched_setaffinity(process.pid, {processor})
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def _echo(pid: int, port: int) -> float:
    """Return CPU microseconds per echoed message."""
    payload = b"a" * 64
    with load.clients(port, 50) as sockets:
        load.echo(sockets, payload, True, 4, 0)
        before = load.process_cpu(pid)
        done = load.echo(sockets, payload, True, 4, ECHO_SECONDS)
        return (load.process_cpu(pid) - before) / done * 1e6


def _upgrades(pid: int, port: int) -> float:
    """Return CPU microseconds per connection that is opened and reset."""
    before = load.process_cpu(pid)
    for _ in range(UPGRADES_A_TURN):
        load.reset(load.connect(port))
    return (load.process_cpu(pid) - before) / UPGRADES_A_TURN * 1e6
