"""A client of zBifrost that reconnects, and keeps the highest version it has seen, as ``bifrost.js`` does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

#: Requests about rows carry ``seen``.
_OF_ROWS = ("create", "read", "update", "delete", "subscribe")


class Disconnected(Exception):
    """The connection was lost before the response to a request."""


class AsyncBrowser:
    """One client, with one connection at a time.

    Attributes:
        seen: The highest version in any message of the server.
        connections: How often it was connected.
        info: The greeting of the server.
    """

    def __init__(self, url: str, chance: random.Random) -> None:
        self.seen = 0
        self.connections = 0
        self.info: dict[str, Any] = {}
        self._url = url
        self._chance = chance
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._connection: ClientConnection | None = None
        self._receiver: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect, if there is no connection; try until the server has greeted."""
        while self._connection is None:
            with contextlib.suppress(WebSocketException, OSError, asyncio.TimeoutError, EOFError):
                connection = await connect(self._url, proxy=None, close_timeout=1, open_timeout=30)
                self.info = json.loads(await connection.recv())["data"]
                self._connection = connection
                self._receiver = asyncio.create_task(self._receive(connection))
                self.connections += 1
                return
            await asyncio.sleep(self._chance.uniform(0, 0.3))

    async def disconnect(self) -> None:
        """Close the connection; requests without a response fail."""
        if self._connection is not None and self._receiver is not None:
            await self._connection.close()
            await self._receiver

    async def ask(self, event: str, **data: Any) -> dict[str, Any]:
        """Return the response to a request, with a result or an error.

        Raises:
            Disconnected: There is no connection, or it was lost before the response.
        """
        if self._connection is None:
            raise Disconnected
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        seen = {"seen": self.seen} if self.seen and event in _OF_ROWS else {}
        try:
            await self._connection.send(json.dumps({**seen, "event": event, **data, "_requestId": number}))
            return await answer
        except WebSocketException:
            await self.disconnect()
            raise Disconnected from None
        finally:
            self._waiting.pop(number, None)

    def changed(self, data: dict[str, Any]) -> None:
        """Take a live update. Subclasses do something with it."""

    def lost(self) -> None:
        """The connection was lost. Subclasses do something with it."""

    async def _receive(self, connection: ClientConnection) -> None:
        try:
            async for text in connection:
                self._received(json.loads(text))
        except WebSocketException:
            pass
        finally:
            self._connection = None
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Disconnected())
            self.lost()

    def _received(self, message: dict[str, Any]) -> None:
        updated = message.get("event") == "data_updated"
        version = message["data"].get("version") if updated else message.get("_version")
        self.seen = max(self.seen, version or 0)
        answer = self._waiting.get(message.get("_requestId", -1))
        if updated:
            self.changed(message["data"])
        elif answer is not None and not answer.done():
            answer.set_result(message)


class Replica(AsyncBrowser):
    """A subscriber that keeps a copy of the rows of one model up to date, by the events alone.

    It reads all rows only after it has subscribed, which it does for each connection, and after a ``refresh``.

    Attributes:
        rows: The copy, by key.
        reads: How often it has read all rows.
        events: How many events it has got.
    """

    def __init__(
        self,
        url: str,
        chance: random.Random,
        model: str,
        filters: dict[str, Any],
        complete: Callable[[Replica, int], None],
    ) -> None:
        """Prepare a copy.

        Args:
            url: URL of the server.
            chance: Makes the pauses.
            model: Name of the model.
            filters: Which rows.
            complete: Called with this object and a version when it has all events up to this version.
        """
        super().__init__(url, chance)
        self.model = model
        self.filters = filters
        self.rows: dict[Any, Mapping[str, Any]] = {}
        self.reads = self.events = 0
        self._complete = complete
        self._version = self._read_version = 0
        self._unsure = asyncio.Event()
        self._buffer: list[dict[str, Any]] | None = []

    async def follow(self) -> None:
        """Keep the copy up to date until this is cancelled."""
        while True:
            try:
                await self.connect()
                self._unsure.clear()
                self._buffer = []
                answer = await self.ask("subscribe", model=self.model, filters=self.filters)
                assert "result" in answer, answer
                while True:
                    await self._read()
                    await self._unsure.wait()
                    self._unsure.clear()
            except Disconnected:
                continue

    async def _read(self) -> None:
        """Read all rows, and then take the events that came meanwhile."""
        self._buffer = [] if self._buffer is None else self._buffer
        answer = await self.ask("read", model=self.model, filters=self.filters)
        assert "result" in answer, answer
        self.reads += 1
        self.rows = {row["id"]: row for row in answer["result"]["rows"]}
        self._version = self._read_version = answer["_version"]
        events, self._buffer = self._buffer, None
        for data in events:
            self._take(data)

    def changed(self, data: dict[str, Any]) -> None:
        """Take an event, or keep it until the rows are read."""
        self.events += 1
        if self._buffer is not None:
            self._buffer.append(data)
        else:
            self._take(data)

    def lost(self) -> None:
        """Begin again with the next connection."""
        self._unsure.set()
        self._buffer = []

    def _take(self, data: dict[str, Any]) -> None:
        if data["version"] <= self._read_version:  # the read has it already; the event may come after its answer
            return
        if data["version"] > self._version and not self._unsure.is_set():
            self._complete(self, self._version)
        self._version = data["version"]
        if data["action"] == "refresh":
            self._unsure.set()
        elif data["action"] == "delete":
            for key in data["keys"]:
                self.rows.pop(key, None)
        else:
            self.rows.update({row["id"]: row for row in data["rows"]})
