"""The last failure of an object, kept apart for every thread and every asyncio task."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Generic, TypeVar

_F = TypeVar("_F")

# One context variable for all objects, because a context variable is never freed. Its mapping is replaced and never
# changed: a task starts with a copy of its parent's context, which refers to the same mapping.
_NOTHING: Mapping[int, Any] = MappingProxyType({})
_failures: ContextVar[Mapping[int, Any]] = ContextVar("zcli_last_failures", default=_NOTHING)
_numbers = itertools.count()


class LastFailure(Generic[_F]):
    """Holds the last failure of one object in the calling thread or task."""

    __slots__ = ("_number",)

    def __init__(self) -> None:
        self._number = next(_numbers)

    def get(self) -> _F | None:
        """Return the failure of the last call; None if it succeeded or there was no call."""
        return _failures.get().get(self._number)

    def set(self, failure: _F) -> None:
        """Store the failure of a call."""
        _failures.set({**_failures.get(), self._number: failure})

    def clear(self) -> None:
        """Remove the failure of an earlier call."""
        known = _failures.get()
        if self._number in known:
            _failures.set({number: failure for number, failure in known.items() if number != self._number})
