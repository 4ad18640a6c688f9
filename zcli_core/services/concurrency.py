"""Calling a function for several items at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def map_concurrently(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Return ``[function(item) for item in items]``, with one thread for each item.

    The first exception that a call raised is raised again after all calls have ended.
    """
    from concurrent.futures import ThreadPoolExecutor

    todo = list(items)
    with ThreadPoolExecutor(max(len(todo), 1), "zcli-service-probe") as pool:
        return list(pool.map(function, todo))
