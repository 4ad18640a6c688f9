"""From the change table to events: reads the rows that have changed and gives them to the groups of subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from zcli_bifrost.data.access import Sight
from zcli_bifrost.data.changes import Changes, changes_since, version_of
from zcli_bifrost.data.database import Database, snapshot
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import Filters
from zcli_bifrost.data.models import Model
from zcli_bifrost.data.queries import Queries, Selection
from zcli_bifrost.data.reads import keys_of, rows_by_keys
from zcli_bifrost.data.subscriptions import ChangedRows, DataEvent, Deliver, Group, Subscriptions

#: Most steps that the patterns of subscriptions take in one poll. They occupy the event loop.
MAX_EFFORT = 2_000_000
#: The changed rows of one poll may have as many characters as this number of events: they are for several groups.
_SUBSCRIBERS = 8


class Batch(NamedTuple):
    """The changes since the last poll, and the changed rows of the models that have subscribers, of one state."""

    found: Changes
    rows: Mapping[str, ChangedRows]


class LiveUpdates:
    """Keeps the groups of subscribers in step with the database."""

    def __init__(
        self,
        database: Database,
        queries: Mapping[str, Queries],
        subscriptions: Subscriptions,
        deliver: Deliver | None,
        max_size: int,
    ) -> None:
        """Prepare the groups.

        Args:
            database: The database.
            queries: Those of each model, by its name.
            subscriptions: The groups.
            deliver: Gets the events.
            max_size: Largest event, in characters; a larger one becomes a ``refresh``.
        """
        self._database = database
        self._queries = queries
        self._deliver = deliver
        self._max_size = max_size
        self._in_step: set[Group] = set()
        self.subscriptions = subscriptions

    async def subscribe(self, model: Model, given: Any, filters: Filters, sight: Sight, subscriber: Hashable) -> Group:
        """Add a subscriber, and wait until the keys of its group are loaded.

        Raises:
            DataError: ``too_many``, or ``failed`` if the keys cannot be read.
        """
        group = self.subscriptions.join(model, given, filters, sight, subscriber)
        if not group.loaded:
            try:
                await asyncio.shield(self._load(group))
            except DataError:
                self.subscriptions.leave(model.name, given, subscriber)
                raise
        return group

    async def read_changes(self, known: int) -> Batch:
        """Read the changes after a version, and give their events to the subscribers with :meth:`deliver`."""
        groups = self.subscriptions.groups()
        # A group that is loaded only while this waits for the database is not in step with the rows that it reads.
        in_step = {group for each in groups.values() for group in each if group.loaded}
        wanted = {
            model: {key for group in each if group in in_step for key in group.missed or ()}
            for model, each in groups.items()
        }
        batch = await self._database.read(lambda connection: self._read(connection, known, wanted))
        self._in_step = in_step
        return batch

    def deliver(self, batch: Batch) -> None:
        """Send the events of a batch."""
        effort = MAX_EFFORT
        for model, groups in self.subscriptions.groups().items():
            # Without rows, the model had no subscribers when the batch was read.
            changed = batch.rows.get(model) or ChangedRows(self._queries[model].model, batch.found.keys(model), {})
            unknown = ChangedRows(changed.model, None, {})
            for group in groups:
                needed = group.effort(changed) if group in self._in_step else 0
                shown = changed if needed <= effort else unknown
                effort -= needed if shown is changed else 0
                if group in self._in_step:
                    self._send(group, shown, batch.found.version)
                else:
                    group.miss(changed)
                    if group.missed is None:
                        # Its keys are loaded again, which does not show what has changed since they were loaded before.
                        self._send_event(group, group.event("refresh", batch.found.version))
                if group.missed is None or shown.keys is None:
                    group.loaded = False
                if not group.loaded:
                    self._load(group)

    def _send(self, group: Group, changed: ChangedRows, version: int) -> None:
        for event in group.events(changed, version):
            self._send_event(group, event if len(event.text) <= self._max_size else group.event("refresh", version))

    def _send_event(self, group: Group, event: DataEvent) -> None:
        if self._deliver is not None:
            self._deliver(event, tuple(group.subscribers))

    def _read(self, connection: Connection, known: int, wanted: Mapping[str, set[Any]]) -> Batch:
        with snapshot(connection):
            found = changes_since(connection, known)
            changed = {name: self._changed(connection, name, found, missed) for name, missed in wanted.items()}
        return Batch(found, changed)

    def _changed(self, connection: Connection, name: str, found: Changes, missed: set[Any]) -> ChangedRows:
        queries, keys = self._queries[name], found.keys(name)
        if keys is None:
            return ChangedRows(queries.model, None, {})
        wanted = missed.union(keys)
        rows = rows_by_keys(connection, queries, wanted, _SUBSCRIBERS * self._max_size) if wanted else {}
        return ChangedRows(queries.model, None, {}) if rows is None else ChangedRows(queries.model, keys, rows)

    def _load(self, group: Group) -> asyncio.Task[None]:
        """Return the task that loads the keys of a group."""
        if group.loading is None:
            group.loading = asyncio.get_running_loop().create_task(self._load_keys(group))
            group.loading.add_done_callback(_retrieve)
        return group.loading

    async def _load_keys(self, group: Group) -> None:
        queries, most = self._queries[group.model.name], self.subscriptions.room_for_keys()

        def read(connection: Connection) -> tuple[set[Any] | None, int]:
            with snapshot(connection):
                version = version_of(connection)
                return keys_of(connection, queries, Selection(group.filters, group.sight), most), version

        try:
            while True:
                group.missed = {}
                group.keys, group.version = await self._database.read(read)
                if group.missed is not None:
                    group.loaded = True
                    return
        finally:
            group.loading = None


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # the next poll loads the keys again
