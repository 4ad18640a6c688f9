"""A database that is locked, gone, read-only, full, slow or frozen: a plain error, and then it works again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from data_services import ANN, Events, cancel_begun_write, execute, in_loop, refused, rows_of, serving, until
from sqlalchemy.engine import make_url
from zcli_bifrost.data import database
from zcli_bifrost.data.service import DataService

from zcli_core.errors import ConfigError

_POSTGRESQL = pytest.mark.xdist_group("bifrost_postgresql")


def _pragma(service: DataService, pragma: str) -> None:
    """Change the one connection for writing."""
    connection: Any = service.database._writing.raw_connection()
    connection.driver_connection.execute(f"PRAGMA {pragma}")
    connection.close()


@in_loop
async def test_database_locked_fails_and_recovers(sqlite_url: str) -> None:
    """Another program holds the lock for writing; reading goes on."""
    async with serving(sqlite_url, timeout=0.2) as service:
        await service.create(ANN, "folders", {"title": "a"})
        other = sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with refused("failed", "the database is locked by another program"):
            await service.create(ANN, "folders", {"title": "b"})
        assert len(await rows_of(service, ANN, "folders")) == 1
        other.execute("ROLLBACK")
        other.close()
        await service.create(ANN, "folders", {"title": "b"})


@pytest.mark.slow
@in_loop
async def test_slow_writes_leave_the_lock_to_others(sqlite_url: str) -> None:
    """A client that makes slow writes one after another cannot keep 'zcli bifrost revoke' from writing."""
    async with serving(sqlite_url) as service:

        def write(connection: Any) -> None:
            connection.exec_driver_sql("DELETE FROM folders")
            time.sleep(0.4)

        writes = [asyncio.ensure_future(service.database.write(write)) for _ in range(10)]
        file = str(make_url(sqlite_url).database)
        for _ in range(3):
            with contextlib.closing(sqlite3.connect(file, timeout=1.2, check_same_thread=False)) as other:
                await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        for each in writes[1:]:
            each.cancel()
        await asyncio.wait(writes)


@in_loop
async def test_requests_that_wait_are_dropped_with_their_client(sqlite_url: str) -> None:
    """What has not begun when a connection ends is not done: its key may be revoked, and it may connect again."""
    async with serving(sqlite_url) as service:
        await service.create(ANN, "folders", {"title": "a"})
        busy = threading.Event()
        occupied = [asyncio.ensure_future(service.database.run(busy.wait, writes=True))]
        occupied += [asyncio.ensure_future(service.database.run(busy.wait)) for _ in range(database.READERS + 1)]
        requests = [
            service.create(ANN, "folders", {"title": "b"}),
            service.update(ANN, "folders", {"id": 1}, {"title": "c"}),
        ]
        requests += [service.read(ANN, "folders", no_cache=no_cache) for no_cache in (True, False, False)]
        waiting = [asyncio.ensure_future(each) for each in requests]
        await until(lambda: service.database._waiting >= len(occupied) + 4, "the requests to wait")
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0.01)
        left = service.database._waiting
        busy.set()
        await asyncio.gather(*occupied)
        assert left <= len(occupied) + 1  # the follower may wait too
        assert [row["title"] for row in await rows_of(service, ANN, "folders")] == ["a"]


@in_loop
async def test_write_that_has_begun_goes_on_without_its_client(sqlite_url: str) -> None:
    """It is done, and all who follow the rows see it."""
    events = Events()
    async with serving(sqlite_url, deliver=events) as service:
        await service.subscribe(ANN, "folders", subscriber="s")
        await cancel_begun_write(service)
        await until(lambda: events.of("s"), "the event")


@in_loop
async def test_database_read_only_fails_and_recovers(sqlite_url: str) -> None:
    """SQLite refuses to write."""
    async with serving(sqlite_url) as service:
        for mode, expected in (("ON", True), ("OFF", False)):
            _pragma(service, f"query_only = {mode}")
            with refused("failed", "read-only") if expected else contextlib.nullcontext():
                await service.create(ANN, "folders", {"title": "a"})
        assert len(await rows_of(service, ANN, "folders")) == 1


@in_loop
async def test_database_full_fails_and_recovers(sqlite_url: str) -> None:
    """Nothing of the write stays, and reading goes on."""
    async with serving(sqlite_url) as service:
        await service.create(ANN, "notes", {"text": "a"})
        for pages, expected in ((1, True), (100_000, False)):
            _pragma(service, f"max_page_count = {pages}")
            with refused("failed", "the disk of the database is full") if expected else contextlib.nullcontext():
                await service.create(ANN, "notes", [{"text": "x" * 200}] * 200)
            assert len(await rows_of(service, ANN, "notes")) == (1 if expected else 201)


@in_loop
async def test_statement_slow_is_stopped(url: str) -> None:
    """A statement over the time limit ends with an error; the next one works."""
    slow = {
        "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n",
        "postgresql": "SELECT pg_sleep(60)",
    }
    async with serving(url) as setting_up:
        await setting_up.create(ANN, "folders", {"title": "a"})
    async with serving(url, timeout=0.3) as service:
        for _ in range(2):
            with refused("failed", "took too long"):
                await service.database.read(lambda c: c.exec_driver_sql(slow[service.database.dialect]).all())
        await asyncio.gather(*(service.read(ANN, "folders", no_cache=True) for _ in range(20)))


@in_loop
async def test_requests_waiting_are_limited(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More requests than may wait for the database are refused at once."""
    monkeypatch.setattr(database, "MAX_WAITING", 5)
    async with serving(sqlite_url) as service:
        reads = [service.read(ANN, "folders", no_cache=True) for _ in range(20)]
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert {getattr(each, "code", "ok") for each in results} == {"ok", "too_many"}
        await service.read(ANN, "folders", no_cache=True)


