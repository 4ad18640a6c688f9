"""Rooms over several processes: CPU per delivery beside a floor and other libraries. Linux only, with two processors.

Every server is a process, pinned to one processor; the engine and the load run on another. Turns of all peers alternate
and medians are compared. A quick run takes some minutes; ``ZCLI_BENCH_FULL=1`` takes more turns.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import time
from threading import Thread

from tests.benchmarks import scale_load as load
from tests.benchmarks.bench_websocket import allow_sockets
from tests.benchmarks.report import Row
from tests.benchmarks.websocket_load import process_cpu
from tests.broken_engines import Engine, engine

FULL = os.environ.get("ZCLI_BENCH_FULL") == "1"
TURNS = 7 if FULL else 3
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

#: The peers of the fan-out; zcli@nats is measured beside the same floor.
FAN_OUT = ("zcli", "floor", "python-socketio", "channels_redis core", "channels_redis pubsub")
FAN_OUT_BUDGETS = {"floor": 1.15, "python-socketio": 0.5}


def fan_out(listeners: int, names: tuple[str, ...] = FAN_OUT) -> list[Row]:
    """Measure CPU per delivery of 256 bytes to a room over two processes: of the publisher, and of the other."""
    rows = []
    found = fan_out_costs(listeners, names)
    for at, who in enumerate(("publisher, a delivery", "receiver, a delivery", "engine, a message")):
        for ours in [name for name in names if name.startswith("zcli")]:
            what = f"B1 fan-out to {listeners} on 2, {who}" + (", NATS" if "@" in ours else "")
            for name in names:
                if not name.startswith("zcli"):
                    budget = None if "@" in ours or at == 2 else FAN_OUT_BUDGETS.get(name)
                    rows.append(Row(what, found[ours][at], name, found[name][at], "µs", budget))
    return rows


def fan_out_costs(listeners: int, names: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Return microseconds of each peer: per delivery of the publisher and the receiver, per message of the engine."""
    text = "Bhall|" + "a" * 250
    rounds = max(4, 10_000 // listeners)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        running, brokers = {}, {}
        for name in names:
            broker = brokers[name] = stack.enter_context(engine("nats" if name.endswith("@nats") else "redis"))
            os.sched_setaffinity(broker.process.pid, {CORES[-1]})
            running[name] = stack.enter_context(load.servers(name.partition("@")[0], [broker.url] * 2, CORES[0]))
        for turn in range(TURNS + 1):
            for name in names:
                with load.crowd(running[name], listeners, lambda number: "hall") as members:
                    load.fan_out(members[0], members, text, 2)
                    before = _cpu(running[name], brokers[name])
                    load.fan_out(members[0], members, text, rounds)
                    after = _cpu(running[name], brokers[name])
                if turn:
                    publisher, receiver, broker_cpu = (now - then for now, then in zip(after, before, strict=True))
                    each = rounds * listeners / 2
                    found[name].append((publisher / each * 1e6, receiver / each * 1e6, broker_cpu / rounds * 1e6))
    return {name: tuple(map(statistics.median, zip(*values, strict=True))) for name, values in found.items()}


def _cpu(running: list[load.Server], broker: Engine) -> list[float]:
    """Return the CPU seconds of the servers and their engine so far."""
    return [*(server.cpu for server in running), process_cpu(broker.process.pid)]


def latency(name: str, messages: int = 1000) -> list[Row]:
    """Measure the time from sending a message in one process to its arrival at a client of another, one at a time."""
    times = []
    peer, _, at = name.partition("@")
    with engine(at or "redis") as broker, load.servers(peer, [broker.url] * 2) as (one, two):
        sender, receiver = load.Client(one, "hall"), load.Client(two, "hall")
        time.sleep(1)
        for _ in range(messages):
            began = time.perf_counter()
            sender.send("Bhall|" + "a" * 250)
            receiver.next_text()
            times.append((time.perf_counter() - began) * 1e3)
            sender.next_text()
        sender.close()
        receiver.close()
    times.sort()
    half, most = times[messages // 2], times[messages * 99 // 100]
    return [Row(f"B1 latency between 2 processes, {name}, half of the messages", half, "99 of 100", most, "ms")]


def uninterested() -> list[Row]:
    """Measure the CPU of a process that has no member of the rooms to which others publish."""
    text, rooms, messages = "a" * 200, 100, 3000
    found: dict[str, float] = {}
    for name in ("zcli", "python-socketio"):
        with engine("redis") as broker, load.servers(name, [broker.url] * 2, CORES[0]) as (busy, other):
            sender, bystander = load.Client(busy), load.Client(other, "elsewhere")
            for number in range(rooms):
                sender.join(f"room {number}")
            time.sleep(1)
            values = []
            for _ in range(TURNS):
                before = other.cpu
                for number in range(messages):
                    sender.send(f"Broom {number % rooms}|{text}")
                    sender.next_text()
                time.sleep(0.2)
                values.append((other.cpu - before) / messages * 1e6)
            found[name] = statistics.median(values)
            sender.close()
            bystander.close()
    what = "B3 process without members, a message"
    return [Row(what, found["zcli"], "python-socketio", found["python-socketio"], "µs", 0.05)]


def memory_of_rooms(rooms: int) -> list[Row]:
    """Measure resident memory for each room with one member, of the server and of Redis."""
    found: dict[str, tuple[float, float]] = {}
    for name in ("zcli", "python-socketio"):
        with engine("redis") as broker, load.servers(name, [broker.url], CORES[0]) as (server,):
            client = load.Client(server, "first")
            before, used = server.rss, int(broker.info("memory")["used_memory"])
            for number in range(rooms):
                client.join(f"room {number}")
            found[name] = tuple(
                value / rooms for value in (server.rss - before, int(broker.info("memory")["used_memory"]) - used)
            )  # type: ignore[assignment]
            client.close()
    return [
        Row(f"B3 memory of {what}, a room", found["zcli"][at], "python-socketio", found["python-socketio"][at], "B")
        for at, what in enumerate(("a process", "Redis"))
    ]


def publishing(kind: str) -> list[Row]:
    """Measure the time of a publish: one task that waits for each, 64 tasks, and 8 threads.

    There is no budget. On loopback a publish waits for little more than its own CPU and that of the engine, so 64 tasks
    cannot be 10 times as fast as one. Over a network they share its round trip.
    """
    values: dict[int, list[float]] = {1: [], 64: [], 0: []}
    with engine(kind) as broker, load.servers("zcli", [broker.url], CORES[0]) as (server,):
        client = load.Client(server)
        for turn in range(TURNS + 1):
            for tasks, found in values.items():
                client.send(f"W{tasks}|1|empty")
                rate = float(client.next_text())
                if turn:
                    found.append(1e6 / rate)
        client.close()
    one, many, threads = (statistics.median(found) for found in values.values())
    what = f"B4 time of a publish on {kind}"
    return [
        Row(f"{what}, 64 tasks", many, "zCLI, 1 task", one, "µs"),
        Row(f"{what}, 8 threads", threads, "zCLI, 1 task", one, "µs"),
    ]


def engine_under_load(subscribers: tuple[int, ...]) -> list[Row]:
    """Measure the CPU of Redis for a message of 300 bytes to so many processes, when messages come without a pause."""
    count = 20_000
    command = b"*3\r\n$7\r\nPUBLISH\r\n$6\r\nr:hall\r\n$300\r\n" + b"a" * 300 + b"\r\n"
    found = {}
    for number in subscribers:
        with engine("redis") as broker, contextlib.ExitStack() as stack:
            publisher = stack.enter_context(socket.create_connection((load.LOOPBACK, broker.port), 60))
            for _ in range(number):
                sock = stack.enter_context(socket.create_connection((load.LOOPBACK, broker.port), 60))
                sock.sendall(b"SUBSCRIBE r:hall\r\n")
                sock.recv(100)
                Thread(target=_read_all, args=(sock,), daemon=True).start()
            before, answers = process_cpu(broker.process.pid), 0
            for _ in range(count // 100):
                publisher.sendall(command * 100)
                while answers < 100:
                    answers += publisher.recv(65536).count(b"\n")
                answers -= 100
            found[number] = (process_cpu(broker.process.pid) - before) / count * 1e6
    few = min(subscribers)
    return [
        Row(f"Redis under load, a message to {number} processes", found[number], f"to {few}", found[few], "µs")
        for number in subscribers
        if number != few
    ]


def _read_all(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 18):
            pass


def presence(members: int) -> list[Row]:
    """Measure four processes at rest with members in one room, and the presence after one was killed."""
    processes, seconds = 4, 20.0
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(engine("redis"))
        running = stack.enter_context(load.servers("zcli", [broker.url] * processes))
        clients = stack.enter_context(load.crowd(running, members, lambda number: f"hall|client {number}"))
        time.sleep(5)
        cpu, commands = [server.cpu for server in running], broker.commands
        time.sleep(seconds)
        used = [server.cpu - before for server, before in zip(running, cpu, strict=True)]
        asked = (broker.commands - commands - 1) / seconds / processes
        count = _count(clients[0])
        if count != members:
            raise RuntimeError(f"{count} members are present, not {members}")
        running[-1].process.kill()
        began = time.monotonic()
        while _count(clients[0]) != members - members // processes:
            if time.monotonic() > began + 60:
                raise RuntimeError(f"after 60 s {_count(clients[0])} members are present")
            time.sleep(0.05)
        healed = time.monotonic() - began
    what = f"{members} members on {processes} processes"
    return [
        Row(f"B8 {what}: one was killed, time until right", healed, "allowed", 15.0, "s", 1.0),
        Row(f"B8 {what}: commands a second, each", asked, "allowed", 1.0, "", 1.0),
        Row(f"B13 {what}: idle CPU, each", statistics.median(used) / seconds * 100, "allowed", 1.0, "%", 1.0),
    ]


def _count(client: load.Client) -> int:
    client.send("Chall")
    return int(client.next_text())


def measure() -> list[Row]:
    """Run the scenarios."""
    if len(CORES) < 2:
        raise RuntimeError("this benchmark needs Linux and two processors: one for the servers, one for the load")
    allow_sockets(24_000)
    try:
        rows = presence(10_000 if FULL else 1_000)  # first, because its load needs both processors
        os.sched_setaffinity(0, {CORES[-1]})
        rows += fan_out(100)
        # At 1000 clients, the core layer of channels_redis times out and closes its clients.
        rows += fan_out(1000, tuple(name for name in FAN_OUT if name != "channels_redis core"))
        rows += fan_out(1000, ("zcli@nats", "floor"))
        rows += latency("zcli") + latency("zcli@nats") + latency("python-socketio") + latency("channels_redis pubsub")
        rows += uninterested() + memory_of_rooms(2000)
        rows += engine_under_load((2, 8, 32))
        return rows + publishing("redis") + publishing("nats")
    finally:
        os.sched_setaffinity(0, CORES)
