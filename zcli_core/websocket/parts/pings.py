"""The pings of a connection that have not been answered by a pong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class PendingPings:
    """Remembers when each ping was sent, and the future that waits for its pong."""

    __slots__ = ("_keepalive", "_sent")

    def __init__(self) -> None:
        self._sent: dict[bytes, tuple[float, asyncio.Future[float] | None]] = {}
        #: The last keepalive ping. Only one is remembered, however long a client sends no pong.
        self._keepalive: bytes | None = None

    def __contains__(self, payload: bytes) -> bool:
        return payload in self._sent

    @property
    def keepalive_is_pending(self) -> bool:
        """Whether the last keepalive ping is unanswered."""
        return self._keepalive in self._sent

    def add(self, payload: bytes, future: asyncio.Future[float] | None) -> None:
        """Note that a ping is sent.

        Args:
            payload: The payload of the ping.
            future: Set to the seconds until the pong; None for a keepalive ping.
        """
        if future is None:
            if self._keepalive is not None:
                self._sent.pop(self._keepalive, None)
            self._keepalive = payload
        self._sent[payload] = (time.perf_counter(), future)

    def resolve(self, payload: bytes) -> float | None:
        """Note that a pong has come, which answers all pings before its own too (RFC 6455, 5.5.3).

        Returns:
            The seconds since the ping; None for a pong without a ping.
        """
        if payload not in self._sent:
            return None
        now = time.perf_counter()
        for sent in list(self._sent):
            since, future = self._sent.pop(sent)
            if future is not None and not future.done():
                future.set_result(now - since)
            if sent == payload:
                break
        return now - since

    def fail(self, error: Exception) -> None:
        """Fail all futures, because no pong will come any more."""
        for _, future in self._sent.values():
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # marks it as retrieved: a caller may have dropped the future
        self._sent.clear()
