"""The cost of a message through the engine of a backplane, beside the usual client libraries, and publishes per second.

CPU time of this process, user and system. The engines and the other end run in other processes. Programs: a Redis or
Valkey, and nats-server (extra ``test``). redis-py uses hiredis where it is installed. Takes about a minute.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "backplane")]
from engine_clients import make
from engines import Inbox, NatsEngine, RedisEngine

from tests.benchmarks.report import Row

TURNS = 5
MESSAGES = 20_000
SIZE = 128
#: redis.asyncio.Connection has none: with hiredis it is a C program.
_BUDGETS = {"redis-py PubSub": 0.5, "nats-py callback": 0.5}
#: A process that publishes in batches and waits for the engine after each, so that the reader is never far behind.
_FLOOD = """
import socket, sys
port, count, one, end = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3]), bytes.fromhex(sys.argv[4])
with socket.create_connection(("127.0.0.1", port)) as engine:
    if end:
        engine.recv(65536)
        engine.sendall(b'CONNECT {"verbose":false}\\r\\n')
    for _ in range(count // 100):
        engine.sendall(one * 100 + end)
        lines = 0
        while lines < (1 if end else 100):
            lines += engine.recv(65536).count(b"\\n")
"""


def measure() -> list[Row]:
    """Return microseconds for reading, and milliseconds for a thousand publishes."""
    with RedisEngine() as redis_engine, NatsEngine() as nats_engine:
        return asyncio.run(_measure(redis_engine, nats_engine))


async def _measure(redis_engine: RedisEngine, nats_engine: NatsEngine) -> list[Row]:
    one = b"*3\r\n$7\r\nPUBLISH\r\n$6\r\nzcli:r\r\n$%d\r\n%b\r\n" % (SIZE, bytes(SIZE))
    subject = b"zcli." + b"r".hex().encode()
    pub = b"PUB %b %d\r\n%b\r\n" % (subject, SIZE, bytes(SIZE))
    to_redis = (str(redis_engine.port), str(MESSAGES), one.hex(), "")
    to_nats = (str(nats_engine.port), str(MESSAGES), pub.hex(), b"PING\r\n".hex())
    parser = "hiredis" if redis.utils.HIREDIS_AVAILABLE else "no hiredis"
    readers: list[tuple[str, str, Callable[[], Awaitable[float]]]] = [
        ("redis", "zCLI", lambda: _ours("redis", redis_engine.url, to_redis)),
        ("redis", f"redis-py PubSub ({parser})", lambda: _pubsub(redis_engine.port, to_redis)),
        ("redis", f"redis-py Connection ({parser})", lambda: _connection(redis_engine.port, to_redis)),
        ("nats", "zCLI", lambda: _ours("nats", nats_engine.url, to_nats)),
        ("nats", "nats-py callback", lambda: _nats_py(nats_engine.url, subject.decode(), to_nats)),
    ]
    costs: dict[tuple[str, str], list[float]] = {}
    for _ in range(TURNS):
        for engine, who, read in readers:
            costs.setdefault((engine, who), []).append(await read())
    found = {key: statistics.median(values) for key, values in costs.items()}
    rows = [
        Row(
            f"reading a message of {SIZE} bytes, {engine}",
            found[engine, "zCLI"],
            who,
            cost,
            "us",
            _BUDGETS.get(who.partition(" (")[0]),
        )
        for (engine, who), cost in found.items()
        if who != "zCLI"
    ]
    for name, url in (("redis", redis_engine.url), ("nats", nats_engine.url)):
        single, many = await _publishes(name, url, 1), await _publishes(name, url, 64)
        rows.append(Row(f"1000 publishes of 64 tasks, {name}", many, "of 1 task", single, "ms"))
    return rows


async def _cost(flood: tuple[str, ...], done: Callable[[], Awaitable[Any]]) -> float:
    """Return the microseconds of CPU time of this process for each message until ``done`` returns."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _FLOOD, *flood, stdin=subprocess.DEVNULL)
    before = time.process_time()
    await done()
    spent = time.process_time() - before
    await process.wait()
    return spent / MESSAGES * 1e6


async def _ours(name: str, url: str, flood: tuple[str, ...]) -> float:
    class Counter(Inbox):
        count = 0

        def message(self, channel: str, data: bytes) -> None:
            self.count += 1
            if self.count == MESSAGES:
                self._changed.set()

        async def all(self) -> None:
            await self._changed.wait()

    sink = Counter()
    connection = await make(name, "zcli", url=url).connect("0" * 16, sink)
    await connection.subscribe(["r"])
    try:
        return await _cost(flood, sink.all)
    finally:
        await connection.close()


async def _pubsub(port: int, flood: tuple[str, ...]) -> float:
    async with redis.asyncio.Redis(port=port) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("zcli:r")

        async def read() -> None:
            left = MESSAGES
            while left:
                left -= await pubsub.get_message(timeout=None) is not None

        return await _cost(flood, read)


async def _connection(port: int, flood: tuple[str, ...]) -> float:
    connection = redis.asyncio.Connection(
        host="127.0.0.1", port=port, protocol=2, socket_timeout=None, retry=Retry(NoBackoff(), 0)
    )
    await connection.connect()
    await connection.send_command("SUBSCRIBE", "zcli:r")
    await connection.read_response()

    async def read() -> None:
        for _ in range(MESSAGES):
            await connection.read_response(disable_decoding=True)

    try:
        return await _cost(flood, read)
    finally:
        await connection.disconnect()


async def _nats_py(url: str, subject: str, flood: tuple[str, ...]) -> float:
    client = await nats.connect(url, allow_reconnect=False)
    done = asyncio.Event()
    left = MESSAGES

    async def message(_: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    await client.subscribe(subject, cb=message)
    await client.flush()
    try:
        return await _cost(flood, done.wait)
    finally:
        await client.close()


async def _publishes(name: str, url: str, tasks: int) -> float:
    """Return the milliseconds of wall time for a thousand publishes."""
    connection = await make(name, "zcli", url=url).connect("0" * 16, Inbox())
    count = 12_800

    async def publish() -> None:
        for _ in range(count // tasks):
            await connection.publish("nobody", bytes(SIZE))

    before = time.perf_counter()
    await asyncio.gather(*(publish() for _ in range(tasks)))
    spent = time.perf_counter() - before
    await connection.close()
    return spent / count * 1e6
