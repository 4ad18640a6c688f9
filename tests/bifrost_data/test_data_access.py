"""Who may do what, and what a client can find out about the rows of others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from data_services import ADMIN, ANN, BOB, NOBODY, NOTES, Events, in_loop, refused, rows_of, serving, until
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.service import DataService

#: A model in which each role may do one thing.
ROLES: dict[str, Any] = {
    "items": {
        "fields": {"name": {"type": "text", "required": True}, "price": "int"},
        "access": {"read": ["reader", "all"], "create": "maker", "update": ["changer", "all"], "delete": ["all"]},
    },
    "open": {"fields": {"name": "text"}, "access": {"read": ["*"]}},
}
MAY = {
    "reader": ["read"],
    "maker": ["create"],
    "changer": ["update"],
    "all": ["read", "update", "delete"],
    None: [],
    "*": [],
}


async def _fill(service: DataService) -> None:
    """Ann has the notes 1 and 2, Bob 3 and 4."""
    await service.create(ANN, "folders", [{"title": "shared"}])
    await service.create(ANN, "notes", [{"text": "a1", "slug": "sa1"}, {"text": "a2", "slug": "sa2", "stars": 5}])
    await service.create(BOB, "notes", [{"text": "b1", "slug": "sb1"}, {"text": "b2", "slug": "sb2", "stars": 5}])


@pytest.mark.parametrize("role", MAY, ids=str)
def test_access_role_may_do_what_its_list_says(sqlite_url: str, role: str | None) -> None:
    """Each action of each role; a role that may do nothing does not learn that the model exists."""
    actor = Actor("x", role)

    @in_loop
    async def check() -> None:
        async with serving(sqlite_url, ROLES) as service:
            await service.create(Actor("m", "maker"), "items", {"name": "n", "price": 1})
            requests = {
                "read": lambda: service.read(actor, "items"),
                "create": lambda: service.create(actor, "items", {"name": "new"}),
                "update": lambda: service.update(actor, "items", {"id": 1}, {"price": 2}),
                "delete": lambda: service.delete(actor, "items", {"id": 1}),
            }
            for action, request in requests.items():
                if action in MAY[role]:
                    await request()
                else:
                    with refused("forbidden" if MAY[role] else "not_found"):
                        await request()
            names = [each["name"] for each in service.models(actor)]
            assert names == (["items", "open"] if MAY[role] else ["open"])

    check()


@in_loop
async def test_create_without_read_returns_keys_only(sqlite_url: str) -> None:
    """A client that may not read does not get what the defaults are."""
    async with serving(sqlite_url, ROLES) as service:
        written = await service.create(Actor("m", "maker"), "items", {"name": "n"})
        assert written.rows == [{"id": 1}]


@in_loop
async def test_update_without_read_takes_keys_only(sqlite_url: str) -> None:
    """The number of changed rows would tell the values of the others."""
    changer = Actor("c", "changer")
    async with serving(sqlite_url, ROLES) as service:
        await service.create(Actor("m", "maker"), "items", {"name": "secret"})
        for filters in ({"name": "secret"}, {"id": 1, "name": "secret"}, {"id": [">", 0]}, {"id": ["!=", 5]}):
            with refused("forbidden"):
                await service.update(changer, "items", filters, {"price": 1})
        assert (await service.update(changer, "items", {"id": ["in", [1, 2]]}, {"price": 1})).count == 1


@in_loop
async def test_owner_sees_and_changes_only_own_rows(url: str) -> None:
    """Reads, totals, order, filters, updates and deletes are about the own rows."""
    async with serving(url) as service:
        await _fill(service)
        assert [row["id"] for row in await rows_of(service, ANN, "notes")] == [1, 2]
        result = json.loads((await service.read(BOB, "notes", limit=1, order_by="-stars")).text)
        assert (result["total"], result["rows"][0]["text"]) == (2, "b2")
        everything = [{"id": 1}, {"slug": "sa1"}, {"text": ["like", "a%"]}, {"author": "ann"}, {"id": ["in", [1, 2]]}]
        for filters in everything:
            assert await rows_of(service, BOB, "notes", filters) == []
            assert (await service.update(BOB, "notes", filters, {"stars": 1})).count == 0
            assert (await service.delete(BOB, "notes", filters)).count == 0
        assert (await service.update(BOB, "notes", {"id": [">", 0]}, {"stars": 1})).count == 2
        assert [row["stars"] for row in await rows_of(service, ADMIN, "notes")] == [0, 5, 1, 1]
        assert (await service.delete(BOB, "notes", {"id": [">", 0]})).count == 2
        assert len(await rows_of(service, ADMIN, "notes")) == 2


@in_loop
async def test_owner_is_the_client_that_creates(sqlite_url: str) -> None:
    """No client gives a row to another one, takes one, or leaves one without an owner."""
    async with serving(sqlite_url) as service:
        with refused("invalid", author="your own identity"):
            await service.create(ANN, "notes", {"text": "x", "author": "bob"})
        with refused("invalid", author="your own identity"):
            await service.create(ADMIN, "notes", {"text": "x", "author": "bob"})
        created = await service.create(ANN, "notes", {"text": "x", "author": "ann"})
        assert created.rows[0]["author"] == "ann"
        for actor, owner in ((ANN, "bob"), (ANN, None), (ANN, "ann"), (ADMIN, "root")):
            with refused("invalid", author="cannot be changed"):
                await service.update(actor, "notes", {"id": 1}, {"author": owner})


@pytest.mark.parametrize("actor", [NOBODY, Actor("", "user"), Actor(None, "user")])
def test_owner_without_identity_sees_nothing(sqlite_url: str, actor: Actor) -> None:
    """A client without an identity owns no rows, also not those without an owner."""

    @in_loop
    async def check() -> None:
        async with serving(sqlite_url) as service:
            await _fill(service)
            for request in (
                service.read(actor, "notes"),
                service.create(actor, "notes", {"text": "x"}),
                service.update(actor, "notes", {"id": 1}, {"text": "x"}),
                service.delete(actor, "notes", {"id": 1}),
                service.subscribe(actor, "notes", subscriber=1),
            ):
                with refused("not_found"):
                    await request
            assert [each["name"] for each in service.models(actor)] == ["folders"]
            with refused("forbidden"):
                await service.create(Actor(None, "admin"), "notes", {"text": "x"})
            assert len(await rows_of(service, Actor(None, "admin"), "notes")) == 4

    check()


@in_loop
async def test_conflict_with_unseen_row_names_no_field(url: str) -> None:
    """A clash with a row of another client says only that there is a conflict."""
    async with serving(url) as service:
        await _fill(service)
        with refused("conflict", slug="another row") as own:
            await service.create(ANN, "notes", {"text": "x", "slug": "sa1"})
        for request in (
            service.create(ANN, "notes", {"text": "x", "slug": "sb1"}),
            service.update(ANN, "notes", {"id": 1}, {"slug": "sb1"}),
        ):
            with refused("conflict") as others:
                await request
            assert others.value.fields == {}
            assert others.value.text == own.value.text
            assert "sb1" not in repr(others.value)
        with refused("conflict", slug="another row"):
            await service.create(ADMIN, "notes", {"text": "x", "slug": "sb1"})
        assert len(await rows_of(service, ADMIN, "notes")) == 4


@in_loop
async def test_unique_for_owner_does_not_clash_with_others(url: str) -> None:
    """With unique: owner, two clients may use the same value, so none learns of the other's."""
    models = {
        "pages": {
            "fields": {"slug": {"type": "text", "unique": "owner", "required": True}, "by": "text"},
            "owner": "by",
        }
    }
    async with serving(url, models) as service:
        await service.create(ANN, "pages", {"slug": "home"})
        await service.create(BOB, "pages", {"slug": "home"})
        with refused("conflict", slug="another row"):
            await service.create(BOB, "pages", {"slug": "home"})


