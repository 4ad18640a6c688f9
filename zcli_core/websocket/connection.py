"""What a handler is given: one client's connection, with the names that people know from ``websockets``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.blocking import BlockingConnection
from zcli_core.websocket.contract import Address, Closed, Message, State

if TYPE_CHECKING:
    import uuid

    from zcli_core.websocket.blocking import LoopBridge
    from zcli_core.websocket.contract import Connection, Request
    from zcli_core.websocket.dispatcher import HandlerDriver


class Admission(NamedTuple):
    """As whom the gate has let a client in. Nothing of it is a credential."""

    identity: str | None = None
    strategy: str | None = None
    claims: Mapping[str, Any] | None = None
    origin: str | None = None
    #: The request as the client sent it: behind a trusted proxy, with the client's address.
    request: Request | None = None
    #: When its credential stops being valid, in seconds since the epoch.
    expires_at: float | None = None


class ServerConnection:
    """One client's connection, for the event loop's thread.

    ``async def`` handlers are given this; plain ones get a :class:`~.blocking.BlockingConnection`, which has the
    same names without ``await``. Attributes of one's own may be set on it: ``websocket.user = ...``.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_admission", "_blocking", "_bridge", "_closed", "_closed_by_script",
        "_connected_at", "_connection", "_driver",
    )  # fmt: skip

    def __init__(self, connection: Connection, admission: Admission, bridge: LoopBridge) -> None:
        self._connection = connection
        self._bridge = bridge
        self._blocking: BlockingConnection | None = None
        self._admission = admission
        self._connected_at = time.time()
        self._closed: Closed | None = None
        self._closed_by_script = False
        self._driver: HandlerDriver

    # --- messages ---

    async def send(self, message: Message) -> None:
        """Send a message: ``str`` as text, bytes-like as binary. Waits while the client reads too slowly.

        Raises ConnectionClosed if the connection has ended, TypeError for anything that is no message.
        """
        if not isinstance(message, (str, bytes)):
            message = as_message(message)
        connection = self._connection
        try:
            connection.send(message)
            if connection.write_paused:
                await connection.drain()
        except ConnectionClosed as closed:
            closed.connection = self
            raise

    async def recv(self) -> Message:
        """The client's next message, instead of the handler's being called with it.

        Raises ConnectionClosed once the connection has ended, RuntimeError while another ``recv`` waits.
        """
        return await self._driver.receive()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """The client's messages until the connection ends, however it ends: see ``close_code``."""
        try:
            while True:
                yield await self._driver.receive()
        except ConnectionClosed:
            return

    # --- control ---

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection and wait until it is gone, at most ``websocket.close_timeout`` seconds.

        ``code`` is 1000, another that an application may send, or 3000 to 4999 (RFC 6455, 7.4); ``reason`` has at
        most 123 bytes; otherwise ValueError is raised. Messages that wait are not handled any more. Closing a closed
        connection does nothing.
        """
        self._connection.close(code, reason)
        self._closed_by_script = self._closed is None
        self._driver.discard()
        await self._connection.wait_closed()

    async def ping(self, payload: Message | None = None) -> asyncio.Future[float]:
        """Send a ping. Wait for what is returned to wait for the answer; it gives the seconds that it took.

        ``payload`` has at most 125 bytes and is random if not given. Raises ConnectionClosed.
        """
        try:
            answer = self._connection.ping(payload.encode() if isinstance(payload, str) else payload)
        except ConnectionClosed as closed:
            closed.connection = self
            raise
        answer.add_done_callback(self._mark_as_own)
        return answer

    def _mark_as_own(self, answer: asyncio.Future[float]) -> None:
        """Say whose ConnectionClosed it is that ended the waiting for a ping's answer."""
        if not answer.cancelled():
            error = answer.exception()
            if isinstance(error, ConnectionClosed):
                error.connection = self

    async def wait_closed(self) -> None:
        """Wait until the connection is gone; ``close_code`` and ``close_reason`` tell how."""
        if asyncio.current_task() is self._driver.task:
            await self._wait_parked()
        else:
            await self._connection.wait_closed()

    async def _wait_parked(self) -> None:
        """:meth:`wait_closed` of the handler itself, which is not at work while it waits."""
        with self._driver.parked():
            await self._connection.wait_closed()

    @property
    def blocking(self) -> BlockingConnection:
        """The same connection for threads, without ``await``; what plain handlers are given."""
        if self._blocking is None:
            self._blocking = BlockingConnection(self, self._bridge)
        return self._blocking

    # --- what is known of it ---

    @property
    def request(self) -> Request:
        """The request that opened it: ``request.headers``, ``request.path``, ``request.query``."""
        return self._admission.request or self._connection.request

    @property
    def path(self) -> str:
        """The request's path, without the query."""
        return self.request.path

    @property
    def remote_address(self) -> Address:
        """The client's host and port, or None on a Unix socket.

        Behind a proxy of ``websocket.trusted_proxies`` it is what the proxy tells; the port is 0 if it does not.
        """
        return self.request.remote_address

    @property
    def local_address(self) -> Address:
        """The host and port that the client reached, or None on a Unix socket."""
        return self.request.local_address

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
        """The close code of whoever closed first, 1006 if nobody said goodbye; None while it is not gone."""
        return self._closed.code if self._closed else None

    @property
    def close_reason(self) -> str | None:
        """The reason that came with the close code; None while the connection is not gone."""
        return self._closed.reason if self._closed else None

    def __repr__(self) -> str:
        return f"<ServerConnection {who(self)} {self.state.value}>"


def who(connection: ServerConnection) -> str:
    """A client as a person would name it: ``"alice at 127.0.0.1:50123"``."""
    identity = connection._admission.identity
    address = shown_address(connection.remote_address)
    return f"{identity} at {address}" if identity else address


def shown_address(address: Address) -> str:
    """An address as it is written: ``127.0.0.1:8765``, ``[::1]:8765``."""
    if address is None:
        return "a Unix socket"
    host, port = address[:2]
    if port == 0:  # a proxy has told the host alone
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def as_message(value: Any) -> Message:
    """A value as a message. Raises TypeError, with what to do, for what is none."""
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    hint = ": json.dumps() makes one" if isinstance(value, (dict, list)) else ""
    raise TypeError(f"a message is str or bytes, not {type(value).__name__}{hint}")
