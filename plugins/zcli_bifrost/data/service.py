"""The front of the data library: what an actor may read, change and follow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from zcli_bifrost.data import changes
from zcli_bifrost.data.access import Sight, actions_of, require, unknown_model
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.cache import ReadCache, key_of
from zcli_bifrost.data.changes import Changes
from zcli_bifrost.data.database import Database
from zcli_bifrost.data.description import describe_model
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import Filters, parse_filters
from zcli_bifrost.data.follower import Follower
from zcli_bifrost.data.live import LiveUpdates
from zcli_bifrost.data.models import Model, Models
from zcli_bifrost.data.queries import Queries, Selection
from zcli_bifrost.data.reads import ReadRequest, parse_read, read_rows, ready_rows, result_text
from zcli_bifrost.data.subscriptions import Deliver, Subscriptions
from zcli_bifrost.data.tables import create_missing, differences, make_tables
from zcli_bifrost.data.validation import changed_values, new_rows
from zcli_bifrost.data.values import MAX_INT
from zcli_bifrost.data.writes import Writer, Written, conflict_of, visible_clashes
from zcli_bifrost.settings import Bifrost
from zcli_core.errors import ConfigError

T = TypeVar("T")

_MAX_TTL = 3600


class ReadResult(NamedTuple):
    """The rows that a read found.

    Attributes:
        text: The result as JSON: ``{"rows": [...], "total": n}``. A server sends it as it is.
        version: Version of the database that the result shows.
        cached: Whether it comes from the cache.
    """

    text: str
    version: int
    cached: bool


class _Pending:
    """A read that is under way, for the requests that wait for it."""

    def __init__(self, model: str, task: asyncio.Task[ReadResult]) -> None:
        self.model = model
        self._task = task
        self._waiting = 0

    async def result(self) -> ReadResult:
        """Wait for the result. The read is given up when no request waits for it any more."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._task.cancel()

    @property
    def is_given_up(self) -> bool:
        """Whether no request waits for it."""
        return not self._waiting


