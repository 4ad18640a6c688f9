"""The last failure of each client, kept apart for every thread and every asyncio task."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from zcli_core.http.contract import HttpFailure

# A context variable belongs to the module: one made for each client could never be freed. What it holds is replaced,
# never changed, for a task begins with a copy of its parent's context that shares the values.
_NOTHING: Mapping[int, HttpFailure] = MappingProxyType({})
_failures: ContextVar[Mapping[int, HttpFailure]] = ContextVar("zcli_http_failures", default=_NOTHING)
_numbers = itertools.count()


class LastFailure:
    """Holds one client's last failure in the calling thread or task."""

    __slots__ = ("_number",)

    def __init__(self) -> None:
        self._number = next(_numbers)

    def get(self) -> HttpFailure | None:
        """The failure of the last call, or None if it got an answer or there was no call."""
        return _failures.get().get(self._number)

    def set(self, failure: HttpFailure) -> None:
        """Keep a failure."""
        _failures.set({**_failures.get(), self._number: failure})

    def clear(self) -> None:
        """The last call got an answer."""
        known = _failures.get()
        if self._number in known:
            _failures.set({number: failure for number, failure in known.items() if number != self._number})
