"""Calls objects in the child process after a fork, so that they replace what they must not share with the parent.

A lock that another thread of the parent held would never be released in the child, and connections belong to the
parent.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class ForkAware(Protocol):
    """An object with a method to call after a fork."""

    def _after_fork(self) -> None:
        """Replace what must not be shared with the parent. Called in the child, before other code runs."""
        ...


# One fork handler for all objects, because a handler cannot be removed. It does not keep the objects alive.
_objects: WeakSet[ForkAware] = WeakSet()


def call_after_fork(thing: ForkAware) -> None:
    """Call ``_after_fork()`` of this object in every child process, as long as the object lives."""
    _objects.add(thing)


def _after_fork() -> None:
    errors: list[Exception] = []
    for thing in list(_objects):
        try:
            thing._after_fork()
        except Exception as error:  # noqa: BLE001 - the other objects still need their call
            errors.append(error)
    if errors:
        raise errors[0]  # Python prints it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
