"""The front of the data library: what an actor may read, change and follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, NamedTuple

from zcli_bifrost.data.actor import Actor


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


class Written(NamedTuple):
    """The result of a create, update or delete.

    Attributes:
        count: Number of rows.
        rows: The new rows with their keys after a create, else an empty list.
        version: Version of the database that the write has made. A client that sends it as ``seen`` reads this write.
    """

    count: int
    rows: list[dict[str, Any]]
    version: int


class DataEvent(NamedTuple):
    """A change of rows that subscribers may see.

    Attributes:
        subscription: Name of the subscription, as :meth:`DataService.subscribe` returned it.
        model: Name of the model.
        action: ``"insert"``, ``"update"``, ``"delete"`` or ``"refresh"``.
        text: The ``data`` of the event ``data_updated`` as JSON: subscription, model, action, version, and ``rows``
            (insert, update) or ``keys`` (delete).
    """

    subscription: str
    model: str
    action: str
    text: str


#: Gets an event and the subscribers to send it to. It is called in the thread of the event loop and must not block.
Deliver = Callable[[DataEvent, Collection[Hashable]], None]


class DataService:
    """Models in a database, for actors.

    All methods are called in the thread of one event loop. None of them blocks it.
    """

    async def start(self, deliver: Deliver | None = None) -> None:
        """Make missing tables, check the existing ones, and follow the changes of all processes.

        Args:
            deliver: Takes the events of subscriptions.

        Raises:
            ConfigError: A table does not fit its model; the error lists all differences. Or the database cannot be
                reached or used.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Wait for running statements, at most ``bifrost.query_timeout``, and disconnect from the database."""
        raise NotImplementedError

    def models(self, actor: Actor) -> list[dict[str, Any]]:
        """Return :meth:`describe` of each model with which the actor may do something."""
        raise NotImplementedError

    def describe(self, actor: Actor, model: str) -> dict[str, Any]:
        """Return what an actor may do with a model, and its fields with their rules, ready for JSON.

        Raises:
            DataError: ``not_found``: no such model, or the actor may do nothing with it.
        """
        raise NotImplementedError

    async def create(self, actor: Actor, model: str, data: Any) -> Written:
        """Create one row (a mapping) or several (a list of mappings): all or none.

        Raises:
            DataError: ``not_found``, ``forbidden``, ``invalid`` (with ``fields``; ``"[2].title"`` in a list),
                ``conflict``, ``too_many`` or ``failed``.
        """
        raise NotImplementedError

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
            cache_ttl: Oldest result that is taken from the cache, in seconds; ``bifrost.cache_ttl`` by default.
            no_cache: Whether the database is read in any case.
            seen: Highest version that the client has got. The result is never older.

        Raises:
            DataError: ``not_found``, ``forbidden``, ``invalid``, ``too_many`` or ``failed``.
        """
        raise NotImplementedError

    async def update(self, actor: Actor, model: str, filters: Any, data: Any) -> Written:
        """Change the rows that the filters select and that the actor may see.

        Raises:
            DataError: As for :meth:`create`; ``invalid`` also without filters.
        """
        raise NotImplementedError

    async def delete(self, actor: Actor, model: str, filters: Any) -> Written:
        """Delete the rows that the filters select and that the actor may see.

        Raises:
            DataError: As for :meth:`create`; ``invalid`` also without filters.
        """
        raise NotImplementedError

    async def subscribe(
        self, actor: Actor, model: str, filters: Any = None, *, subscriber: Hashable
    ) -> tuple[str, int]:
        """Send the changes of the rows that the actor may see, and that the filters select, to a subscriber.

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
        raise NotImplementedError

    def unsubscribe(self, actor: Actor, model: str, filters: Any = None, *, subscriber: Hashable) -> None:
        """End one subscription. Without such a subscription it has no effect."""
        raise NotImplementedError

    def remove_subscriber(self, subscriber: Hashable) -> None:
        """End all subscriptions of a subscriber, whose connection has ended."""
        raise NotImplementedError

    def changes_since(self, version: int) -> Any:
        """Return the changes after a version, oldest first: a coroutine for a list of ``Change``.

        The result is None if some of them are no longer in the change table.
        """
        raise NotImplementedError

    def hint(self, version: int) -> None:
        """Say that another process has made this version, so that its changes are read now and not up to 0.5 s later.

        It may be wrong or too late; it only wakes the follower. Any thread may call it.
        """
        raise NotImplementedError

    #: Called in the event loop's thread with the version of each own write, for hints to other processes.
    on_write: Callable[[int], None] | None = None

    def cache_stats(self) -> Mapping[str, Any]:
        """Return the state of this process's cache: hits, misses, expired, entries, bytes, ttl."""
        raise NotImplementedError

    def clear_cache(self) -> None:
        """Drop all results of this process's cache. The caller checks ``bifrost.admin_role``."""
        raise NotImplementedError

    def set_cache_ttl(self, ttl: Any) -> None:
        """Change how long this process keeps results, in seconds: 0 to 3600. The caller checks ``bifrost.admin_role``.

        Raises:
            DataError: ``invalid``.
        """
        raise NotImplementedError
