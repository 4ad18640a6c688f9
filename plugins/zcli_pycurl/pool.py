"""Handles that are kept between requests, each with its connection, for all threads of one transport."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from zcli_core.contracts.http import HttpRequest
from zcli_pycurl.handle import Handle
from zcli_pycurl.place import Place

#: Seconds after which an idle connection is not used again: routers and firewalls forget it without telling anybody.
LONGEST_IDLE = 60.0


class HandlePool:
    """Idle handles by where their connections lead; the one used last is used next, so that surplus ones grow old.

    Nobody ever waits for one: with more threads than ``size`` more are made, and what comes back above ``size`` for
    one place, or above ``total`` in all, is closed.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._total = max(256, 2 * size)
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[Place, list[tuple[Handle, float]]] = OrderedDict()
        self._count = 0
        self._closed = False

    def take(self, place: Place, request: HttpRequest) -> Handle | None:
        """An idle handle whose connection still stands, or None."""
        while True:
            with self._lock:
                handles = self._idle.get(place)
                if not handles:
                    return None
                handle, since = handles.pop()
                self._count -= 1
            if time.monotonic() - since < LONGEST_IDLE and handle.is_fresh(request):
                return handle
            handle.close()

    def give_back(self, place: Place, handle: Handle) -> None:
        """Keep a handle for the next request."""
        surplus: Handle | None = handle
        with self._lock:
            if not self._closed:
                handles = self._idle.setdefault(place, [])
                self._idle.move_to_end(place)
                if len(handles) < self._size:
                    handles.append((handle, time.monotonic()))
                    self._count += 1
                    surplus = self._oldest() if self._count > self._total else None
        if surplus is not None:
            surplus.close()

    def _oldest(self) -> Handle | None:
        for place, handles in list(self._idle.items()):
            if handles:
                self._count -= 1
                return handles.pop(0)[0]
            del self._idle[place]
        return None

    def close(self) -> None:
        """Close the idle handles now, and those in use when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, OrderedDict()
            self._count = 0
        for handles in idle.values():
            for handle, _ in handles:
                handle.close()

    def after_fork(self) -> None:
        """In the child after a fork: the connections are the parent's, and a lock that another thread held has nobody
        left to release it."""
        idle, closed = self._idle, self._closed
        self._start_empty()
        self._closed = closed
        for handles in idle.values():
            for handle, _ in handles:
                handle.abandon()
