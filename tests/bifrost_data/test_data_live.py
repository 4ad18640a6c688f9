"""Live updates: every subscriber ends with the state of the database."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from data_services import ADMIN, ANN, BOB, NOTES, Events, in_loop, refused, rows_of, serving, until
from zcli_bifrost.data import changes, subscriptions
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.service import DataService


def _actions(events: Events, subscriber: str) -> list[tuple[str, list[Any]]]:
    """Return the events of a subscriber as (action, keys)."""
    return [
        (event["action"], event.get("keys") or [row["id"] for row in event.get("rows", ())])
        for event in events.of(subscriber)
    ]


@in_loop
async def test_event_follows_row_in_and_out_of_filter(url: str) -> None:
    """A row that begins to meet the filter is an insert, one that no longer does a delete."""
    events = Events()
    async with serving(url, deliver=events) as service:
        await service.create(ANN, "notes", {"text": "x", "stars": 1})
        await service.subscribe(ANN, "notes", {"stars": [">=", 3]}, subscriber="s")
        for change, expected in (
            ({"stars": 4}, ("insert", [1])),
            ({"text": "y"}, ("update", [1])),
            ({"stars": 2}, ("delete", [1])),
            ({"stars": 5}, ("insert", [1])),
        ):
            before = len(events.of("s"))
            await service.update(ANN, "notes", {"id": 1}, change)
            await until(lambda before=before: len(events.of("s")) > before, "the event")  # type: ignore[misc]
            assert _actions(events, "s")[before:] == [expected]
        assert events.of("s")[-1]["rows"][0] == (await rows_of(service, ANN, "notes"))[0]
        await service.update(ANN, "notes", {"id": 1}, {"stars": 1})
        await until(lambda: len(events.of("s")) == 5, "the delete")
        # A row that was never shown is not in any event.
        await service.update(ANN, "notes", {"id": 1}, {"text": "z"})
        await service.create(ANN, "notes", {"text": "w", "stars": 3})
        await until(lambda: len(events.of("s")) == 6, "the insert")
        assert _actions(events, "s")[-2:] == [("delete", [1]), ("insert", [2])]


@in_loop
async def test_failed_announcement_does_not_stop_events(sqlite_url: str) -> None:
    """Other processes are woken once after a write, and not for a write that this process only looks for."""
    events, announced = Events(), []

    def fail() -> None:
        announced.append(1)
        raise RuntimeError("cannot start a thread")

    async with serving(sqlite_url, deliver=events, announce=fail) as service:
        await service.subscribe(ANN, "notes", subscriber="s")
        for number in (1, 2):
            await service.create(ANN, "notes", {"text": "x"})
            await until(lambda number=number: len(announced) == number, "the announcement")  # type: ignore[misc]  # no type for a default
            service.wake()  # otherwise the next poll comes half a second later
            await until(lambda number=number: len(events.of("s")) == number, "the event")  # type: ignore[misc]  # no type for a default
        assert len(announced) == 2


@in_loop
async def test_subscribers_with_same_filters_share_an_event(sqlite_url: str) -> None:
    """One event for all, whose name is that of the subscription; each may leave by itself."""
    calls: list[Any] = []
    async with serving(sqlite_url, deliver=lambda event, to: calls.append((event.subscription, to))) as service:
        names = {
            (await service.subscribe(Actor(f"u{n}", "admin"), "notes", {"stars": 1}, subscriber=n))[0] for n in range(5)
        }
        await service.subscribe(Actor("u0", "admin"), "notes", {"stars": 1}, subscriber=0)
        service.unsubscribe(ADMIN, "notes", {"stars": 1}, subscriber=1)
        service.unsubscribe(ADMIN, "notes", {"stars": 2}, subscriber=2)
        service.remove_subscriber(3)
        service.remove_subscriber("unknown")
        await service.create(ADMIN, "notes", {"text": "x", "stars": 1})
        await until(lambda: calls, "the event")
        assert calls == [(names.pop(), (0, 2, 4))]
        assert not names


@in_loop
async def test_subscriptions_of_a_client_are_limited(sqlite_url: str) -> None:
    """The next one is refused, and one that ends makes room."""
    async with serving(sqlite_url, subscriptions_max=2) as service:
        for stars in (1, 2, 2):
            await service.subscribe(ANN, "notes", {"stars": stars}, subscriber="s")
        with refused("too_many", "at most 2"):
            await service.subscribe(ANN, "notes", {"stars": 3}, subscriber="s")
        service.unsubscribe(ANN, "notes", {"stars": 1}, subscriber="s")
        await service.subscribe(ANN, "notes", {"stars": 3}, subscriber="s")
        with refused("invalid", stars="must be an integer"):
            await service.subscribe(ANN, "notes", {"stars": "x"}, subscriber="t")


class View:
    """What a client with a subscription does: it reads once, and then applies the events."""

    def __init__(self, service: DataService, events: Events, actor: Actor, filters: Any, name: str) -> None:
        self.service, self.events, self.actor, self.filters, self.name = service, events, actor, filters, name
        self.rows: dict[Any, Any] = {}
        self.applied = 0

    async def open(self) -> None:
        _, version = await self.service.subscribe(self.actor, "notes", self.filters, subscriber=self.name)
        await self.read(version)

    async def read(self, seen: int) -> None:
        import json

        result = await self.service.read(self.actor, "notes", self.filters, seen=seen)
        assert result.version >= seen
        self.rows = {row["id"]: row for row in json.loads(result.text)["rows"]}

    async def follow(self) -> None:
        waiting = self.events.of(self.name)[self.applied :]
        self.applied += len(waiting)
        for event in waiting:
            if event["action"] == "refresh":
                await self.read(event["version"])
            for row in event.get("rows", ()):
                self.rows[row["id"]] = row
            for key in event.get("keys", ()):
                self.rows.pop(key, None)

    async def wanted(self) -> dict[Any, Any]:
        return {row["id"]: row for row in await rows_of(self.service, self.actor, "notes", self.filters)}


@pytest.mark.parametrize("few_keys", [False, True], ids=["keys", "refresh"])
def test_subscribers_end_with_the_state(url: str, few_keys: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random writes of two processes, with subscribers that come in between; also where keys are too many."""
    if few_keys:
        monkeypatch.setattr(changes, "MAX_KEYS", 3)
        monkeypatch.setattr(subscriptions, "MAX_GROUP_KEYS", 4)

    @in_loop
    async def check() -> None:
        chance = random.Random(5)
        events = Events()
        # Two services on one database are what two processes have: they share nothing else.
        async with serving(url, NOTES, events) as service, serving(url, NOTES) as other:
            views: list[View] = []

            async def write() -> None:
                for _ in range(40):
                    actor, to = chance.choice([ANN, BOB]), chance.choice([service, other])
                    stars = chance.randrange(6)
                    step = chance.random()
                    if step < 0.4:
                        amount = chance.choice([1, 1, 1, 6])
                        await to.create(actor, "notes", [{"text": str(_), "stars": stars}] * amount)
                    elif step < 0.8:
                        filters = {"stars": stars} if chance.random() < 0.5 else {"id": chance.randrange(1, 60)}
                        await to.update(actor, "notes", filters, {"stars": chance.randrange(6), "text": f"t{_}"})
                    else:
                        await to.delete(actor, "notes", {"id": chance.randrange(1, 60)})

            async def subscribe() -> None:
                for number in range(8):
                    actor = chance.choice([ANN, BOB, ADMIN])
                    filters = chance.choice([None, {"stars": [">", 2]}, {"text": ["like", "t%"]}])
                    view = View(service, events, actor, filters, f"v{number}")
                    await view.open()
                    views.append(view)
                    await asyncio.sleep(0)

            await asyncio.gather(write(), subscribe())
            version = (await service.read(ADMIN, "notes", no_cache=True)).version
            await until(lambda: service._follower.known == version, "the follower")
            for view in views:
                wanted = await view.wanted()
                await view.follow()
                for _ in range(200):
                    if view.rows == wanted:
                        break
                    await asyncio.sleep(0.02)
                    await view.follow()
                assert view.rows == wanted, (view.name, view.filters)

    check()