@in_loop
async def test_log_of_failure_has_no_values(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged with its kind, and without what clients have sent."""
    caplog.set_level(logging.DEBUG)
    async with serving(url) as service:
        await service.database.write(lambda c: c.exec_driver_sql("ALTER TABLE folders RENAME TO gone"))
        with refused("failed", "cannot be used now"):
            await service.create(ANN, "folders", {"title": "geheim"})
        with refused("failed", "cannot be used now"):
            await service.read(ANN, "folders", {"title": "geheim"})
        await service.database.write(lambda c: c.exec_driver_sql("ALTER TABLE gone RENAME TO folders"))
        await service.create(ANN, "folders", {"title": "geheim"})
        with refused("conflict"):
            await service.create(ANN, "folders", {"title": "geheim"})
    said = [record.getMessage() for record in caplog.records]
    assert sum("the database failed" in each for each in said) == 2
    assert "geheim" not in "".join(said)


@in_loop
async def test_close_while_reading_ends(sqlite_url: str) -> None:
    """Requests that run when the service closes get a result or an error; later ones an error."""
    async with serving(sqlite_url) as service:
        reads = [asyncio.ensure_future(service.read(ANN, "folders", no_cache=True)) for _ in range(20)]
        await asyncio.sleep(0)
        await service.close()
        await asyncio.wait(reads, timeout=20)
        assert all(read.done() for read in reads)
        with refused("failed", "stopping"):
            await service.read(ANN, "folders", no_cache=True)


# --- PostgreSQL ---


@_POSTGRESQL
def test_postgresql_connections_lost_are_replaced(new_postgresql: Callable[[], str], postgresql_port: int) -> None:
    """After a restart of the server or a failover, the first read and the first write work."""

    @in_loop
    async def check() -> None:
        url = new_postgresql()
        async with serving(url) as service:
            for number in range(3):
                await service.create(ANN, "folders", {"title": str(number)})
                await asyncio.gather(*(rows_of(service, ANN, "folders") for _ in range(8)))
                execute(
                    postgresql_port,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'english' "
                    "AND application_name = 'zcli-bifrost'",
                )
                results = await asyncio.gather(*(rows_of(service, ANN, "folders") for _ in range(4)))
                assert [len(rows) for rows in results] == [number + 1] * 4

    check()


class _Proxy:
    """Passes bytes to PostgreSQL, and can stop doing so without closing anything."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.flows = asyncio.Event()
        self.flows.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        tasks: set[asyncio.Task[None]] = set()
        self._tasks = tasks
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back, there = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            await asyncio.gather(self._pipe(reader, there), self._pipe(back, writer))
        finally:
            there.close()
            writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                writer.write(data)
        writer.close()


@_POSTGRESQL
@pytest.mark.slow
def test_postgresql_frozen_fails_and_recovers(new_postgresql: Callable[[], str], postgresql_port: int) -> None:
    """A server that does not respond: an error after the time limits, free threads, and service when it is back."""

    @in_loop
    async def check() -> None:
        url, proxy, events = new_postgresql(), _Proxy(postgresql_port), Events()
        async with proxy.running() as port:
            url = url.replace(f":{postgresql_port}/", f":{port}/")
            async with serving(url, deliver=events, timeout=0.5) as service:
                await service.create(ANN, "folders", {"title": "a"})
                await service.subscribe(ANN, "folders", subscriber="s")
                proxy.flows.clear()
                writes = service.create(ANN, "folders", {"title": "b"})
                reads = [service.read(ANN, "folders") for _ in range(8)]
                results = await asyncio.gather(writes, *reads, return_exceptions=True)
                assert {getattr(each, "code", None) for each in results} == {"failed"}
                proxy.flows.set()

                async def works() -> bool:
                    with contextlib.suppress(Exception):
                        await service.create(ANN, "folders", {"title": "c"})
                        return True
                    return False

                for _ in range(100):
                    if await works():
                        break
                    await asyncio.sleep(0.1)
                await until(
                    lambda: any(row["title"] == "c" for event in events.of("s") for row in event.get("rows", ())),
                    "the event",
                )

    check()


@_POSTGRESQL
@pytest.mark.slow
def test_postgresql_frozen_at_the_end_keeps_no_thread(new_postgresql: Callable[[], str], postgresql_port: int) -> None:
    """A program ends although its database has not responded since before the stop."""

    @in_loop
    async def check() -> None:
        url, proxy = new_postgresql(), _Proxy(postgresql_port)
        async with proxy.running() as port:
            url = url.replace(f":{postgresql_port}/", f":{port}/")
            async with serving(url, timeout=0.5) as service:
                await service.create(ANN, "folders", {"title": "a"})
                proxy.flows.clear()
                reads = [asyncio.ensure_future(rows_of(service, ANN, "folders")) for _ in range(8)]
                await until(lambda: service.database._in_use, "a read")
            threads = [*service.database._readers._threads, *service.database._writers._threads]
            await until(lambda: not any(thread.is_alive() for thread in threads), "the end of the threads")
            await asyncio.gather(*reads, return_exceptions=True)

    check()


@_POSTGRESQL
def test_postgresql_unavailable_fails_and_recovers(new_postgresql: Callable[[], str], postgresql_port: int) -> None:
    """While the database admits no connections, requests fail; the cache is not used; then all goes on."""

    @in_loop
    async def check() -> None:
        url = new_postgresql().replace("postgres@", "app@")
        execute(postgresql_port, "DROP ROLE IF EXISTS app")
        execute(postgresql_port, "CREATE ROLE app LOGIN")
        schema = url.rpartition("%3D")[2]
        execute(postgresql_port, f"ALTER SCHEMA {schema} OWNER TO app", "english")
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
        try:
            async with serving(url, timeout=1.0) as service:
                await service.create(ANN, "folders", {"title": "a"})
                await until(service._follower.is_current, "the first poll")
                await service.read(ANN, "folders")
                execute(postgresql_port, "ALTER ROLE app NOLOGIN")
                execute(postgresql_port, cut)
                await until(lambda: not service._follower.is_current(), "the follower to notice")
                for request in (service.read(ANN, "folders"), service.create(ANN, "folders", {"title": "b"})):
                    with refused("failed", "cannot be used now"):
                        await request
                execute(postgresql_port, "ALTER ROLE app LOGIN")
                await until(service._follower.is_current, "the follower again")
                assert len(await rows_of(service, ANN, "folders")) == 1
                # A server that is a standby now refuses to write.
                execute(postgresql_port, "ALTER ROLE app SET default_transaction_read_only = on")
                execute(postgresql_port, cut)
                with refused("failed", "read-only"):
                    await service.create(ANN, "folders", {"title": "b"})
        finally:
            execute(postgresql_port, "DROP OWNED BY app", "english")
            execute(postgresql_port, "DROP ROLE app")

    check()


@_POSTGRESQL
def test_postgresql_wrong_password_stops_the_start(new_postgresql: Callable[[], str]) -> None:
    """The error names the setting and the reason of the server."""

    @in_loop
    async def start() -> None:
        async with serving(new_postgresql().replace("postgres@", "nobody_knows:geheim@")):
            pass

    with pytest.raises(ConfigError, match="nobody_knows") as error:
        start()
    assert "geheim" not in str(error.value)
