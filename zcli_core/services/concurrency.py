"""Calling a function for several items at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def map_concurrently(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Return ``[function(item) for item in items]``, with one thread for each item.

    Raises:
        BaseException: the first exception that a call raised, after all calls have ended.
    """
    todo = list(items)
    if len(todo) < 2:
        return [function(item) for item in todo]
    results: dict[int, _R] = {}
    errors: list[BaseException] = []

    def work(index: int, item: _T) -> None:
        try:
            results[index] = function(item)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=pair, name="zcli-service-probe", daemon=True) for pair in enumerate(todo)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(todo))]