@pytest.mark.parametrize("rows", [1, 600], ids=["keys", "too many keys"])
def test_change_while_subscribing_is_not_missed(sqlite_url: str, rows: int) -> None:
    """A write that comes between the loading of the keys and the answer leads to an event, or to fresh keys."""

    @in_loop
    async def check() -> None:
        events, loaded, may_end = Events(), asyncio.Event(), asyncio.Event()
        async with serving(sqlite_url, deliver=events) as service:
            read = service.database.read

            async def slow(work: Any) -> Any:
                result = await read(work)
                if "_load_keys" in work.__qualname__:
                    loaded.set()
                    await may_end.wait()
                return result

            service.database.read = slow  # type: ignore[method-assign]
            subscribing = asyncio.ensure_future(service.subscribe(ANN, "notes", subscriber="s"))
            await loaded.wait()
            written = await service.create(ANN, "notes", [{"text": "x"}] * rows)
            await until(lambda: service._follower.known == written.version, "the follower")
            may_end.set()
            _, version = await subscribing
            assert version == written.version
            if rows == 1:
                await until(lambda: events.of("s"), "the event")
                assert _actions(events, "s") == [("insert", [1])]
            # The group knows the row: a further change is an update.
            await service.update(ANN, "notes", {"id": 1}, {"text": "y"})
            await until(lambda: ("update", [1]) in _actions(events, "s"), "the update")

    check()


