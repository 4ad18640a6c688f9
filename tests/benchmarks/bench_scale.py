"""Rooms over several processes: CPU per delivery beside a floor and other libraries. Linux only, with two processors.

Every server is a process, pinned to one processor; the engine and the load run on another. Turns of all peers alternate
and medians are compared. A quick run takes some minutes; ``ZCLI_BENCH_FULL=1`` takes more turns.
"""

from __future__ import annotations

import contextlib
import os
import statistics

from tests.benchmarks import scale_load as load
from tests.benchmarks.report import Row
from tests.benchmarks.scale_engines import engine

FULL = os.environ.get("ZCLI_BENCH_FULL") == "1"
TURNS = 7 if FULL else 3

#: The peers of the fan-out; zcli@nats is measured beside the same floor.
FAN_OUT = ("zcli", "floor", "python-socketio", "channels_redis core", "channels_redis pubsub")
FAN_OUT_BUDGETS = {"floor": 1.15, "python-socketio": 0.5}


def fan_out(listeners: int, names: tuple[str, ...] = FAN_OUT) -> list[Row]:
    """Measure CPU per delivery of 256 bytes to a room over two processes: of the publisher, and of the other."""
    text = "Bhall|" + "a" * 250
    rounds = max(4, 10_000 // listeners)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        running = {}
        for name in names:
            broker = stack.enter_context(engine("nats" if name.endswith("@nats") else "redis"))
            os.sched_setaffinity(broker.process.pid, {cores[-1]})
            running[name] = stack.enter_context(load.servers(name.partition("@")[0], [broker.url] * 2, cores[0]))
        for turn in range(TURNS + 1):
            for name in names:
                with load.crowd(running[name], listeners, lambda number: "hall") as members:
                    load.fan_out(members[0], members, text, 2)
                    before = [server.cpu for server in running[name]]
                    load.fan_out(members[0], members, text, rounds)
                    spent = [server.cpu - then for server, then in zip(running[name], before, strict=True)]
                if turn:
                    each = rounds * listeners / 2
                    found[name].append((spent[0] / each * 1e6, spent[1] / each * 1e6))
    rows = []
    for at, who in enumerate(("publisher", "receiver")):
        medians = {name: statistics.median(value[at] for value in values) for name, values in found.items()}
        for ours in [name for name in names if name.startswith("zcli")]:
            what = f"B1 fan-out to {listeners} on 2 processes, {who}, a delivery" + (", NATS" if "@" in ours else "")
            for name, value in medians.items():
                if not name.startswith("zcli"):
                    budget = None if "@" in ours else FAN_OUT_BUDGETS.get(name)
                    rows.append(Row(what, medians[ours], name, value, "µs", budget))
    return rows


def measure() -> list[Row]:
    """Run the scenarios."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        raise RuntimeError("this benchmark needs Linux and two processors: one for the servers, one for the load")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        return fan_out(100)
    finally:
        os.sched_setaffinity(0, before)
