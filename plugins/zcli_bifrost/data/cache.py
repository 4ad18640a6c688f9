"""Results of reads, kept in memory of one process until a write changes their model."""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

from zcli_bifrost.data.access import Sight

#: Memory of an entry besides its text and key, in bytes.
_OVERHEAD = 400
#: Longest request whose result is kept, in characters.
MAX_KEY = 4096


class Entry(NamedTuple):
    """One result.

    Attributes:
        model: Name of the model.
        text: The result as JSON.
        version: Version of the database that it shows.
        stored: When it was stored, by the monotonic clock.
    """

    model: str
    text: str
    version: int
    stored: float


class ReadCache:
    """Results by request and sight; the one that was used least recently is dropped first.

    Attributes:
        ttl: How long a result is used, in seconds.
    """

    def __init__(self, max_bytes: int, ttl: float) -> None:
        self.ttl = ttl
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._by_model: dict[str, set[str]] = {}
        self._bytes = 0
        #: The last change of each model that this process knows.
        self._changed: dict[str, int] = {}
        #: Changes when the known changes are forgotten: a read that began before must not be stored.
        self.generation = 0
        self.counts: Counter[str] = Counter(hits=0, misses=0, expired=0)

    def find(self, key: str, ttl: float, known: int, seen: int) -> Entry | None:
        """Return a result that is young enough, or None.

        Args:
            key: Key of the request.
            ttl: Highest age, in seconds.
            known: Version up to which all changes are known here: a result that is still kept is valid for it.
            seen: Version that the result must at least show.
        """
        entry = self._entries.get(key)
        if entry is None:
            self.counts["misses"] += 1
            return None
        if time.monotonic() - entry.stored > min(ttl, self.ttl) or ttl == 0:
            self.counts["expired"] += 1
            return None
        if max(known, entry.version) < seen:
            self.counts["misses"] += 1
            return None
        self._entries.move_to_end(key)
        self.counts["hits"] += 1
        return entry

    def store(self, key: str, model: str, text: str, version: int, generation: int) -> None:
        """Keep a result, unless a later change of its model is known.

        Args:
            key: Key of the request.
            model: Name of the model.
            text: The result.
            version: Version of the database that it shows.
            generation: Value of :attr:`generation` when the read began.
        """
        if version < self._changed.get(model, 0) or generation != self.generation:
            return
        self._drop(key)
        size = _size(key, text)
        if size > self._max_bytes:
            return
        self._entries[key] = Entry(model, text, version, time.monotonic())
        self._by_model.setdefault(model, set()).add(key)
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def model_changed(self, model: str, version: int) -> None:
        """Drop the results that a change of a model has made out of date."""
        self._changed[model] = max(version, self._changed.get(model, 0))
        for key in list(self._by_model.get(model, ())):
            if self._entries[key].version < version:
                self._drop(key)

    def clear(self) -> None:
        """Drop all results."""
        self._entries.clear()
        self._by_model.clear()
        self._bytes = 0

    def forget(self) -> None:
        """Drop all results and all known changes, because it is not known what has changed."""
        self.clear()
        self.generation += 1
        self._changed.clear()

    def stats(self) -> dict[str, Any]:
        """Return the counters and the size, in bytes."""
        return {**self.counts, "entries": len(self._entries), "bytes": self._bytes, "ttl": self.ttl}

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._by_model[entry.model].discard(key)
            self._bytes -= _size(key, entry.text)


def _size(key: str, text: str) -> int:
    return len(key) + (len(text) if text.isascii() else 4 * len(text)) + _OVERHEAD


_encode = json.JSONEncoder(sort_keys=True).encode


def key_of(model: str, sight: Sight, *request: Any) -> str | None:
    """Return the key of a request, as the client has sent it; None if its result is not kept."""
    try:
        key = _encode((model, sight.owner, request))
    except (TypeError, ValueError, RecursionError):
        return None
    return key if len(key) <= MAX_KEY else None
