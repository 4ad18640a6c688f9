"""The last failure of an object, kept apart for every thread and every asyncio task."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

F = TypeVar("F")

# One variable for all objects, because a context variable is never freed. The mapping is replaced and never changed,
# because a task begins with a copy of its parent's context, which holds the same mapping.
_NOTHING: Mapping[int, Any] = MappingProxyType({})
_failures: ContextVar[Mapping[int, Any]] = ContextVar("zcli_last_failures", default=_NOTHING)
_numbers = itertools.count()


class LastFailure(Generic[F]):
    """Holds the last failure of one object in the calling thread or task."""

    __slots__ = ("_number",)

    def __init__(self) -> None:
        self._number = next(_numbers)

    def get(self) -> F | None:
        """Return the failure of the last call, or None if it succeeded or there was no call."""
        return cast("F | None", _failures.get().get(self._number))

    def set(self, failure: F | None) -> None:
        """Keep a failure; None stands for a call that succeeded."""
        known = _failures.get()
        if failure is not None:
            _failures.set({**known, self._number: failure})
        elif self._number in known:
            _failures.set({number: other for number, other in known.items() if number != self._number})
