"""Writers, cached readers and subscribers while workers are killed: 45 seconds of it, or ZCLI_SOAK_SECONDS.

A server with four workers has a Redis as backplane and its data in PostgreSQL. The clients reconnect as a browser's
script does, also for no reason, so that they come to other workers. The history of all writes and reads must be
consistent, and at the end all subscribers must have the state of the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from async_browser import AsyncBrowser, Disconnected, Replica
from bifrost_databases import postgresql
from broken_engines import Engine, engine
from consistency import History, Read, Row, Write
from needs import needs
from script_runs import plain_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the open files are counted as Linux shows them"),
]

SECONDS = float(os.environ.get("ZCLI_SOAK_SECONDS", "45"))
WORKERS = 4
WRITERS = 8
READERS = 10
#: Pause between two kills, in seconds: at most four in a minute, because the fifth crash ends the server.
KILL_PAUSE = (15.5, 22.0)
FIRST_PAUSE = 4.0
#: So many of ten seconds, only one client writes.
FEW_WRITES = 4
#: Rows of each model that are only changed. Each writer has another one, which it makes and deletes.
ROWS = 12
GROUPS = 3
DEADLINE = 120.0

SCRIPT = """
import os, sys
from zCLI import zCLI

FIELDS = {"id": {"type": "text", "pk": True, "max_length": 20}, "value": {"type": "int"}, "part": {"type": "int"}}
ALL = {action: ["*"] for action in ("read", "create", "update", "delete")}

z = zCLI({"deployment": "Production", "title": "soak", "logger": "INFO", "logger_path": "logs", "zMode": "zBifrost",
    "websocket": {"workers": 4, "backplane": "redis", "port": 0, "close_timeout": 2},
    "backplane": {"redis": {"url": sys.argv[1]}},
    "bifrost": {"database": sys.argv[2], "query_timeout": 30,
        "models": {name: {"fields": FIELDS, "access": ALL} for name in ("busy", "calm")}}})

@z.bifrost.on("worker")
async def worker(client, data):
    return os.getpid()