class DataService:
    """Models in a database, for actors.

    All methods are called in the thread of one event loop. None of them blocks it.

    Attributes:
        database: The database of the models.
    """

    def __init__(self, models: Models, database: Database, settings: Bifrost, log: logging.Logger) -> None:
        """Prepare the service. :func:`.opening.open_data` makes one from the settings."""
        self.database = database
        self._models = models
        self._rows_max = settings.rows_max
        self._result_max = settings.result_max
        self._subscriptions_max = settings.subscriptions_max
        self._log = log
        _, tables = make_tables(models, database.dialect)
        self._queries = {name: Queries(model, tables[name], database.dialect) for name, model in models.items()}
        self._follower = Follower(self._take_changes, log)
        self._cache = ReadCache(settings.cache_max, settings.cache_ttl)
        #: Reads whose result will be kept, by the key of the request.
        self._pending: dict[str, _Pending] = {}
        self._announce: Callable[[], None] | None = None
        #: Whether this process has written since it last called ``announce``.
        self._unannounced = False

    async def start(self, deliver: Deliver | None = None, announce: Callable[[], None] | None = None) -> None:
        """Make missing tables, check the existing ones, and follow the changes of all processes.

        Args:
            deliver: Takes the events of subscriptions: an event, and the subscribers to send it to. It is called in the
                thread of the event loop and must not block.
            announce: Lets other processes call :meth:`wake`. It is called after a write of this one, like ``deliver``,
                and at most once every 0.02 s.

        Raises:
            ConfigError: A table does not fit its model; the error lists all differences. Or the database cannot be
                reached or used.
        """
        self._loop = asyncio.get_running_loop()
        self._announce = announce
        self._live = LiveUpdates(
            self.database, self._queries, Subscriptions(self._subscriptions_max), deliver, self._result_max
        )
        try:
            version = await self.database.run(self._set_up, writes=True)
        except (DataError, IntegrityError) as error:
            raise ConfigError(f"bifrost.database: cannot prepare the database: {error}") from None
        self._follower.start(version)

    def _set_up(self) -> int:
        self.database.set_up()
        with self.database.writing() as connection:
            problems = differences(connection, self._models)
            if problems:
                raise ConfigError([f"{each} (bifrost.models; zCLI never alters a table)" for each in problems])
            create_missing(connection, self._models)
            changes.set_up(connection)
            return changes.version_of(connection)

    async def close(self) -> None:
        """Wait for running statements, at most ``bifrost.query_timeout``, and disconnect from the database."""
        await self._follower.stop()
        await self.database.close()

    # --- what there is ---

    def models(self, actor: Actor) -> list[dict[str, Any]]:
        """Return :meth:`describe` of each model with which the actor may do something."""
        known = [model for model in self._models.values() if actions_of(actor, model)]
        return [describe_model(model, actor, self._models) for model in known]

    def hidden_models(self, actor: Actor) -> list[str]:
        """Return the names of the models with which the actor may do nothing."""
        return [name for name, model in self._models.items() if not actions_of(actor, model)]

    def describe(self, actor: Actor, model: str) -> dict[str, Any]:
        """Return what an actor may do with a model, and its fields with their rules, ready for JSON.

        Raises:
            DataError: ``not_found``: no such model, or the actor may do nothing with it.
        """
        return describe_model(self._known_model(actor, model), actor, self._models)

    def _model(self, name: Any) -> Model:
        found = self._models.get(name) if isinstance(name, str) else None
        if found is None:
            raise unknown_model(name)
        return found

    def _known_model(self, actor: Actor, name: Any) -> Model:
        """Return a model with which an actor may do something; any other one is unknown."""
        found = self._model(name)
        if not actions_of(actor, found):
            raise unknown_model(name)
        return found

    # --- reading ---

    async def read(
        self,
        actor: Actor,
        model: str,
        filters: Any = None,
        *,
        fields: Any = None,
        order_by: Any = None,
        limit: Any = None,
        offset: Any = None,
        cache_ttl: Any = None,
        no_cache: Any = False,
        seen: Any = 0,
    ) -> ReadResult:
        """Read rows. All arguments after ``actor`` may come from a client as they are.

        Args:
            actor: Who reads.
            model: Name of the model.
            filters: ``{"field": value}`` or ``{"field": [operator, value]}``; see :mod:`zcli_bifrost.data.filters`.
            fields: Names of the fields to return; all by default.
            order_by: Name of a field, ``"-name"`` for descending order, or a list of these. Rows that are equal in it
                are ordered by their key.
            limit: Highest number of rows, at most ``bifrost.rows_max``, which is the default.
            offset: Number of rows to skip.
            cache_ttl: Oldest result that is taken from the cache, in seconds, at most ``bifrost.cache_ttl``.
            no_cache: Whether the database is read in any case.
            seen: Highest version that the client has got. The result is never older.

        Raises:
            DataError: ``not_found``, ``forbidden``, ``invalid``, ``too_many`` or ``failed``.
        """
        found = self._model(model)
        sight = require(actor, found, "read")
        ttl = self._cache.ttl if cache_ttl is None else _checked_ttl(cache_ttl)
        if type(seen) is not int or not 0 <= seen <= MAX_INT:
            raise DataError("invalid", "seen must be a version: an integer of at least 0")
        if seen > self._follower.known:
            self._follower.wake()
        key = None
        if ttl and self._cache.ttl and not no_cache:
            key = key_of(model, sight, filters, fields, order_by, limit, offset)
            if key is not None and self._follower.is_current():
                entry = self._cache.find(key, ttl, self._follower.known, seen)
                if entry is not None:
                    return ReadResult(entry.text, max(entry.version, self._follower.known), True)
                pending = self._pending.get(key)
                if pending is not None and not pending.is_given_up:
                    result = await self._result_of(key, pending)
                    if result.version >= seen:
                        return result
        request = parse_read(found, filters, fields, order_by, limit, offset, self._rows_max)
        if key is None:
            return await self._read_now(found, request, sight)
        # A task of its own, because others may wait for it when this request is cancelled.
        task = self._loop.create_task(self._read_and_keep(key, found, request, sight))
        pending = self._pending[key] = _Pending(model, task)
        return await self._result_of(key, pending)

    async def _result_of(self, key: str, pending: _Pending) -> ReadResult:
        try:
            return await pending.result()
        finally:
            if pending.is_given_up and self._pending.get(key) is pending:
                del self._pending[key]

    async def _read_and_keep(self, key: str, model: Model, request: ReadRequest, sight: Sight) -> ReadResult:
        generation = self._cache.generation
        result = await self._read_now(model, request, sight)
        self._cache.store(key, model.name, result.text, result.version, generation)
        return result

    async def _read_now(self, model: Model, request: ReadRequest, sight: Sight) -> ReadResult:
        def work(connection: Connection) -> ReadResult:
            found = read_rows(connection, self._queries[model.name], request, sight, self._result_max)
            text = result_text(model, request.fields, found.rows, found.total)
            size = len(text) if text.isascii() else len(text.encode())
            if size > self._result_max:
                problem = f"the result has {size} bytes, more than {self._result_max}; ask for fewer rows or fields"
                raise DataError("too_many", problem)
            return ReadResult(text, found.version, False)

        return await self.database.read(work)

    # --- writing ---

    async def create(self, actor: Actor, model: str, data: Any) -> Written:
        """Create one row (a mapping) or several (a list of mappings): all or none.

        Args:
            actor: Who creates, and who owns the rows if the model has an owner.
            model: Name of the model.
            data: The rows as a client has sent them.

        Returns:
            The rows with their keys and defaults, or only their keys if the actor may not read them.

        Raises:
            DataError: ``not_found``, ``forbidden``, ``invalid`` (with ``fields``; ``"[2].title"`` in a list),
                ``conflict``, ``too_many`` or ``failed``.
        """
        found = self._model(model)
        sight = require(actor, found, "create")
        shown = tuple(found.fields) if "read" in actions_of(actor, found) else (found.pk,)

        def work() -> Written:
            rows = new_rows(found, actor, data, self._rows_max)
            created, version = self._change(found, actor, sight, rows, lambda writer: writer.create(rows))
            table = self._queries[found.name].table
            made = [tuple(row._mapping[table.c[name]] for name in shown) for row in created]
            return Written(len(made), ready_rows(found, shown, made), version)

        return await self._write(found, work)

    async def update(self, actor: Actor, model: str, filters: Any, data: Any) -> Written:
        """Change the rows that the filters select and that the actor may see.

        Raises:
            DataError: As for :meth:`create`; ``invalid`` also without filters.
        """
        found = self._model(model)
        sight = require(actor, found, "update")
        selection = Selection(_required_filters(actor, found, filters), sight)

        def work() -> Written:
            values = changed_values(found, data)
            return self._change(found, actor, sight, [values], lambda writer: writer.update(selection, values))

        return await self._write(found, work)

    async def delete(self, actor: Actor, model: str, filters: Any) -> Written:
        """Delete the rows that the filters select and that the actor may see.

        Raises:
            DataError: As for :meth:`create`; ``invalid`` also without filters.
        """
        found = self._model(model)
        sight = require(actor, found, "delete")
        selection = Selection(_required_filters(actor, found, filters), sight)

        def work() -> Written:
            return self._change(found, actor, sight, [], lambda writer: writer.delete(selection))

        return await self._write(found, work)

    def _change(
        self, model: Model, actor: Actor, sight: Sight, rows: list[dict[str, Any]], change: Callable[[Writer], T]
    ) -> T:
        try:
            with self.database.writing() as connection:
                return change(Writer(connection, self._queries, self._queries[model.name], actor))
        except IntegrityError as error:
            clashes: dict[str, str] = {}
            if "read" in actions_of(actor, model):
                clashes = self.database.read_in_thread(
                    lambda connection: visible_clashes(connection, self._queries[model.name], sight, rows)
                )
            raise conflict_of(error, clashes) from None

    async def _write(self, model: Model, work: Callable[[], Written]) -> Written:
        def write() -> Written:
            written = work()
            if written.count:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    # Not after the await, which a cancelled request does not reach.
                    self._loop.call_soon_threadsafe(self._written, model, written.version)
            return written

        return await self.database.run(write, writes=True)

    def _written(self, model: Model, version: int) -> None:
        self._model_changed(model.name, version)
        self._unannounced = True
        self._follower.wake()

    # --- following ---

    def wake(self) -> None:
        """Look for the writes of other processes now, and not up to half a second later."""
        self._follower.wake()

    async def subscribe(
        self, actor: Actor, model: str, filters: Any = None, *, subscriber: Hashable
    ) -> tuple[str, int]:
        """Send the changes of the rows that the actor may see, and that the filters select, to a subscriber.

        What a subscriber gets is described in :mod:`zcli_bifrost.data.subscriptions`.

        Args:
            actor: Who subscribes.
            model: Name of the model.
            filters: As for :meth:`read`.
            subscriber: What ``deliver`` gets: an object that stands for one connection.

        Returns:
            The name of the subscription, and a version: a read with it as ``seen`` and the events together give the
            state of the database. The name is the same in all processes.

        Raises:
            DataError: As for :meth:`read`; ``too_many`` after ``bifrost.subscriptions_max``.
        """
        found = self._model(model)
        sight = require(actor, found, "read")
        group = await self._live.subscribe(found, filters, parse_filters(found, filters), sight, subscriber)
        return group.name, max(group.version, self._follower.known)

    def unsubscribe(self, actor: Actor, model: str, filters: Any = None, *, subscriber: Hashable) -> None:
        """End one subscription. Without such a subscription it has no effect.

        Raises:
            DataError: ``not_found``: no such model, or the actor may do nothing with it.
        """
        self._live.subscriptions.leave(self._known_model(actor, model).name, filters, subscriber)

    def remove_subscriber(self, subscriber: Hashable) -> None:
        """End all subscriptions of a subscriber, whose connection has ended."""
        self._live.subscriptions.leave_all(subscriber)

    async def changes_since(self, version: int) -> Changes:
        """Return the changes after a version.

        Raises:
            DataError: ``failed``.
        """
        return await self.database.read(lambda connection: changes.changes_since(connection, version))

    async def _take_changes(self, known: int) -> int:
        written, self._unannounced = self._unannounced, False  # before a call that may fail, which must not be repeated
        if written and self._announce is not None:
            self._announce()
        batch = await self._live.read_changes(known)
        if batch.found.changes is None:
            self._cache.forget()
            self._pending.clear()
        for change in batch.found.changes or ():
            self._model_changed(change.model, change.version)
        self._live.deliver(batch)
        return batch.found.version

    def _model_changed(self, model: str, version: int) -> None:
        self._cache.model_changed(model, version)
        # No further request may wait for a read that began before the change.
        for key in [key for key, pending in self._pending.items() if pending.model == model]:
            del self._pending[key]

    # --- the cache ---

    def cache_stats(self) -> Mapping[str, Any]:
        """Return the state of this process's cache: hits, misses, expired, entries, bytes, ttl."""
        return self._cache.stats()

    def clear_cache(self) -> None:
        """Drop all results of this process's cache. The caller checks ``bifrost.admin_role``."""
        self._cache.clear()

    def set_cache_ttl(self, ttl: Any) -> None:
        """Change how long this process keeps results, in seconds: 0 to 3600. The caller checks ``bifrost.admin_role``.

        Raises:
            DataError: ``invalid``.
        """
        self._cache.ttl = _checked_ttl(ttl)


def _checked_ttl(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_TTL:
        raise DataError("invalid", f"the time to live must be a number of seconds between 0 and {_MAX_TTL}")
    return float(value)


def _required_filters(actor: Actor, model: Model, given: Any) -> Filters:
    """Return the filters of an update or delete.

    A client that may not read the rows must not find out their values by counting them, so it names them by key.

    Raises:
        DataError: ``invalid`` without filters, ``forbidden`` for filters by other fields than the key.
    """
    filters = parse_filters(model, given)
    if not filters.conditions:
        raise DataError("invalid", f'filters are required, such as {{"{model.pk}": 1}}; no request changes all rows')
    if "read" not in actions_of(actor, model) and not filters.only_about(model.pk):
        raise DataError("forbidden", f"you may not read rows of {model.name!r}, so filters may only name {model.pk!r}")
    return filters
