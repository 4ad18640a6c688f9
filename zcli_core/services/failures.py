"""Why a service could not be started or stopped, kept apart for every thread and every asyncio task."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import NamedTuple


class ServiceFailure(NamedTuple):
    """Why a call about a service gave False or None. ``str()`` of it is meant for people.

    ``action`` is ``"start"``, ``"stop"``, ``"restart"`` or ``"connection info"``; ``message`` the cause; ``command``
    what a person could run, exactly, or None; ``log`` the server's own last lines, if it left any. What other programs
    said is printable in all of them.
    """

    service: str
    action: str
    message: str
    command: str | None = None
    log: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.service}: {self.message}"
        if self.command:
            text += f"; this would do it: {self.command}"
        return "\n    ".join([text, *self.log])


# What the variable holds is replaced, never changed: a task begins with a copy of its parent's context.
_NOTHING: Mapping[int, ServiceFailure] = MappingProxyType({})
_failures: ContextVar[Mapping[int, ServiceFailure]] = ContextVar("zcli_service_failures", default=_NOTHING)
_numbers = itertools.count()


class LastFailure:
    """One facade's last failure in the calling thread or task."""

    __slots__ = ("_number",)

    def __init__(self) -> None:
        self._number = next(_numbers)

    def get(self) -> ServiceFailure | None:
        """The failure of the last call, or None if it succeeded."""
        return _failures.get().get(self._number)

    def set(self, failure: ServiceFailure | None) -> None:
        """Keep a failure, or with None forget the one before."""
        others = {number: item for number, item in _failures.get().items() if number != self._number}
        _failures.set(others if failure is None else {**others, self._number: failure})
