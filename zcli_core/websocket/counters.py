"""Counters of a WebSocket server: plain integers that its event loop changes and every thread may read."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core.durations import Durations

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Message

#: The close codes that are counted one by one. A client chooses its code, so the others are counted together: what
#: reads the counters may keep every name that it has seen.
CLOSE_CODES = (1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)
OTHER = "other"

#: What can become of a connection that asks for a WebSocket.
ACCEPTED = "accepted"
REFUSED_AUTH, REFUSED_FULL, REFUSED_ORIGIN = "refused_auth", "refused_full", "refused_origin"
REFUSED_PATH, FAILED = "refused_path", "failed"
RESULTS = (ACCEPTED, REFUSED_AUTH, REFUSED_FULL, REFUSED_ORIGIN, REFUSED_PATH, FAILED)

#: Upper limits of the buckets of ``open_seconds``, in seconds, up to the default of ``websocket.open_timeout``.
_OPEN_LIMITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_TRAFFIC = ("bytes_received", "bytes_sent", "messages_received", "messages_sent")
_EVENTS = ("handler_errors", "slow_clients")


class Traffic:
    """Messages and the bytes of their content."""

    __slots__ = _TRAFFIC

    def __init__(self) -> None:
        #: Messages that clients sent.
        self.messages_received = self.bytes_received = 0
        #: Messages that were sent to clients, each counted for each client.
        self.messages_sent = self.bytes_sent = 0

    def add_traffic(self, other: Traffic) -> None:
        """Add the values of other traffic."""
        for name in _TRAFFIC:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Counters(Traffic):
    """The counters of one running server, changed in the thread of its event loop only.

    With the access log, each connection counts its own traffic, which is added here when the connection ends.
    """

    __slots__ = (*_EVENTS, "_lock", "_open", "closed", "connections", "open_seconds")

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._open: set[Traffic] = set()
        #: Clients that were closed because they read too slowly.
        self.slow_clients = 0
        #: Errors that handlers and callbacks raised.
        self.handler_errors = 0
        #: Seconds from accepting a connection to admitting its client.
        self.open_seconds = Durations(_OPEN_LIMITS)
        #: Connections by :data:`RESULTS`.
        self.connections = dict.fromkeys(RESULTS, 0)
        #: Connections that have ended, by close code or :data:`OTHER`.
        self.closed = dict.fromkeys((*map(str, CLOSE_CODES), OTHER), 0)

    def count_close(self, code: int) -> None:
        """Count a connection that has ended."""
        name = str(code)
        self.closed[name if name in self.closed else OTHER] += 1

    def begin(self, traffic: Traffic) -> None:
        """Include the traffic of a connection that counts for itself."""
        with self._lock:
            self._open.add(traffic)

    def end(self, traffic: Traffic) -> None:
        """Keep the traffic of a connection that has ended."""
        with self._lock:  # a sum must not find it twice
            self._open.discard(traffic)
            self.add_traffic(traffic)

    def add(self, others: Iterable[Counters]) -> None:
        """Add the values of other counters."""
        for other in others:
            with other._lock:
                for traffic in (other, *other._open):
                    self.add_traffic(traffic)
            for name in _EVENTS:
                setattr(self, name, getattr(self, name) + getattr(other, name))
            for name in RESULTS:
                self.connections[name] += other.connections[name]
            for name in self.closed:
                self.closed[name] += other.closed[name]
            self.open_seconds.merge(other.open_seconds)


class Totals:
    """The counters of all servers of one ``zCLI`` object, those that have ended included. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[Counters] = []
        self._ended = Counters()

    def begin(self, counters: Counters) -> None:
        """Include the counters of a server that has started."""
        with self._lock:
            self._running.append(counters)

    def end(self, counters: Counters) -> None:
        """Keep the values of a server that has ended."""
        with self._lock:
            if counters in self._running:
                self._running.remove(counters)
                self._ended.add((counters,))

    def sum(self) -> Counters:
        """Return the sum of all counters at this moment."""
        total = Counters()
        with self._lock:
            total.add((self._ended, *self._running))
        return total


def size_of(message: Message) -> int:
    """Return the bytes of a message's content, which is UTF-8 for a text."""
    return len(message.encode()) if isinstance(message, str) else len(message)
