"""A socket to an engine: requests in batches, replies in order.

It is written on asyncio's protocols. A client library for general use costs ten times as much for each message, and
breaks the contract in ways that it does not let a plugin turn off: see docs/decisions/backplane.md.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from zcli_core.backplane.parts.failures import closed, invalid_reply
from zcli_core.errors import BackplaneFailure

#: How many bytes are written at once. What is not written yet can still be cancelled.
_WRITE = 256 * 1024
#: How many replies are handled in one turn of the event loop. uvloop may read several times in a turn.
_IN_A_TURN = 256


class Incomplete(Exception):  # noqa: N818 - not an error
    """A reply is not complete. ``needed`` is how many bytes from its beginning there must at least be."""

    def __init__(self, needed: int) -> None:
        self.needed = needed


class _Request:
    """What is sent together, and the replies that have come."""

    __slots__ = ("count", "data", "droppable", "replies", "waiter")

    def __init__(self, data: bytes, count: int, droppable: bool, waiter: asyncio.Future[list[Any]]) -> None:
        self.data = data
        self.count = count
        self.droppable = droppable
        self.replies: list[Any] = []
        self.waiter = waiter


class EngineStream(asyncio.Protocol, ABC):
    """A connected socket. It has no task: the event loop calls it, also when the connection ends for any reason.

    Attributes:
        failure: Why it has ended; None while it is open.
    """

    #: What the engine is, for errors: ``"a Redis"``.
    product: str

    def __init__(self, address: str, ended: Callable[[BackplaneFailure], None]) -> None:
        """Make the protocol of a connection.

        Args:
            address: Where the engine is, for errors.
            ended: Called once when the connection ends by itself, not for :meth:`close`.
        """
        self.loop = asyncio.get_running_loop()
        self.address = address
        self.failure: BackplaneFailure | None = None
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = self.loop.create_future()
        # Sending
        self._waiting: deque[_Request] = deque()
        self._sent: deque[_Request] = deque()
        self._write_planned = False
        self._paused = False
        # Receiving
        self._chunks: list[bytes] = []
        self._size = 0
        self._needed = 1
        self._handled = 0
        self._turn_planned = False
        self._resting = False

    @abstractmethod
    def decode(self, data: bytes, start: int) -> tuple[Any, int]:
        """Return the reply that begins at ``start``, and where the next one begins.

        Raises:
            Incomplete: More bytes are needed.
            ValueError: The engine sent something invalid, which ends the connection.
        """

    @abstractmethod
    def handle(self, reply: Any) -> None:
        """Handle a reply: pass a message on, or give the reply to the request that waits for it (:meth:`resolve`)."""

    # Sending ----------------------------------------------------------------------------------------------------------

    async def request(self, data: bytes, replies: int = 1, *, droppable: bool = False) -> list[Any]:
        """Send a request and return its replies. Requests of several tasks are written together, in their order.

        The replies to a request whose caller was cancelled are ignored.

        Args:
            data: What to send.
            replies: How many replies it has.
            droppable: Whether it is not sent at all if its caller is cancelled before it is written.

        Raises:
            BackplaneFailure: The connection has ended. ``maybe_delivered`` tells whether the request was written.
        """
        if self.failure is not None:
            raise BackplaneFailure(self.failure.kind, str(self.failure))
        request = _Request(data, replies, droppable, self.loop.create_future())
        self._waiting.append(request)
        if not self._write_planned:
            self._write_planned = True
            self.loop.call_soon(self._write)
        return await request.waiter

    def send(self, data: bytes) -> None:
        """Send something that has no reply, before all that waits."""
        if self.failure is None and self._transport is not None:
            self._transport.write(data)

    def _write(self) -> None:
        self._write_planned = False
        while self._waiting and not self._paused and self.failure is None and self._transport is not None:
            parts: list[bytes] = []
            size = 0
            while self._waiting and size < _WRITE:
                request = self._waiting.popleft()
                if request.droppable and request.waiter.done():
                    continue
                parts.append(request.data)
                size += len(request.data)
                self._sent.append(request)
            if parts:
                self._transport.write(b"".join(parts))

    def pause_writing(self) -> None:
        """Keep what waits, because the engine does not read fast enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """Write what waits."""
        self._paused = False
        self._write()

    # Receiving --------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport  # type: ignore[assignment]  # of a socket, so it can be written to

    def data_received(self, data: bytes) -> None:
        """Handle the replies in the data."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= self._needed and not self._resting:
            self._handle_replies()

    def _handle_replies(self) -> None:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        position = 0
        self._needed = 1
        if not self._turn_planned:
            self._turn_planned = True
            self.loop.call_soon(self._next_turn)
        try:
            while position < len(data) and self._handled < _IN_A_TURN and self.failure is None:
                reply, position = self.decode(data, position)
                self._handled += 1
                self.handle(reply)
        except Incomplete as incomplete:
            self._needed = incomplete.needed
        except ValueError:
            self.end(invalid_reply(self.address, self.product, data[position : position + 60]))
        except Exception as error:  # noqa: BLE001 - a bug must not leave an open connection that is not read
            self.end(BackplaneFailure("protocol", f"{self.address}: a reply could not be handled: {error!r}"))
        if self.failure is not None:
            return
        rest = data[position:]
        self._chunks = [rest] if rest else []
        self._size = len(rest)
        if rest and self._handled == _IN_A_TURN:
            self._rest()

    def resolve(self, reply: Any) -> None:
        """Give a reply to the oldest request that waits for one."""
        if not self._sent:
            raise ValueError("a reply without a request")
        request = self._sent[0]
        request.replies.append(reply)
        if len(request.replies) == request.count:
            self._sent.popleft()
            if not request.waiter.done():
                request.waiter.set_result(request.replies)

    def _rest(self) -> None:
        """Let the event loop run what else is due."""
        self._resting = True
        if self._transport is not None:
            self._transport.pause_reading()

    def _next_turn(self) -> None:
        self._turn_planned = False
        self._handled = 0
        if self._resting and self.failure is None and self._transport is not None:
            self._resting = False
            self._transport.resume_reading()
            self._handle_replies()

    # The end ----------------------------------------------------------------------------------------------------------

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the end of the socket, by the server, the network or this process."""
        self.end(closed(self.address, error))
        if not self._gone.done():
            self._gone.set_result(None)

    def end(self, failure: BackplaneFailure) -> None:
        """End the connection now. All requests that wait fail with the failure."""
        if self.failure is None:
            self._stop(failure)
            self._ended(failure)

    def _stop(self, failure: BackplaneFailure) -> None:
        self.failure = failure
        if self._transport is not None:
            self._transport.abort()
        self._chunks, self._size = [], 0
        for requests, written in ((self._waiting, False), (self._sent, True)):
            for request in requests:
                if not request.waiter.done():
                    request.waiter.set_exception(BackplaneFailure(failure.kind, str(failure), maybe_delivered=written))
                    request.waiter.exception()  # a task that is cancelled now never retrieves it
            requests.clear()

    def drop(self) -> None:
        """Drop the socket without waiting for the engine. What is written but not sent yet is lost."""
        if self.failure is None:
            self._stop(BackplaneFailure("down", "the connection to the backplane is closed"))

    async def close(self) -> None:
        """Drop the socket, and wait until it is gone."""
        self.drop()
        if self._transport is not None:
            await asyncio.shield(self._gone)  # a cancelled call must not cancel a later one
