"""The pings of a connection that wait for their pongs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Pings:
    """Remembers when each ping was sent and who waits for its answer."""

    __slots__ = ("_keepalive", "_sent")

    def __init__(self) -> None:
        self._sent: dict[bytes, tuple[float, asyncio.Future[float] | None]] = {}
        #: The last ping that nobody waits for: only one is remembered, however long a client answers none.
        self._keepalive: bytes | None = None

    def __contains__(self, payload: bytes) -> bool:
        return payload in self._sent

    @property
    def keepalive_waits(self) -> bool:
        """Whether the last ping that nobody waits for is unanswered."""
        return self._keepalive in self._sent

    def add(self, payload: bytes, future: asyncio.Future[float] | None) -> None:
        """A ping is sent; ``future`` is given the seconds until its answer."""
        if future is None:
            if self._keepalive is not None:
                self._sent.pop(self._keepalive, None)
            self._keepalive = payload
        self._sent[payload] = (time.perf_counter(), future)

    def answer(self, payload: bytes) -> float | None:
        """A pong has come, which answers the pings before its own too (RFC 6455, 5.5.3).

        The seconds that it took; None if nobody asked for it.
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
        """No answer will come any more."""
        for _, future in self._sent.values():
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # nobody has to wait for it
        self._sent.clear()