@in_loop
async def test_reference_to_unseen_row_is_one_to_no_row(url: str) -> None:
    """The error for a row of another client is the same as for a row that does not exist."""
    async with serving(url) as service:
        await _fill(service)
        problems = []
        for key in (3, 999):
            with refused("invalid", reply_to="no row of 'notes' has this key") as created:
                await service.create(ANN, "notes", {"text": "x", "reply_to": key})
            with refused("invalid", reply_to="no row of 'notes' has this key") as updated:
                await service.update(ANN, "notes", {"id": 1}, {"reply_to": key})
            problems.append((repr(created.value), repr(updated.value)))
        assert problems[0] == problems[1]
        await service.create(ANN, "notes", {"text": "x", "reply_to": 2, "folder": 1})
        await service.create(ADMIN, "notes", {"text": "x", "reply_to": 3})


@in_loop
async def test_cache_keeps_the_rows_of_clients_apart(sqlite_url: str) -> None:
    """The same request of another identity or role is another result."""
    async with serving(sqlite_url) as service:
        await _fill(service)
        await until(lambda: service._follower.is_current() and service._follower.known >= 3, "the follower")
        for _ in range(2):
            found = {
                actor: [row["id"] for row in json.loads((await service.read(actor, "notes")).text)["rows"]]
                for actor in (ANN, BOB, ADMIN, Actor("ann", "admin"), Actor("ADMIN", "user"))
            }
            assert list(found.values()) == [[1, 2], [3, 4], [1, 2, 3, 4], [1, 2, 3, 4], []]
        assert service.cache_stats()["hits"] == 5 + 1  # the two administrators share a result