@in_loop
async def test_changes_while_keys_are_loaded_again_are_not_missed(sqlite_url: str) -> None:
    """A large change while the keys are loaded after another one: the subscriber gets another refresh."""
    events, loading, may_end = Events(), asyncio.Event(), asyncio.Event()
    async with serving(sqlite_url, deliver=events) as service:
        await service.subscribe(ANN, "notes", subscriber="s")
        read = service.database.read

        async def slow(work: Any) -> Any:
            result = await read(work)
            if "_load_keys" in work.__qualname__ and not may_end.is_set():
                loading.set()
                await may_end.wait()
            return result

        service.database.read = slow  # type: ignore[method-assign]
        first = await service.create(ANN, "notes", [{"text": "x"}] * 600)
        await loading.wait()
        second = await service.create(ANN, "notes", [{"text": "y"}] * 600)
        await until(lambda: service._follower.known == second.version, "the follower")
        may_end.set()
        assert [(event["action"], event["version"]) for event in events.of("s")] == [
            ("refresh", first.version), ("refresh", second.version),
        ]  # fmt: skip


@in_loop
async def test_flood_of_changes_is_combined(sqlite_url: str) -> None:
    """A slow subscriber gets the last state of a row, and not each one between."""
    events = Events()
    async with serving(sqlite_url, deliver=events) as service:
        await service.create(ANN, "notes", {"text": "x"})
        await service.subscribe(ANN, "notes", subscriber="s")
        for n in range(100):
            await service.update(ANN, "notes", {"id": 1}, {"text": f"t{n}"})
        await until(lambda: events.of("s") and events.of("s")[-1]["rows"][0]["text"] == "t99", "the last state")
        assert len(events.of("s")) < 100


@in_loop
async def test_subscribe_failed_database_leaves_nothing(sqlite_url: str) -> None:
    """A subscription whose rows cannot be read does not exist, and the next attempt works."""
    async with serving(sqlite_url) as service:
        await service.database.write(lambda c: c.exec_driver_sql("ALTER TABLE notes RENAME TO gone"))
        with refused("failed"):
            await service.subscribe(ANN, "notes", subscriber="s")
        assert service._live.subscriptions.groups() == {}
        await service.database.write(lambda c: c.exec_driver_sql("ALTER TABLE gone RENAME TO notes"))
        await service.subscribe(ANN, "notes", subscriber="s")