z.walker.run()
"""


class Server:
    """The supervisor and its workers."""

    def __init__(self, folder: Path, redis: str, database: str) -> None:
        self.folder = folder
        (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
        self.process = psutil.Popen(
            [sys.executable, "script.py", redis, database], cwd=folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=plain_environment(folder),
        )  # fmt: skip
        line = self.process.stdout.readline()
        found = re.search(r"ws://127\.0\.0\.1:\d+", line)
        assert found is not None, line + self.process.stdout.read()
        self.url = found[0]

    def workers(self) -> list[int]:
        """Return the process ids of the workers; those that have ended are not among them."""
        found = []
        for child in self.process.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child.pid)
        return sorted(found)

    def log(self) -> str:
        return "".join(file.read_text(encoding="utf-8") for file in (self.folder / "logs").iterdir())


class Soak:
    """The clients, the kills, and what is watched."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self.server = server
        self.history = History()
        #: Copies of subscribers.
        self.copies: list[Read] = []
        self.kills = 0
        #: Answers with an error, by their code and text.
        self.errors: Counter[str] = Counter()
        self.complaints: list[str] = []
        #: Reads of a row that the client wrote through another worker.
        self.elsewhere = 0
        #: Open files of the supervisor while all workers are there.
        self.files: list[int] = []
        self._chance = chance
        self._values = itertools.count(1)
        self._over = False
        filters: list[tuple[str, dict[str, Any]]] = [("busy", {}), ("calm", {})]
        filters += [("busy", {"part": part}) for part in range(GROUPS)] + [("busy", {"value": [">", 500]})]
        self.replicas = [Replica(server.url, self._dice(), *each, self._complete) for each in filters * 2]

    def _dice(self) -> random.Random:
        return random.Random(self._chance.random())

    async def run(self, seconds: float) -> None:
        """Let clients write, read and follow for that time, while workers are killed."""
        await _Writer(self, 0, self._dice()).make_rows()
        following = [asyncio.create_task(replica.follow()) for replica in self.replicas]
        clients = [asyncio.create_task(_Writer(self, number, self._dice()).run()) for number in range(1, WRITERS + 1)]
        clients += [asyncio.create_task(_Reader(self, -number, self._dice()).run()) for number in range(READERS)]
        end, pause = time.monotonic() + seconds, FIRST_PAUSE
        while time.monotonic() + pause < end:
            await asyncio.sleep(pause)
            await self._kill()
            pause = self._chance.uniform(*KILL_PAUSE)
        await asyncio.sleep(max(0, end - time.monotonic()))
        self._over = True
        await asyncio.gather(*clients)
        await self._settle(following)

    @property
    def over(self) -> bool:
        return self._over

    @property
    def few_writes(self) -> bool:
        """Whether it is a time when only one client writes, so that other workers must notice it by themselves."""
        return time.monotonic() % 10 < FEW_WRITES

    def _complete(self, replica: Replica, version: int) -> None:
        """Note the copy of a subscriber as a read, for which no time is too late; not each one, because it is large."""
        if self._chance.random() < 0.1:
            found = {_row(replica.model, key): row["value"] for key, row in replica.rows.items()}
            expected = [] if replica.filters else [_row(replica.model, key) for key in _keys()]
            self.copies.append(Read(-1000, 0.0, 0, version, False, {**dict.fromkeys(expected), **found}))

    def next_value(self) -> int:
        return next(self._values)

    async def _kill(self) -> None:
        await _until(lambda: len(self.server.workers()) == WORKERS, "all workers are there")
        self.files.append(self.server.process.num_fds())
        os.kill(self._chance.choice(self.server.workers()), signal.SIGKILL)
        self.kills += 1

    async def _settle(self, following: list[asyncio.Task[None]]) -> None:
        """Wait until each subscriber has the state of the database."""
        reader = _Reader(self, 0, self._dice())

        async def is_complete() -> bool:
            for replica in self.replicas:
                if replica.rows != await reader.all_rows(replica.model, replica.filters):
                    return False
            return True

        try:
            await _until_true(is_complete, "all subscribers have the state of the database")
        except TimeoutError as error:
            self.complaints.append(str(error))
            for replica in self.replicas:
                rows = await reader.all_rows(replica.model, replica.filters)
                wrong = {key for key in rows.keys() | replica.rows.keys() if rows.get(key) != replica.rows.get(key)}
                shown = [(key, replica.rows.get(key), rows.get(key)) for key in sorted(wrong)][:5]
                self.complaints.append(f"subscriber of {replica.model} {replica.filters} has (key, copy, row): {shown}")
        for task in following:
            task.cancel()
        for failed in await asyncio.gather(*following, return_exceptions=True):
            if not isinstance(failed, asyncio.CancelledError):
                self.complaints.append(f"a subscriber has failed: {failed!r}")
        await asyncio.gather(*(client.disconnect() for client in [reader.browser, *self.replicas]))


