"""The connection object of ``async def`` handlers, with the names that users know from ``websockets``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.addresses import format_address
from zcli_core.websocket.blocking import BlockingConnection
from zcli_core.websocket.connection_properties import ConnectionProperties
from zcli_core.websocket.contract import Closed, Message
from zcli_core.websocket.counters import size_of

if TYPE_CHECKING:
    from zcli_core.websocket.admission import Admission
    from zcli_core.websocket.contract import Connection
    from zcli_core.websocket.counters import Traffic
    from zcli_core.websocket.dispatcher import MessageDispatcher
    from zcli_core.websocket.loop_bridge import LoopBridge
    from zcli_core.websocket.rooms import Rooms


_T = TypeVar("_T")


class ServerConnection(ConnectionProperties):
    """One client's connection, for the event loop's thread.

    ``async def`` handlers get this object. Plain handlers get a :class:`~.blocking.BlockingConnection`, which has the
    same names without ``await``. A script may set attributes of its own on it: ``websocket.user = ...``.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_admission", "_blocking", "_bridge", "_closed", "_closed_by_script",
        "_connected_at", "_connection", "_counters", "_dispatcher", "_rooms",
    )  # fmt: skip

    def __init__(self, connection: Connection, admission: Admission, bridge: LoopBridge, counters: Traffic) -> None:
        self._connection = connection
        self._counters = counters
        self._bridge = bridge
        self._blocking: BlockingConnection | None = None
        self._admission = admission
        self._connected_at = time.time()
        self._closed: Closed | None = None
        self._closed_by_script = False
        self._dispatcher: MessageDispatcher
        #: The rooms that it is in, or was in when it disconnected, each with the data of ``join()``; None for no room.
        self._rooms: dict[str, Mapping[str, str]] | None = None

    @property
    def _server_rooms(self) -> Rooms:
        """The rooms of the server."""
        raise NotImplementedError

    # --- messages ---

    async def send(self, message: Message) -> None:
        """Send a message, waiting while the client reads too slowly.

        Args:
            message: ``str`` is sent as text, bytes-like objects as binary.

        Raises:
            ConnectionClosed: The connection has ended.
            TypeError: ``message`` has another type.
        """
        if not isinstance(message, (str, bytes)):
            message = as_message(message)
        connection = self._connection
        try:
            connection.send(message)
            counters = self._counters
            counters.messages_sent += 1
            counters.bytes_sent += len(message) if type(message) is bytes or message.isascii() else size_of(message)
            if connection.write_paused:
                await connection.drain()
        except ConnectionClosed as closed:
            closed.connection = self
            raise

    async def recv(self) -> Message:
        """Return the client's next message, which then is not passed to the handler.

        Raises:
            ConnectionClosed: The connection has ended.
            RuntimeError: Another ``recv()`` waits already.
        """
        return await self._dispatcher.receive()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Iterate over the client's messages until the connection ends; ``close_code`` shows how it ended."""
        try:
            while True:
                yield await self._dispatcher.receive()
        except ConnectionClosed:
            return

    def start_task(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run a coroutine beside the handler, so that the handler can return and get the next message.

        The task counts as a handler at work: a server that stops waits for it (``websocket.drain_timeout``), and an
        error in it is logged and closes the connection (1011). It is cancelled when the connection ends;
        ``on_disconnect`` is called after it.
        """
        return self._dispatcher.start_task(coroutine)

    # --- rooms ---

    async def join(self, room: str, data: Mapping[str, str] | None = None) -> None:
        """Join a room, so that ``broadcast(message, to=room)`` reaches this client. Joining again replaces ``data``.

        The client leaves all rooms when its connection ends. With a backplane, this returns when the messages of other
        processes arrive, or after ``backplane.timeout`` if the engine does not respond.

        Args:
            room: Its name: 1 to 255 bytes of UTF-8, without control characters. It must not begin with ``@``.
            data: What ``presence(room)`` shows about the client; at most 1024 bytes together.

        Raises:
            ConnectionClosed: The connection has ended.
            RuntimeError: The client is in ``websocket.max_rooms`` rooms already.
            TypeError: An argument has another type.
            ValueError: The name is invalid, or ``data`` is too large.
        """
        await self._server_rooms.join(self, room, data)

    async def leave(self, room: str) -> None:
        """Leave a room; do nothing if the client is not in it.

        Raises:
            TypeError: ``room`` is not a string.
            ValueError: The name is invalid.
        """
        self._server_rooms.leave(self, room)

    # --- control ---

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection and wait until it is closed, at most ``websocket.close_timeout`` seconds.

        Messages that wait in the queue are not handled. Closing a closed connection does nothing.

        Args:
            code: 1000, another code that an application may send, or 3000 to 4999 (RFC 6455, 7.4).
            reason: At most 123 bytes.

        Raises:
            ValueError: ``code`` or ``reason`` is not allowed.
        """
        self._begin_close(code, reason)
        await self._connection.wait_closed()

    def _begin_close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)
        self._closed_by_script = self._closed is None
        self._dispatcher.discard()

    async def ping(self, payload: Message | None = None) -> asyncio.Future[float]:
        """Send a ping.

        Args:
            payload: At most 125 bytes; random if not given.

        Returns:
            A future that is done when the pong arrives. Its result is the round-trip time in seconds.

        Raises:
            ConnectionClosed: The connection has ended.
        """
        try:
            pong = self._connection.ping(payload.encode() if isinstance(payload, str) else payload)
        except ConnectionClosed as closed:
            closed.connection = self
            raise
        pong.add_done_callback(self._mark_as_own)
        return pong

    def _mark_as_own(self, pong: asyncio.Future[float]) -> None:
        """Note in the ConnectionClosed of a ping that it is about this connection."""
        if not pong.cancelled():
            error = pong.exception()
            if isinstance(error, ConnectionClosed):
                error.connection = self

    async def wait_closed(self) -> None:
        """Wait until the connection is closed; ``close_code`` and ``close_reason`` then show how."""
        if asyncio.current_task() is self._dispatcher.task:
            await self._wait_parked()
        else:
            await self._connection.wait_closed()

    async def _wait_parked(self) -> None:
        """Wait in the handler of this connection, which counts as idle meanwhile."""
        with self._dispatcher.parked():
            await self._connection.wait_closed()

    @property
    def blocking(self) -> BlockingConnection:
        """The same connection for threads, without ``await``, as plain handlers get it."""
        if self._blocking is None:
            self._blocking = BlockingConnection(self, self._bridge)
        return self._blocking

    def __repr__(self) -> str:
        return f"<ServerConnection {client_label(self)} {self.state.value}>"


def client_label(connection: ServerConnection) -> str:
    """Return the name of a client in log lines: ``"alice at 127.0.0.1:50123"``."""
    identity = connection._admission.identity
    address = format_address(connection.remote_address)
    return f"{identity} at {address}" if identity else address


def as_server_connection(given: object, argument: str = "client", expected: str = "a client") -> ServerConnection:
    """Return the connection of a client that an async or a plain handler got.

    Args:
        given: The client.
        argument: Name of the argument, for the error.
        expected: What the argument takes, for the error.

    Raises:
        TypeError: ``given`` is not a client.
    """
    client = given._twin if isinstance(given, BlockingConnection) else given
    if not isinstance(client, ServerConnection):
        shown = "None" if client is None else type(client).__name__
        raise TypeError(f"{argument} must be {expected} (the connection that a handler gets), got {shown}")
    return client


def as_message(value: Any) -> Message:
    """Return a value as a message.

    Raises:
        TypeError: It is neither ``str`` nor bytes-like.
    """
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    hint = "; json.dumps() turns it into text" if isinstance(value, (dict, list)) else ""
    raise TypeError(f"a message must be str or bytes, got {type(value).__name__}{hint}")