@in_loop
async def test_events_are_about_visible_rows_only(url: str) -> None:
    """A subscriber gets nothing about rows of others: no rows, no keys, not even that something happened."""
    events = Events()
    async with serving(url, deliver=events) as service:
        await _fill(service)
        for actor in (ANN, BOB, ADMIN):
            await service.subscribe(actor, "notes", {"stars": [">=", 0]}, subscriber=actor.identity)
        await service.update(BOB, "notes", {"id": 3}, {"text": "changed"})
        await service.delete(BOB, "notes", {"id": 4})
        await until(lambda: "delete" in [event["action"] for event in events.of("root")], "the admin's event")
        assert events.of("ann") == []
        assert {event["action"] for event in events.of("bob")} == {"update", "delete"}
        with refused("not_found"):
            await service.subscribe(NOBODY, "notes", subscriber="nobody")


@in_loop
async def test_actors_concurrent_never_mix(url: str) -> None:
    """Many clients at once each get their own rows, also for identical requests that are combined."""
    actors = [Actor(f"user{n}", "user") for n in range(12)]
    async with serving(url) as service:
        await asyncio.gather(*(service.create(actor, "notes", {"text": actor.identity}) for actor in actors))
        results = await asyncio.gather(*(service.read(actor, "notes") for actor in actors * 5))
        for actor, result in zip(actors * 5, results, strict=True):
            assert [row["text"] for row in json.loads(result.text)["rows"]] == [actor.identity]


def test_describe_shows_rules_and_actions() -> None:
    """What a page needs to make a form."""
    from zcli_bifrost.data.description import describe_model
    from zcli_bifrost.data.model_file import parse_models

    models = parse_models(NOTES, "test")
    found = describe_model(models["notes"], ANN, models)
    assert found["actions"] == ["create", "read", "update", "delete"]
    assert found["fields"]["id"] == {"type": "int", "required": True, "read_only": True, "unique": True}
    assert found["fields"]["stars"] == {"type": "int", "required": False, "min": 0, "max": 5, "default": 0}
    assert found["fields"]["folder"] == {"type": "int", "required": False, "references": "folders"}
    assert found["fields"]["author"] == {"type": "text", "required": True, "read_only": True}
    assert json.loads(json.dumps(found)) == found
