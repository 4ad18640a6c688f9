"""Connections that are kept open between requests, for all threads of one transport."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable

from zcli_urllib3.connections import PlainConnection, SecureConnection

Connection = PlainConnection | SecureConnection

#: Seconds after which an idle connection is not used again: routers and firewalls forget it without telling anybody.
LONGEST_IDLE = 60.0


class ConnectionPool:
    """Idle connections by where they lead; the one used last is used next, so that surplus ones grow old.

    Nobody ever waits for a connection: with more threads than ``size`` more are opened, and what comes back above
    ``size`` for one place, or above ``total`` in all, is closed.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._total = max(256, 2 * size)
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[Hashable, list[tuple[Connection, float]]] = OrderedDict()
        self._count = 0
        self._closed = False

    def take(self, place: Hashable) -> Connection | None:
        """An idle connection that still stands, or None."""
        while True:
            with self._lock:
                connections = self._idle.get(place)
                if not connections:
                    return None
                connection, since = connections.pop()
                self._count -= 1
            # Anything to read on an idle connection is its end, or an answer nobody asked for.
            if time.monotonic() - since < LONGEST_IDLE and connection.is_connected:
                return connection
            connection.close()

    def give_back(self, place: Hashable, connection: Connection) -> None:
        """Keep a connection for the next request."""
        surplus: Connection | None = connection
        with self._lock:
            if not self._closed:
                connections = self._idle.setdefault(place, [])
                self._idle.move_to_end(place)
                if len(connections) < self._size:
                    connections.append((connection, time.monotonic()))
                    self._count += 1
                    surplus = self._oldest() if self._count > self._total else None
        if surplus is not None:
            surplus.close()

    def _oldest(self) -> Connection | None:
        for place, connections in list(self._idle.items()):
            if connections:
                self._count -= 1
                return connections.pop(0)[0]
            del self._idle[place]
        return None

    def close(self) -> None:
        """Close the idle connections now, and those in use when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, OrderedDict()
            self._count = 0
        for connections in idle.values():
            for connection, _ in connections:
                connection.close()

    def after_fork(self) -> None:
        """In the child after a fork: the connections are the parent's. Closing our copies of them tells the peer
        nothing, and a lock that another thread held has nobody left to release it."""
        idle, closed = self._idle, self._closed
        self._start_empty()
        self._closed = closed
        for connections in idle.values():
            for connection, _ in connections:
                connection.close()
