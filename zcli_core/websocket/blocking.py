"""A connection for threads: what plain handlers are given, and a bridge for everybody who is not in the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.dispatcher import HANDLING

if TYPE_CHECKING:
    import uuid

    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import Address, Message, Request, State

_T = TypeVar("_T")


class LoopBridge:
    """The way from any thread into a loop, until it is closed: nothing that was let through is lost after that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._open = True

    def close(self) -> None:
        """Let nothing through any more. The loop has to run once more, for what is on its way."""
        with self._lock:
            self._open = False

    def post(self, function: Callable[..., _T], *arguments: Any) -> concurrent.futures.Future[_T]:
        """Call a function in the loop's thread, without waiting. The future is cancelled if the bridge is closed."""
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except Exception as error:  # noqa: BLE001 - it belongs to whoever asks the future
                    future.set_exception(error)

        with self._lock:
            if self._open:
                self.loop.call_soon_threadsafe(call)
            else:
                future.cancel()
        return future

    def wait_for(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the loop and wait for it here.

        Raises CancelledError if the bridge is closed, RuntimeError in the loop's own thread, which would wait for
        itself.
        """
        if asyncio._get_running_loop() is self.loop:  # the one way to ask without an exception
            coroutine.close()
            raise RuntimeError("this would block the event loop for ever: use it in a thread, or await its twin")
        with self._lock:
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop) if self._open else None
        if future is None:
            coroutine.close()
            raise concurrent.futures.CancelledError
        return future.result()


class BlockingConnection:
    """One client's connection, for threads: the names of :class:`ServerConnection`, without ``await``.

    Attributes of one's own may be set on it; a connection has one such object for its whole life.
    """

    def __init__(self, connection: ServerConnection, bridge: LoopBridge) -> None:
        self._connection = connection
        self._bridge = bridge

    def send(self, message: Message) -> None:
        """Send a message, waiting while the client reads too slowly. Raises ConnectionClosed and TypeError."""
        self._wait_for(self._connection.send(message))

    def recv(self, timeout: float | None = None) -> Message:
        """Wait for the next message, instead of the handler's being called with it.

        Args:
            timeout: seconds to wait at most; a message that comes later is kept for the next call or the handler.

        Raises:
            TimeoutError: no message has come in that time.
            ConnectionClosed: the connection has ended.
        """
        return self._wait_for(self._connection._driver.receive(_checked(timeout)))

    def __iter__(self) -> Iterator[Message]:
        """The client's messages until the connection ends."""
        try:
            while True:
                yield self.recv()
        except ConnectionClosed:
            return

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection and wait until it is gone, as :meth:`ServerConnection.close` does."""
        self._wait_for(self._connection.close(code, reason))

    def ping(self, payload: Message | None = None, timeout: float | None = None) -> float:
        """Send a ping and wait for its pong, at most ``timeout`` seconds; how many seconds that took.

        Raises TimeoutError and ConnectionClosed.
        """
        timeout = _checked(timeout)
        return self._wait_for(self._within(timeout, self._answered_ping(payload)))

    async def _answered_ping(self, payload: Message | None) -> float:
        return await (await self._connection.ping(payload))

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the connection is gone, at most ``timeout`` seconds. Raises TimeoutError."""
        timeout = _checked(timeout)
        connection = self._connection
        # A handler that waits for the end of its own connection is not at work, which matters when the server stops.
        waiting = connection._wait_parked() if HANDLING.get() is connection else connection.wait_closed()
        self._wait_for(self._within(timeout, waiting))

    async def _within(self, timeout: float | None, coroutine: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await asyncio.wait_for(coroutine, timeout)
        except asyncio.TimeoutError:  # until Python 3.11 it is not the builtin
            raise TimeoutError(f"it took longer than {timeout:g} s") from None

    @property
    def request(self) -> Request:
        """The request that opened it."""
        return self._connection.request

    @property
    def path(self) -> str:
        """The request's path, without the query."""
        return self._connection.path

    @property
    def remote_address(self) -> Address:
        """The client's host and port, or None on a Unix socket."""
        return self._connection.remote_address

    @property
    def local_address(self) -> Address:
        """The host and port that the client reached, or None on a Unix socket."""
        return self._connection.local_address

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on."""
        return self._connection.subprotocol

    @property
    def id(self) -> uuid.UUID:
        """A random identifier, for logs."""
        return self._connection.id

    @property
    def latency(self) -> float:
        """Seconds that the last answered ping took; 0.0 before the first."""
        return self._connection.latency

    @property
    def state(self) -> State:
        """Whether it is open, closing or closed."""
        return self._connection.state

    @property
    def close_code(self) -> int | None:
        """The close code of whoever closed first; None while the connection is not gone."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str | None:
        """The reason that came with it; None while the connection is not gone."""
        return self._connection.close_reason

    def __eq__(self, other: object) -> bool:
        return self._connection is unwrapped(other)

    def __hash__(self) -> int:
        return hash(self._connection)

    def __repr__(self) -> str:
        return f"<BlockingConnection of {self._connection!r}>"

    def _wait_for(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        try:
            return self._bridge.wait_for(coroutine)
        except concurrent.futures.CancelledError:  # the server has stopped
            code, reason = self.close_code or 1001, self.close_reason or "the server stopped"
            raise ConnectionClosed(code, reason, self._connection) from None


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and not (isinstance(timeout, (int, float)) and 0 <= timeout < math.inf):
        raise ValueError(f"timeout must be a number of seconds from 0 on, or None to wait forever; got {timeout!r}")
    return timeout


def unwrapped(client: object) -> object:
    """The connection behind what a plain handler was given; anything else as it is."""
    return client._connection if isinstance(client, BlockingConnection) else client