class _Reader:
    """A client that reads."""

    #: How often it does something in a second, besides the time that this takes.
    pace = 15

    def __init__(self, soak: Soak, number: int, chance: random.Random) -> None:
        self.soak = soak
        self.number = number
        self.chance = chance
        self.browser = AsyncBrowser(soak.server.url, chance)
        #: The worker that has acknowledged the last write of a row, and that of this connection.
        self.wrote_on: dict[Row, int] = {}
        self.worker = 0
        self.greeted = 0

    async def run(self) -> None:
        """Read until the soak is over. Now and then reconnect, perhaps to another worker."""
        while not self.soak.over:
            try:
                await self.connect()
                await self.act()
                if self.chance.random() < 0.03 and not self.soak.few_writes:
                    await self.browser.disconnect()
            except Disconnected:
                continue
            await asyncio.sleep(self.chance.expovariate(self.pace))
        await self.browser.disconnect()

    async def connect(self) -> None:
        await self.browser.connect()
        if self.greeted != self.browser.connections:
            self.worker = (await self.browser.ask("worker"))["result"]
            self.greeted = self.browser.connections

    async def act(self) -> None:
        """Do one thing."""
        await asyncio.gather(*(self.read() for _ in range(self.chance.choice((1, 1, 3)))))

    async def read(self, row: Row | None = None) -> None:
        """Read a row, or all rows of a model or a part of it, and note what came."""
        model, key = row or (self.chance.choice(("busy", "calm")), "")
        part = self.chance.randrange(-1, GROUPS)
        filters = {"id": key} if key else {"part": part} if part >= 0 else {}
        # The answer has a new version perhaps, and the next request of this client would tell it to its worker.
        options = {"no_cache": True} if self.chance.random() < 0.1 and not self.soak.few_writes else {}
        began, seen = time.monotonic(), self.browser.seen
        answer = await self.browser.ask("read", model=model, filters=filters, **options)
        if not self.accept(answer):
            return
        values = {_row(model, found["id"]): found["value"] for found in answer["result"]["rows"]}
        expected = [_row(model, key)] if key else [] if filters else [_row(model, each) for each in _keys()]
        values = {**dict.fromkeys(expected), **values}
        self.soak.elsewhere += sum(self.wrote_on.get(each, self.worker) != self.worker for each in values)
        cached = answer.get("_cached", False)
        self.soak.history.reads.append(Read(self.number, began, seen, answer["_version"], cached, values))

    async def all_rows(self, model: str, filters: dict[str, Any]) -> dict[str, Any]:
        """Return what the database has."""
        while True:
            await self.browser.connect()
            with contextlib.suppress(Disconnected):
                answer = await self.browser.ask("read", model=model, filters=filters, no_cache=True)
                return {row["id"]: row for row in answer["result"]["rows"]}

    def accept(self, answer: dict[str, Any]) -> bool:
        """Return whether a response has a result."""
        if "error" in answer:
            self.soak.errors[f"{answer['code']}: {answer['error']}"] += 1
        return "error" not in answer


class _Writer(_Reader):
    """A client that writes, and reads its own writes."""

    pace = 40

    def __init__(self, soak: Soak, number: int, chance: random.Random) -> None:
        super().__init__(soak, number, chance)
        #: Whether its own row is there; None if that is unknown.
        self.has_row: dict[str, bool | None] = {"busy": None, "calm": None}

    async def make_rows(self) -> None:
        """Make the rows that are only changed."""
        await self.connect()
        for model, number in itertools.product(("busy", "calm"), range(ROWS)):
            assert await self.write("create", (model, f"r{number}"))
        await self.browser.disconnect()

    async def act(self) -> None:
        """Write, and mostly read that; perhaps through another worker."""
        if self.soak.few_writes:
            if self.number > 1:
                return
            await asyncio.sleep(self.chance.random())
        model = "calm" if self.chance.random() < 0.1 else "busy"
        row = model, f"r{self.chance.randrange(ROWS)}"
        if self.chance.random() < 0.2:
            row = model, f"w{self.number}"
            await self.make_or_delete(row)
        else:
            await self.write("update", row)
        if self.chance.random() < 0.2 and not self.soak.few_writes:
            await self.browser.disconnect()
            await self.connect()
        await self.read(self.chance.choice((row, None)))

    async def make_or_delete(self, row: Row) -> None:
        has, self.has_row[row[0]] = self.has_row[row[0]], None
        if has is False:
            self.has_row[row[0]] = True if await self.write("create", row) else None
        else:
            self.has_row[row[0]] = False if await self.write("delete", row) else None

    async def write(self, event: str, row: Row) -> bool:
        """Write a row and note it; return whether it was acknowledged."""
        model, key = row
        value = None if event == "delete" else self.soak.next_value()
        data = {"value": value, "part": self.chance.randrange(GROUPS)}
        request: dict[str, Any] = {"filters": {"id": key}} if event != "create" else {}
        if event != "delete":
            request["data"] = data if event == "update" else {"id": key, **data}
        write = Write(self.number, row, value, time.monotonic())
        self.soak.history.writes.append(write)
        answer = await self.browser.ask(event, model=model, **request)
        if not self.accept(answer):
            return False
        write.version, write.acked = answer["_version"], time.monotonic()
        self.wrote_on[row] = self.worker
        if event == "update" and answer["result"] != 1:
            self.soak.complaints.append(f"the update of {row} has changed {answer['result']} rows")
        return True


