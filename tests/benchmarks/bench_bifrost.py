"""The cost of zBifrost: its data library beside SQLAlchemy alone, and its server beside ``z.comm.websocket`` alone.

It is CPU time, user and system, of a process and all its threads; with PostgreSQL wall time, because most of the work
is in the database. Turns of both sides alternate and medians are compared. Takes about two minutes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert, select
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.database import Database
from zcli_bifrost.data.follower import SHORTEST
from zcli_bifrost.data.model_file import parse_models
from zcli_bifrost.data.service import DataService
from zcli_bifrost.data.tables import make_tables
from zcli_bifrost.settings import Bifrost

from tests.benchmarks import bifrost_load
from tests.benchmarks import websocket_load as load
from tests.benchmarks.bench_websocket import Server, allow_sockets, medians
from tests.benchmarks.report import Row

TURNS = 15
CALLS = 60
ROWS = 2000
#: For the rows about the server.
TURNS_OF_WIRE = 7
SUBSCRIBERS = 1000
ROUNDS = 20
_ROWS_OF_WIRE = [{"title": "a" * 100, "points": n} for n in range(20)]
ACTOR = Actor("ann", "user")
MODELS: dict[str, Any] = {
    "tasks": {
        "fields": {
            "title": {"type": "text", "required": True},
            "state": {"type": "text", "enum": ["open", "done"], "default": "open"},
            "points": {"type": "int", "default": 1},
            "due": {"type": "datetime", "default": "now"},
        }
    }
}


def measure() -> list[Row]:
    """Return rows for SQLite, for PostgreSQL if its programs are installed, and for the server."""
    allow_sockets(4000)
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(_rows(f"sqlite:///{folder}/bench.db", "SQLite", time.process_time))
    with _postgresql() as url:
        if url is not None:
            rows += asyncio.run(_rows(url, "PostgreSQL, wall time", time.perf_counter))
    return [*rows, _cached_read(), _update(SUBSCRIBERS, 1.2), _update(1, None)]


def _cached_read() -> Row:
    """Compare a cached read with an echo of its answer, on 20 connections with 2 requests in flight each."""
    size = 0

    def one(server: Server) -> float:
        nonlocal size
        with load.clients(server.port, 20) as sockets:
            frames = [load.client_frame(b"a" * size, True)]
            if server.name == "bifrost":
                bifrost_load.ask(sockets[0], "create", model="tasks", data=_ROWS_OF_WIRE)
                size = len(bifrost_load.ask(sockets[0], "read", model="tasks", limit=20))
                for sock in sockets[1:]:
                    bifrost_load.ask(sock, "connection_info")
                frames = [bifrost_load.request("read", number, model="tasks", limit=20) for number in range(10, 100)]
            load.echo_frames(sockets, frames, 2, 0.1)
            before = server.cpu
            done = load.echo_frames(sockets, frames, 2, 0.5)
            return (server.cpu - before) / done * 1e6

    found = medians(("bifrost", "product"), TURNS_OF_WIRE, one)
    return Row(f"cached read, an answer of {size} bytes", found["bifrost"], "echo", found["product"], "us", 3.0)


def _update(subscribers: int, budget: float | None) -> Row:
    """Compare an update, with its events for so many subscribers, with a broadcast of the size of such an event.

    The cost of an update with one subscriber is that of the database: the write, and reading the change and its row.
    """
    size = 0

    def one(server: Server) -> float:
        nonlocal size
        with load.clients(server.port, subscribers + 1) as (writer, *others):
            if server.name == "product":
                load.broadcast(writer, others, b"B" * size, 2)
                before = server.cpu
                for _ in range(ROUNDS):
                    load.broadcast(writer, others, b"B" * size, 1)
                    time.sleep(SHORTEST)  # as the server pauses between two polls
                return (server.cpu - before) / ROUNDS * 1e6
            bifrost_load.ask(writer, "create", model="tasks", data=_ROWS_OF_WIRE[0])
            for sock in others:
                bifrost_load.ask(sock, "subscribe", model="tasks")
            frame = bifrost_load.request("update", model="tasks", filters={"id": 1}, data={"title": "b" * 100})
            writer.sendall(frame)
            bifrost_load.Frames(writer).answer()
            (size,) = {len(bifrost_load.Frames(sock).next()) for sock in others}
            before = server.cpu
            bifrost_load.updates(writer, others, frame, ROUNDS)
            return (server.cpu - before) / ROUNDS * 1e6

    found = medians(("bifrost", "product"), TURNS_OF_WIRE, one)
    what = f"update, subscribers: {subscribers}, events of {size} bytes"
    return Row(what, found["bifrost"], "broadcast", found["product"], "us", budget)


async def _rows(url: str, name: str, clock: Callable[[], float]) -> list[Row]:
    log = logging.getLogger("bench")
    models = parse_models(MODELS, "bench")
    service = DataService(models, Database(url, 30, log), Bifrost(), log)
    await service.start(lambda event, subscribers: None)
    for _ in range(ROWS // 1000):
        await service.create(ACTOR, "tasks", [{"title": f"task {n}", "points": n} for n in range(1000)])
    peer = _Alone(url, make_tables(models, service.database.dialect)[1]["tasks"])

    def read(filters: Any = None, **options: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: service.read(ACTOR, "tasks", filters, **options)

    def create() -> Awaitable[Any]:
        return service.create(ACTOR, "tasks", {"title": "x"})

    few = {"points": ["<", 10]}
    turns: list[tuple[str, Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]], float | None]] = [
        ("uncached read, 1 row", read({"id": 7}, no_cache=True), peer.one, 2.0),
        ("uncached read, 20 rows", read(few, no_cache=True), peer.twenty, 2.0),
        ("uncached read, page of 20 and total", read(limit=20, no_cache=True), peer.page, 2.0),
        ("cached read, 20 rows", read(few), peer.dumps, None),
        ("create of a row", create, peer.insert, None),
    ]
    try:
        return [await _compare(f"{name}: {what}", clock, *rest) for what, *rest in turns]
    finally:
        peer.engine.dispose()
        await service.close()


class _Alone:
    """What a script does that uses SQLAlchemy alone, without a thread."""

    def __init__(self, url: str, table: Any) -> None:
        self.engine = create_engine(url)
        self.table = table
        self.rows = [dict(row) for row in self._select(table.c.points < 10)]

    async def one(self) -> None:
        self._json(self._select(self.table.c.id == 7))

    async def twenty(self) -> None:
        self._json(self._select(self.table.c.points < 10))

    async def page(self) -> None:
        from sqlalchemy import func

        with self.engine.connect() as connection:
            statement = select(*self.table.c).order_by(self.table.c.id).limit(20)
            self._json(connection.execute(statement).mappings().all())
            connection.execute(select(func.count()).select_from(self.table)).scalar_one()

    async def dumps(self) -> None:
        self._json(self.rows)

    async def insert(self) -> None:
        with self.engine.begin() as connection:
            values = {"title": "x", "state": "open", "points": 1}
            connection.execute(insert(self.table).returning(*self.table.c), values).one()

    def _select(self, condition: Any) -> Any:
        with self.engine.connect() as connection:
            statement = select(*self.table.c).where(condition).order_by(self.table.c.id).limit(1000)
            return connection.execute(statement).mappings().all()

    def _json(self, rows: Any) -> str:
        return json.dumps({"rows": [{**row, "due": str(row["due"])} for row in rows], "total": len(rows)})


async def _compare(
    what: str,
    clock: Callable[[], float],
    ours: Callable[[], Awaitable[Any]],
    theirs: Callable[[], Awaitable[Any]],
    budget: float | None,
) -> Row:
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(TURNS):
        for call, found in zip((ours, theirs), costs, strict=True):
            before = clock()
            for _ in range(CALLS):
                await call()
            found.append((clock() - before) / CALLS * 1e6)
    peer = "json.dumps" if "cached read" in what and "uncached" not in what else "SQLAlchemy"
    return Row(what, statistics.median(costs[0]), peer, statistics.median(costs[1]), "us", budget)


@contextmanager
def _postgresql() -> Iterator[str | None]:
    """Run a PostgreSQL of the tests, if its programs are installed."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from service_servers import Cluster, public_folder

    found = shutil.which("initdb") or next(iter(sorted(glob("/usr/lib/postgresql/*/bin/initdb"))), None)
    if found is None:
        yield None
        return
    with public_folder() as folder:
        cluster = Cluster.make(Path(found).resolve().parent, folder / "cluster")
        with cluster.running() as port:
            import psycopg

            with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres", autocommit=True) as connection:
                connection.execute("CREATE DATABASE bench TEMPLATE template0 ENCODING 'UTF8'")
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/bench"
