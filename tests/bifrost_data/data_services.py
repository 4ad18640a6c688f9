"""Data services over real databases, for the tests of ``zcli_bifrost.data``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable
from typing import Any

import psycopg
import pytest
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.database import Database
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.model_file import parse_models
from zcli_bifrost.data.service import DataService
from zcli_bifrost.data.subscriptions import DataEvent
from zcli_bifrost.settings import Bifrost

ANN, BOB = Actor("ann", "user"), Actor("bob", "user")
ADMIN = Actor("root", "admin")
NOBODY = Actor()

#: Fields of all types, one of which each row needs.
EVERYTHING: dict[str, Any] = {
    "things": {
        "fields": {
            "name": {"type": "text", "required": True},
            "number": "int",
            "ratio": "float",
            "flag": "bool",
            "at": "datetime",
            "extra": "json",
        }
    }
}
#: Rows that belong to their creators, below rows that all may see.
NOTES: dict[str, Any] = {
    "folders": {"fields": {"title": {"type": "text", "required": True, "unique": True}}},
    "notes": {
        "fields": {
            "text": {"type": "text", "required": True, "max_length": 200},
            "slug": {"type": "text", "unique": True},
            "stars": {"type": "int", "default": 0, "min": 0, "max": 5},
            "folder": {"references": "folders"},
            "reply_to": {"references": "notes"},
            "author": "text",
        },
        "owner": "author",
        "all_rows": ["admin"],
    },
}


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))  # type: ignore[arg-type]

    return run


class Events:
    """The events that a service delivers, and what subscribers make of them: the rows by key."""

    def __init__(self) -> None:
        self.sent: list[tuple[Hashable, dict[str, Any]]] = []

    def __call__(self, event: DataEvent, subscribers: Collection[Hashable]) -> None:
        self.sent += [(subscriber, json.loads(event.text)) for subscriber in subscribers]

    def of(self, subscriber: Hashable) -> list[dict[str, Any]]:
        return [event for to, event in self.sent if to == subscriber]


@contextlib.asynccontextmanager
async def serving(
    url: str,
    models: dict[str, Any] = NOTES,
    deliver: Any = None,
    timeout: float = 30.0,
    announce: Any = None,
    **settings: Any,
) -> AsyncIterator[DataService]:
    """Run a service for models until the block ends."""
    log = logging.getLogger("test.bifrost")
    section = Bifrost(query_timeout=timeout, **settings)
    service = DataService(parse_models(models, "models.yaml"), Database(url, timeout, log), section, log)
    try:
        await service.start(deliver, announce)
        yield service
    finally:
        await service.close()


async def rows_of(service: DataService, actor: Actor, model: str, filters: Any = None, **options: Any) -> list[Any]:
    """Return the rows of a read that does not use the cache."""
    result = await service.read(actor, model, filters, no_cache=True, **options)
    rows: list[Any] = json.loads(result.text)["rows"]
    return rows


@contextlib.contextmanager
def refused(code: str, text: str = "", **fields: str) -> Any:
    """Expect a DataError with this code, a text that holds ``text``, and these fields if any are given."""
    with pytest.raises(DataError) as error:
        yield error
    assert error.value.code == code, error.value
    assert text in error.value.text
    for name, problem in fields.items():
        assert problem in error.value.fields[name]


async def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Let the loop run until a condition is true, and return its value."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        found = condition()
        if found:
            return found
        await asyncio.sleep(0.005)
    raise AssertionError(f"{what} did not come true within {seconds:g} s")


async def cancel_begun_write(service: DataService) -> None:
    """Ask for the creation of the folder ``a``, and cancel the request when its write has begun."""
    database = service.database
    with database.writing() as connection:  # the write waits for the lock
        request = asyncio.create_task(service.create(ANN, "folders", {"title": "a"}))
        await until(lambda: database._waiting and database._writers._work_queue.empty(), "the write to begin")
        request.cancel()
        await asyncio.wait([request])
        connection.rollback()


def execute(port: int, statement: str, database: str = "postgres") -> None:
    """Run a statement on a PostgreSQL of the tests, as the superuser."""
    address = f"host=127.0.0.1 port={port} user=postgres dbname={database}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]
