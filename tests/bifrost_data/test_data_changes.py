"""The change table: complete and in order, whatever happens to the processes that write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data_services import ADMIN, ANN, Events, in_loop, rows_of, serving, until
from zcli_bifrost.data import changes
from zcli_bifrost.data.service import DataService

WRITES = 20
_WRITER = Path(__file__).with_name("writer_process.py")


@contextlib.contextmanager
def _writer(url: str, name: str, number: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(_WRITER), url, name, str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        try:
            yield writer
        finally:
            writer.kill()


async def _assert_consistent(service: DataService) -> None:
    """Each row is in one change, and each change has its rows."""
    found = (await service.changes_since(0)).changes
    assert found is not None
    assert [each.version for each in found] == list(range(1, len(found) + 1))
    keys = [key for each in found for key in each.keys or ()]
    assert sorted(keys) == [row["id"] for row in await rows_of(service, ADMIN, "notes", limit=1000)]


@pytest.mark.slow
@in_loop
async def test_changes_of_two_processes_come_in_order(url: str) -> None:
    """A reader never sees a version while a lower one is missing, and gets each exactly once."""
    async with serving(url) as service:
        with _writer(url, "ann", WRITES) as ann, _writer(url, "bob", WRITES) as bob:
            await _follow(service, [ann, bob])
        await _assert_consistent(service)
        assert len(await rows_of(service, ADMIN, "notes", limit=1000)) == 2 * sum(1 + n % 3 for n in range(WRITES))


async def _follow(service: DataService, writers: list[subprocess.Popen[str]]) -> None:
    known, seen = 0, []
    while any(writer.poll() is None for writer in writers) or (await service.changes_since(known)).changes:
        found = await service.changes_since(known)
        assert found.changes is not None, "a version became visible after a higher one"
        seen += [each.version for each in found.changes]
        known = found.version
        await asyncio.sleep(0.01)
    for writer in writers:
        out, err = writer.communicate()
        assert writer.returncode == 0, err
        assert len(out.splitlines()) == WRITES
    assert seen == list(range(1, 2 * WRITES + 1))


@pytest.mark.slow
def test_process_killed_leaves_no_half_write(url: str) -> None:
    """After SIGKILL at any time, rows and changes agree, others go on, and their subscribers have the state."""

    @in_loop
    async def check() -> None:
        events = Events()
        async with serving(url, deliver=events) as service:
            await service.subscribe(ADMIN, "notes", subscriber="s")
            for round_ in range(4):
                with _writer(url, f"w{round_}", 10_000) as writer:
                    assert writer.stdout is not None
                    for _ in range(3 + 5 * round_):
                        writer.stdout.readline()
                    writer.kill()
                    out, _ = writer.communicate()
                confirmed = [int(line.split()[0]) for line in out.splitlines() if line.endswith(("1", "2", "3"))]
                written = await service.create(ANN, "notes", {"text": f"after {round_}"})
                assert written.version > max(confirmed, default=0)
                await _assert_consistent(service)
            await until(lambda: service._follower.known == written.version, "the follower")
            shown = {row["id"] for event in events.of("s") for row in event["rows"]}
            assert shown == {row["id"] for row in await rows_of(service, ADMIN, "notes", limit=1000)}

    check()


@in_loop
async def test_changes_are_trimmed(sqlite_url: str) -> None:
    """Old changes are deleted; who is further behind learns that it must read everything again."""
    kept, every = changes.KEPT, changes._TRIM_EVERY
    changes.KEPT, changes._TRIM_EVERY = 10, 4
    try:
        async with serving(sqlite_url) as service:
            for number in range(40):
                await service.create(ANN, "folders", {"title": str(number)})
            assert (await service.changes_since(5)).changes is None
            found = await service.changes_since(35)
            assert [each.version for each in found.changes or ()] == [36, 37, 38, 39, 40]
            assert (await service.changes_since(40)) == (40, [])
            assert (await service.changes_since(41)).changes is None
            rows = await service.database.read(
                lambda c: c.exec_driver_sql("SELECT count(*) FROM zcli_bifrost_changes").scalar_one()
            )
            assert rows <= 14
    finally:
        changes.KEPT, changes._TRIM_EVERY = kept, every


@in_loop
async def test_follower_behind_reads_everything_again(sqlite_url: str) -> None:
    """A gap, or a database from a backup with a lower version, empties the cache and refreshes subscribers."""
    events = Events()
    async with serving(sqlite_url, deliver=events) as service:
        await service.create(ANN, "notes", {"text": "x"})
        await service.subscribe(ANN, "notes", subscriber="s")
        await until(lambda: service._follower.known == 1 and service._follower.is_current(), "the poll of the write")
        await service.read(ANN, "notes")
        await service.read(ANN, "notes")

        def replace(connection: Any) -> None:
            connection.exec_driver_sql("UPDATE notes SET text = 'restored'")
            connection.exec_driver_sql("UPDATE zcli_bifrost_version SET version = 0")
            connection.exec_driver_sql("DELETE FROM zcli_bifrost_changes")

        await service.database.write(replace)
        await until(lambda: service._follower.known == 0, "the follower")
        assert [event["action"] for event in events.of("s")][-1:] == ["refresh"]
        assert "restored" in (await service.read(ANN, "notes")).text
        await service.create(ANN, "notes", {"text": "y"})
        await until(lambda: events.of("s")[-1]["action"] == "insert", "the next event")


@in_loop
async def test_versions_are_those_of_the_rows(url: str) -> None:
    """While others write, the version of each result belongs to the rows in it."""
    async with serving(url) as service, serving(url) as other:

        async def write() -> None:
            for number in range(20):
                await other.create(ANN, "folders", {"title": str(number)})

        async def read() -> None:
            while not writing.done():
                for options in ({}, {"limit": 1, "order_by": "-id"}, {"limit": 0}, {"offset": 1000}):
                    result = await service.read(ANN, "folders", no_cache=True, **options)  # type: ignore[arg-type]
                    found = json.loads(result.text)
                    if options.get("limit") == 1 and found["rows"]:
                        assert found["rows"][0]["id"] == result.version
                    elif "offset" not in options:
                        assert found["total"] == result.version

        writing = asyncio.ensure_future(write())
        await asyncio.gather(read(), read(), writing)
