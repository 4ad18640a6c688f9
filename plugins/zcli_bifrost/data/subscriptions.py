"""Live updates: what each subscriber gets for a change.

Subscribers with the same filters and the same sight form a group. A group holds the keys of the rows that it shows, so
a change needs no history: the rows with the changed keys are read again, and compared with the group:

- a row that the group did not show and shows now: ``insert``, with the row;
- a row that it showed and still shows: ``update``, with the row;
- a row that it showed and no longer shows: ``delete``, with its key. The row may be deleted, may no longer meet the
  filters, or may belong to another owner;
- a row that it showed neither before nor now: nothing, so that no client learns of it;
- a change of more rows than the change table names, of rows that are too large together, or of too many large rows for
  the patterns of the filters, or a group with more rows than it can hold: ``refresh``. The client reads again. It also
  comes if the change was not about rows of the group.

Changes that follow each other quickly are combined: a client gets the last state of a row, and not each one between.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from zcli_bifrost.data.access import Sight
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.filters import Filters
from zcli_bifrost.data.models import Model
from zcli_bifrost.data.reads import dumps, ready_rows

#: Most keys that one group holds, and all groups of a process together. A set takes about 100 bytes for each.
MAX_GROUP_KEYS = 10_000
MAX_KEYS = 500_000
#: Most keys that are noted while the keys of a group are loaded.
MAX_MISSED = 500


class DataEvent(NamedTuple):
    """A change of rows that subscribers may see.

    Attributes:
        subscription: Name of the subscription, as :meth:`.service.DataService.subscribe` returned it.
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


class ChangedRows:
    """The rows of one model that have changed, as they are now.

    Attributes:
        model: The model.
        keys: Their keys, with the version of the last change of each; None if there are too many.
        rows: The rows that exist, by key.
    """

    def __init__(self, model: Model, keys: Mapping[Any, int] | None, rows: Mapping[Any, Mapping[str, Any]]) -> None:
        self.model = model
        self.keys = keys
        self.rows = rows
        self._texts: dict[Any, str] = {}

    def text(self, key: Any) -> str:
        """Return a row as JSON; it is made once for all groups."""
        if key not in self._texts:
            fields = tuple(self.model.fields)
            row = self.rows[key]
            self._texts[key] = dumps(ready_rows(self.model, fields, [[row[name] for name in fields]])[0])
        return self._texts[key]


class Group:
    """Subscribers that see the same rows.

    Attributes:
        name: Name of the subscription.
        keys: Keys of the rows that it shows; None if there are too many, or before they are loaded.
        loaded: Whether ``keys`` is in force.
        loading: The task that loads the keys, if there is one.
        missed: Keys that have changed while the keys were loaded, as in :class:`ChangedRows`; None if too many.
        version: Version of the database whose rows the keys are, when they were loaded.
    """

    def __init__(self, name: str, model: Model, filters: Filters, sight: Sight) -> None:
        self.name = name
        self.model = model
        self.filters = filters
        self.sight = sight
        self._has_patterns = any(each.op == "like" for each in filters.conditions)
        #: In their order, because a server sends quicker in the order in which its connections were made.
        self.subscribers: dict[Hashable, None] = {}
        self.keys: set[Any] | None = None
        self.loaded = False
        self.version = 0
        self.loading: asyncio.Task[None] | None = None
        self.missed: dict[Any, int] | None = {}

    def shows(self, row: Mapping[str, Any]) -> bool:
        """Return whether subscribers may see a row and have asked for it."""
        return self._may_see(row) and self.filters.matches(row)

    def _may_see(self, row: Mapping[str, Any]) -> bool:
        return self.sight.owner is None or row[str(self.model.owner)] == self.sight.owner

    def effort(self, changed: ChangedRows) -> int:
        """Return how many steps the patterns of the filters take to be compared with changed rows, at most."""
        if not self._has_patterns:
            return 0
        return sum(self.filters.effort(row) for row in changed.rows.values() if self._may_see(row))

    def miss(self, changed: ChangedRows) -> None:
        """Note a change that comes while the keys are loaded."""
        if changed.keys is None or self.missed is None:
            self.missed = None
        else:
            self.missed.update(changed.keys)
            if len(self.missed) > MAX_MISSED:
                self.missed = None

    def events(self, changed: ChangedRows, version: int) -> Iterator[DataEvent]:
        """Yield the events of a change, and take it over. The rows of missed keys must be in the change."""
        missed, self.missed = self.missed or {}, {}
        if changed.keys is None or (self.keys is None and changed.keys):
            yield self.event("refresh", version)
        if changed.keys is None or self.keys is None:
            return
        inserted: list[str] = []
        updated: list[str] = []
        deleted: list[Any] = []
        # The keys that were loaded show the changes up to their version.
        for key in [key for key, changed_at in {**missed, **changed.keys}.items() if changed_at > self.version]:
            row = changed.rows.get(key)
            if row is not None and self.shows(row):
                (updated if key in self.keys else inserted).append(changed.text(key))
                self.keys.add(key)
            elif key in self.keys:
                self.keys.discard(key)
                deleted.append(key)
        for action, rows in (("insert", inserted), ("update", updated)):
            if rows:
                yield self.event(action, version, f',"rows":[{",".join(rows)}]')
        if deleted:
            yield self.event("delete", version, f',"keys":{dumps(deleted)}')
        if len(self.keys) > MAX_GROUP_KEYS:
            self.keys = None

    def event(self, action: str, version: int, rest: str = "") -> DataEvent:
        """Return an event; ``rest`` is the end of its JSON text."""
        name = self.model.name
        head = f'{{"subscription":"{self.name}","model":"{name}","action":"{action}","version":{version}'
        return DataEvent(self.name, name, action, f"{head}{rest}}}")


