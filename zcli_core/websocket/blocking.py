"""The connection object of plain handlers: the methods of ``ServerConnection``, which block the calling thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from collections.abc import Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.connection_properties import ConnectionProperties
from zcli_core.websocket.dispatcher import HANDLING

if TYPE_CHECKING:
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import Closed, Message
    from zcli_core.websocket.loop_bridge import LoopBridge

_T = TypeVar("_T")


class BlockingConnection(ConnectionProperties):
    """One client's connection, for threads: the names of :class:`ServerConnection`, without ``await``.

    A connection has one such object for its whole life, so a script may set attributes of its own on it.
    """

    def __init__(self, twin: ServerConnection, bridge: LoopBridge) -> None:
        self._twin = twin
        self._connection = twin._connection
        self._admission = twin._admission
        self._bridge = bridge

    @property
    def _closed(self) -> Closed | None:
        return self._twin._closed

    @property
    def _rooms(self) -> Mapping[str, Mapping[str, str]] | None:  # type: ignore[override]
        return self._twin._rooms

    def send(self, message: Message) -> None:
        """Send a message, waiting while the client reads too slowly.

        Args:
            message: ``str`` is sent as text, bytes-like objects as binary.

        Raises:
            ConnectionClosed: The connection has ended.
            TypeError: ``message`` has another type.
        """
        self._wait_for(self._twin.send(message))

    def recv(self, timeout: float | None = None) -> Message:
        """Wait for the next message, which then is not passed to the handler.

        Args:
            timeout: Longest time to wait, in seconds; None waits forever. A message that arrives later is kept for the
                next call or the handler.

        Raises:
            TimeoutError: No message has arrived in that time.
            ConnectionClosed: The connection has ended.
        """
        return self._wait_for(self._twin._dispatcher.receive(_checked(timeout)))

    def __iter__(self) -> Iterator[Message]:
        """Iterate over the client's messages until the connection ends."""
        try:
            while True:
                yield self.recv()
        except ConnectionClosed:
            return

    def join(self, room: str, data: Mapping[str, str] | None = None) -> None:
        """Join a room, as :meth:`ServerConnection.join` does."""
        self._wait_for(self._twin.join(room, data))

    def leave(self, room: str) -> None:
        """Leave a room, as :meth:`ServerConnection.leave` does."""
        self._wait_for(self._twin.leave(room))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection and wait until it is closed, as :meth:`ServerConnection.close` does."""
        self._wait_for(self._twin.close(code, reason))

    def ping(self, payload: Message | None = None, timeout: float | None = None) -> float:
        """Send a ping, wait for its pong, and return the round-trip time in seconds.

        Args:
            payload: At most 125 bytes; random if not given.
            timeout: Longest time to wait, in seconds; None waits forever.

        Raises:
            TimeoutError: No pong has arrived in that time.
            ConnectionClosed: The connection has ended.
        """
        timeout = _checked(timeout)
        return self._wait_for(self._within(timeout, self._pong(payload)))

    async def _pong(self, payload: Message | None) -> float:
        return await (await self._twin.ping(payload))

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the connection is closed.

        Args:
            timeout: Longest time to wait, in seconds; None waits forever.

        Raises:
            TimeoutError: The connection is still open after that time.
        """
        timeout = _checked(timeout)
        twin = self._twin
        # A handler that waits for the end of its own connection counts as idle when the server stops.
        waiting = twin._wait_parked() if HANDLING.get() is twin else twin.wait_closed()
        self._wait_for(self._within(timeout, waiting))

    async def _within(self, timeout: float | None, coroutine: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await asyncio.wait_for(coroutine, timeout)
        except asyncio.TimeoutError:  # not the builtin TimeoutError before Python 3.11
            raise TimeoutError(f"no result within {timeout:g} s") from None

    def __eq__(self, other: object) -> bool:
        return self._twin is (other._twin if isinstance(other, BlockingConnection) else other)

    def __hash__(self) -> int:
        return hash(self._twin)

    def __repr__(self) -> str:
        return f"<BlockingConnection of {self._twin!r}>"

    def _wait_for(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        try:
            return self._bridge.wait_for(coroutine)
        except concurrent.futures.CancelledError:  # the server has stopped
            code, reason = self.close_code or 1001, self.close_reason or "the server stopped"
            raise ConnectionClosed(code, reason, self._twin) from None


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and not (isinstance(timeout, (int, float)) and 0 <= timeout < math.inf):
        raise ValueError(f"timeout must be a number of seconds of at least 0, or None to wait forever, got {timeout!r}")
    return timeout
