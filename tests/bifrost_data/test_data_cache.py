"""The cache: fast, bounded, and never older than what a client has seen."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from data_services import ANN, cancel_begun_write, in_loop, serving, until
from zcli_bifrost.data import follower
from zcli_bifrost.data.access import ALL_ROWS
from zcli_bifrost.data.cache import MAX_KEY, ReadCache, key_of
from zcli_bifrost.data.service import DataService, ReadResult


async def _in_step(service: DataService) -> None:
    """Wait until the follower has polled, so that the cache is in use."""
    await until(service._follower.is_current, "the first poll")


def _titles(result: ReadResult) -> list[str]:
    return [row["title"] for row in json.loads(result.text)["rows"]]


@in_loop
async def test_read_twice_is_cached_until_a_write(url: str) -> None:
    """A write of this process is in the next read; one of another process too, after at most a second."""
    async with serving(url) as service, serving(url) as other:
        await service.create(ANN, "folders", {"title": "a"})
        await _in_step(service)
        assert not (await service.read(ANN, "folders")).cached
        assert (await service.read(ANN, "folders")).cached
        await service.create(ANN, "folders", {"title": "b"})
        assert _titles(await service.read(ANN, "folders")) == ["a", "b"]
        written = await other.create(ANN, "folders", {"title": "c"})
        assert _titles(await service.read(ANN, "folders", seen=written.version)) == ["a", "b", "c"]
        await other.create(ANN, "folders", {"title": "d"})
        end = asyncio.get_running_loop().time() + 1.0
        while _titles(await service.read(ANN, "folders")) != ["a", "b", "c", "d"]:
            assert asyncio.get_running_loop().time() < end + 20, "the write of the other process does not arrive"
            await asyncio.sleep(0.01)


@in_loop
async def test_cache_is_not_used_without_the_follower(sqlite_url: str) -> None:
    """While the changes of others cannot be read, nothing comes from the cache."""
    async with serving(sqlite_url) as service:
        await _in_step(service)
        await service.read(ANN, "folders")
        assert (await service.read(ANN, "folders")).cached
        service._follower._last_poll -= follower.MAX_AGE
        await service._follower.stop()
        assert not (await service.read(ANN, "folders")).cached


@in_loop
async def test_reads_identical_run_once(sqlite_url: str) -> None:
    """Ten requests at once read the database once, also when the first of them is cancelled."""
    async with serving(sqlite_url) as service:
        await service.create(ANN, "folders", {"title": "a"})
        await _in_step(service)
        runs, may_end = 0, asyncio.Event()
        original = service._read_now

        async def counted(*args: Any) -> ReadResult:
            nonlocal runs
            runs += 1
            await may_end.wait()
            return await original(*args)

        service._read_now = counted  # type: ignore[method-assign]
        tasks = [asyncio.create_task(service.read(ANN, "folders")) for _ in range(10)]
        await until(lambda: runs, "the first read")
        tasks[0].cancel()
        may_end.set()
        results = await asyncio.gather(*tasks[1:])
        assert runs == 1
        assert [_titles(result) for result in results] == [["a"]] * 9
        assert tasks[0].cancelled()
        assert (await service.read(ANN, "folders")).cached


@in_loop
async def test_read_begun_before_a_write_is_not_joined(sqlite_url: str) -> None:
    """A request that comes after a write does not get the result of a read that began before it."""
    async with serving(sqlite_url) as service:
        await service.create(ANN, "folders", {"title": "a"})
        await _in_step(service)
        ended, may_end = asyncio.Event(), asyncio.Event()
        original = service._read_now

        async def slow(*args: Any) -> ReadResult:
            result = await original(*args)
            ended.set()
            await may_end.wait()
            return result

        service._read_now = slow  # type: ignore[method-assign]
        early = asyncio.create_task(service.read(ANN, "folders"))
        await ended.wait()
        await service.create(ANN, "folders", {"title": "b"})
        service._read_now = original  # type: ignore[method-assign]
        assert _titles(await asyncio.wait_for(service.read(ANN, "folders"), 30)) == ["a", "b"]
        may_end.set()
        await early
        assert _titles(await service.read(ANN, "folders")) == ["a", "b"]


@in_loop
async def test_read_with_no_cache_reads_the_database(sqlite_url: str) -> None:
    """no_cache and cache_ttl 0 of a request, and bifrost.cache_ttl 0."""
    async with serving(sqlite_url) as service:
        await _in_step(service)
        for options in ({"no_cache": True}, {"cache_ttl": 0}):
            for _ in range(2):
                assert not (await service.read(ANN, "folders", **options)).cached  # type: ignore[arg-type]
        await service.read(ANN, "folders")
        assert (await service.read(ANN, "folders")).cached
        service.set_cache_ttl(0)
        assert not (await service.read(ANN, "folders")).cached
        service.set_cache_ttl(60)
        service.clear_cache()
        assert not (await service.read(ANN, "folders")).cached


def test_cache_drops_the_least_recently_used() -> None:
    """The size stays below the limit, and a result that is larger than it is not kept."""
    cache = ReadCache(5000, 60)
    for number in range(10):
        cache.store(f"k{number}", "m", "x" * 500, 1, 0)
        assert cache.find("k0", 60, 1, 0)
    assert cache.stats()["bytes"] <= 5000
    assert cache.find("k9", 60, 1, 0)
    assert not cache.find("k1", 60, 1, 0)
    cache.store("large", "m", "x" * 5000, 1, 0)
    assert not cache.find("large", 60, 1, 0)
    assert cache.find("k0", 60, 1, 0)


def test_cache_result_is_used_for_its_version() -> None:
    """A change of another model does not matter, one of the own model does, and what a client has seen is kept."""
    cache = ReadCache(5000, 60)
    cache.store("k", "m", "x", 3, 0)
    assert cache.find("k", 60, known=3, seen=3)
    assert not cache.find("k", 60, known=3, seen=4)
    assert cache.find("k", 60, known=4, seen=4)
    cache.model_changed("other", 5)
    assert cache.find("k", 60, known=5, seen=5)
    cache.model_changed("m", 6)
    assert not cache.find("k", 60, known=6, seen=0)
    cache.store("k", "m", "old", 5, 0)
    assert not cache.find("k", 60, known=6, seen=0)
    cache.forget()
    cache.store("k", "m", "before", 9, 0)
    assert not cache.find("k", 60, known=9, seen=0)


def test_cache_key_distinguishes_requests() -> None:
    """Values of other types, and the rows that a client may see, are other keys; a huge request has none."""
    from zcli_bifrost.data.access import Sight

    requests = [1, True, 1.0, "1", None, [1], {"a": 1}, {"a": "1"}]
    keys = [key_of("m", sight, r) for r in requests for sight in (ALL_ROWS, Sight("ann"), Sight("null"))]
    assert len(set(keys)) == len(keys)
    assert key_of("m", ALL_ROWS, {"a": 1, "b": 2}) == key_of("m", ALL_ROWS, {"b": 2, "a": 1})
    assert key_of("m", ALL_ROWS, "x" * MAX_KEY) is None
    assert key_of("m", ALL_ROWS, object()) is None


@in_loop
async def test_cancelled_write_is_in_the_next_read(sqlite_url: str) -> None:
    """A write goes on when its request is cancelled, and the cache knows it."""
    async with serving(sqlite_url) as service:
        await _in_step(service)
        await service.read(ANN, "folders")
        await cancel_begun_write(service)
        await until(lambda: service._follower.known == 1, "the follower")
        assert _titles(await service.read(ANN, "folders")) == ["a"]