class Subscriptions:
    """All groups of one process."""

    def __init__(self, most: int) -> None:
        """Take the highest number of subscriptions of one subscriber."""
        self._most = most
        self._groups: dict[str, dict[tuple[str, Sight], Group]] = {}
        self._of: dict[Hashable, set[Group]] = {}

    def groups(self) -> dict[str, list[Group]]:
        """Return all groups by model."""
        return {model: list(groups.values()) for model, groups in self._groups.items()}

    def join(self, model: Model, given: Any, filters: Filters, sight: Sight, subscriber: Hashable) -> Group:
        """Add a subscriber to the group with these filters and this sight, which is made if it is missing.

        Raises:
            DataError: ``too_many``.
        """
        name = name_of(model.name, given)
        groups = self._groups.get(model.name, {})
        group = groups.get((name, sight)) or Group(name, model, filters, sight)
        of = self._of.get(subscriber, set())
        if group not in of and len(of) >= self._most:
            raise DataError("too_many", f"a client may have at most {self._most} subscriptions")
        self._groups.setdefault(model.name, groups)[name, sight] = group
        self._of.setdefault(subscriber, of).add(group)
        group.subscribers[subscriber] = None
        return group

    def leave(self, model: str, given: Any, subscriber: Hashable) -> None:
        """Take a subscriber out of its group with these filters."""
        name = name_of(model, given)
        for group in list(self._of.get(subscriber, ())):
            if group.name == name and group.model.name == model:
                self._remove(group, subscriber)

    def leave_all(self, subscriber: Hashable) -> None:
        """Take a subscriber out of all groups."""
        for group in list(self._of.get(subscriber, ())):
            self._remove(group, subscriber)

    def room_for_keys(self) -> int:
        """Return how many keys a further group may hold."""
        held = sum(len(group.keys or ()) for groups in self._groups.values() for group in groups.values())
        return max(0, min(MAX_GROUP_KEYS, MAX_KEYS - held))

    def _remove(self, group: Group, subscriber: Hashable) -> None:
        group.subscribers.pop(subscriber, None)
        of = self._of[subscriber]
        of.discard(group)
        if not of:
            del self._of[subscriber]
        if not group.subscribers:
            groups = self._groups[group.model.name]
            if groups.get((group.name, group.sight)) is group:
                del groups[group.name, group.sight]
            if not groups:
                del self._groups[group.model.name]


def name_of(model: str, given: Any) -> str:
    """Return the name of a subscription: the same for the same filters, in every process and for every client."""
    text = json.dumps((model, given or {}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
