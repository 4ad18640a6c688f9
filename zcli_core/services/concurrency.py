"""Calling a function for several items at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def map_concurrently(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Return ``[function(item) for item in items]``, with one thread for each item.

    The first exception that a call raised is raised again after all calls have ended. Ctrl+C does not wait for them.
    """
    from concurrent.futures import Future, wait

    def work(future: Future[_R], item: _T) -> None:
        try:
            future.set_result(function(item))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            future.set_exception(error)

    calls: list[tuple[Future[_R], _T]] = [(Future(), item) for item in items]
    for call in calls:  # daemon threads, because a pool's threads would keep the program from ending
        threading.Thread(target=work, args=call, name="zcli-service-probe", daemon=True).start()
    futures = [future for future, _ in calls]
    wait(futures)
    return [future.result() for future in futures]
