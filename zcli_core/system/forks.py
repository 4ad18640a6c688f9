"""What has to be made anew in the child process after a fork.

A lock that another thread of the parent held has nothing left to release it, and connections are the parent's.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class ForkAware(Protocol):
    """An object that needs to know that it is in a child process."""

    def after_fork(self) -> None:
        """Make anew what must not be shared with the parent. Called in the child, before anything else runs."""
        ...


# A fork handler cannot be taken back, so there is one for all objects, and it does not keep them alive.
_objects: WeakSet[ForkAware] = WeakSet()


def call_after_fork(thing: ForkAware) -> None:
    """Have ``after_fork()`` of this object called in every child process, for as long as the object lives."""
    _objects.add(thing)


def _after_fork() -> None:
    errors: list[Exception] = []
    for thing in list(_objects):
        try:
            thing.after_fork()
        except Exception as error:  # noqa: BLE001 - the other objects need their call all the same
            errors.append(error)
    if errors:
        raise errors[0]  # Python prints it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