@functools.cache
def _row(model: str, key: str) -> Row:
    """Return a row: the same object each time, because the history of a long run has many."""
    return model, key


def _keys() -> list[str]:
    return [f"r{number}" for number in range(ROWS)] + [f"w{number}" for number in range(1, WRITERS + 1)]


async def _until_true(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not await condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {DEADLINE:g} s: {what}")
        await asyncio.sleep(0.1)


async def _until(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    await _until_true(holds, what)


@pytest.fixture
def database() -> Iterator[str]:
    with postgresql() as make:
        yield make()


@pytest.fixture
def redis() -> Iterator[Engine]:
    needs("redis-server", "redis-server")
    with engine("redis") as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, redis: Engine, database: str) -> Iterator[Server]:
    running = Server(tmp_path, redis.url, database)
    try:
        yield running
    finally:
        family = [running.process, *running.process.children()] if running.process.is_running() else []
        for each in family:
            each.kill()
        psutil.wait_procs(family)
        running.process.communicate()


def sessions(url: str) -> int:
    """Return the number of other sessions in a database of PostgreSQL."""
    import psycopg

    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = connection.execute(query).fetchone()
    return int(found[0]) if found else 0


def report(soak: Soak, stale: list[float]) -> str:
    """Return the figures of a run."""
    history = soak.history
    cached = sum(read.cached for read in history.reads)
    unknown = sum(write.version is None for write in history.writes)
    positive = sorted(each for each in stale if each > 0)
    shares = {f"p{share}": round(stale[int(len(stale) * share / 100)] * 1000) for share in (50, 90, 99)}
    return (
        f"{soak.kills} kills, {len(history.writes)} writes ({unknown} without acknowledgement), {len(history.reads)} "
        f"reads ({cached} cached), {len(stale)} values, {soak.elsewhere} of them read on another worker than written; "
        f"stale values: {len(positive)}; how stale, in ms, of all: {shares}, of these the median: "
        f"{round(positive[len(positive) // 2] * 1000) if positive else 0}, the most: {round(max(stale) * 1000)}; "
        f"events {sum(each.events for each in soak.replicas)}, reads of subscribers "
        f"{sum(each.reads for each in soak.replicas)}, copies checked {len(soak.copies)}; errors {dict(soak.errors)}"
    )


def test_bifrost_random_kills_stay_consistent(server: Server, database: str, redis: Engine, tmp_path: Path) -> None:
    """No read is too old, each subscriber ends with the state of the database, and nothing is left behind."""
    seed = os.environ.get("ZCLI_SOAK_SEED") or str(random.randrange(10**6))
    soak = Soak(server, random.Random(seed))
    asyncio.run(soak.run(SECONDS))
    problems, stale = soak.history.check()
    problems += History(soak.history.writes, soak.copies).check()[0]
    print(f"seed {seed}: {report(soak, sorted(stale))}")
    assert problems[:10] == [], f"seed {seed}: {len(problems)} problems"
    assert soak.complaints == [], f"seed {seed}"
    assert soak.kills
    assert soak.elsewhere
    family = [psutil.Process(pid) for pid in server.workers()]
    server.process.terminate()
    output, _ = server.process.communicate(timeout=DEADLINE)
    assert server.process.returncode == 0, output
    assert psutil.wait_procs(family, DEADLINE)[1] == []
    asyncio.run(_until(lambda: sessions(database) == 0, "no session is left in the database"))
    # The question itself is the one client.
    asyncio.run(_until(lambda: redis.info("clients")["connected_clients"] == "1", "no client is left in the engine"))
    left = {file.name for file in tmp_path.rglob("*") if not file.is_dir()}
    assert {name for name in left if not re.fullmatch(r"script\.py|soak\.log(\.\d+)?", name)} == set()
    assert "Traceback" not in server.log()
    half = max(1, len(soak.files) // 2)
    assert min(soak.files[half:], default=0) <= max(soak.files[:half]), soak.files
