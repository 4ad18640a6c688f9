"""An asyncio listener: its connections, their limits, starting and stopping."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from zcli_core.websocket.parts.accept_loop import LOG_INTERVAL, AcceptLoop, Interval, certificate_problem
from zcli_core.websocket.parts.allocator import keep_large_blocks
from zcli_core.websocket.parts.binding import listening_sockets, remove_socket_file
from zcli_core.websocket.parts.connection import AsyncioConnection
from zcli_core.websocket.parts.handshake import HandshakeProtocol
from zcli_core.websocket.parts.keepalive import KeepaliveClock
from zcli_core.websocket.parts.pending import PendingConnection, PendingConnections
from zcli_core.websocket.parts.sending import CORK_SIZE, HIGH_WATER

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Acceptor, Address, Endpoint, Limits, Message, Prepared, Request

C = TypeVar("C", bound=AsyncioConnection)

#: Bytes of one read.
_READ_SIZE = 256 * 1024

#: Seconds between two steps that lower the limit of pending connections. The connections that were dropped are closed
#: by then.
_LOWER_INTERVAL = 0.1

#: Seconds between two checks whether the last pending connections are gone.
_PENDING_INTERVAL = 0.02


class AsyncioListener(Generic[C]):
    """Implements :class:`zcli_core.websocket.contract.Listener`, except for sending.

    A transport derives from it and adds :meth:`connection` and :meth:`prepare`; ``C`` is its class of connections.
    """

    def __init__(self, acceptor: Acceptor, limits: Limits, log: logging.Logger) -> None:
        self.acceptor = acceptor
        self.limits = limits
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.connections: set[C] = set()
        #: Connections that are not admitted: in the TLS handshake, in the upgrade, or refused and still open.
        self.pending = PendingConnections(limits.max_pending_connections)
        self._log_interval, self._lower_interval = Interval(LOG_INTERVAL), Interval(_LOWER_INTERVAL)
        #: The buffer that every connection reads into. The loop reads and delivers in one step, so one is enough.
        self.read_buffer = memoryview(bytearray(_READ_SIZE))
        #: Bytes that wait in one place of a connection before it counts as slow. There are two such places.
        self.high_water = min(HIGH_WATER, limits.max_send_buffer // 2)
        #: Bytes of responses that are collected before they are written.
        self.cork_size = min(CORK_SIZE, limits.max_send_buffer // 2)
        #: Whether no further client is admitted.
        self.stopped = False
        self._accept_loop: AcceptLoop | None = None
        self._unix_path: str | None = None
        self._addresses: list[Address] = []
        self._keepalive: KeepaliveClock | None = None
        self._restore_timer: asyncio.TimerHandle | None = None

    # What a transport adds ----------------------------------------------------------------------------------------

    def connection(self, transport: asyncio.Transport, request: Request, subprotocol: str | None) -> C:
        """Make the connection of a client before the 101 response is sent."""
        raise NotImplementedError

    def prepare(self, message: Message) -> Prepared:
        """Encode a message once."""
        raise NotImplementedError

    # Listening ----------------------------------------------------------------------------------------------------

    async def start(self, endpoint: Endpoint) -> None:
        """Bind and accept. Raises OSError if the system refuses the address."""
        keep_large_blocks()
        tls: dict[str, Any] = {}
        if endpoint.tls is not None:
            tls = {"ssl": endpoint.tls, "ssl_handshake_timeout": self.limits.open_timeout}
            if sys.version_info >= (3, 11):
                tls["ssl_shutdown_timeout"] = self.limits.close_timeout
        sockets = await listening_sockets(endpoint, self.loop)
        if endpoint.unix_path is not None and not endpoint.sockets:
            self._unix_path = str(endpoint.unix_path)
        names = [sock.getsockname() for sock in sockets]
        self._addresses = [cast("Address", name) for name in names if isinstance(name, tuple)]
        self._accept_loop = AcceptLoop(
            sockets, functools.partial(HandshakeProtocol, self), tls, self._tls_failed, self.pending.evict,
            self._lower_limit, self.log,
        )  # fmt: skip
        try:
            await self._accept_loop.start(endpoint.backlog)
        except BaseException:
            self.stop_accepting()
            for sock in sockets:
                sock.close()  # those on which nothing accepts yet
            raise
        if self.limits.ping_interval:
            self._keepalive = KeepaliveClock(self.loop, self.limits, self.connections)

    @property
    def addresses(self) -> list[Address]:
        """The addresses that this listens on."""
        return list(self._addresses)

    def connected(self, transport: asyncio.Transport) -> None:
        """Note that a client has connected."""
        accept_loop = self._accept_loop
        if accept_loop is not None and accept_loop.loop_accepts:
            accept_loop.check_descriptor(transport.get_extra_info("socket"))

    def _tls_failed(self, address: Any, error: Exception) -> None:
        problem = certificate_problem(error)
        if problem is not None:
            self.acceptor.refused(problem, address if isinstance(address, tuple) else None)

    def forget(self, connection: AsyncioConnection) -> None:
        """Note that a connection is gone."""
        self.connections.discard(cast("C", connection))
        self.pending.discard(connection)

    # Pending connections ------------------------------------------------------------------------------------------

    def add_pending(self, connection: PendingConnection, address: Address) -> None:
        """Count a client that is not admitted; over the limit another one is closed for it."""
        if self.pending.add(connection, address) and self._log_interval.is_over():
            self.log.warning(
                "%d connections are in the handshake or being refused, which is the limit; the oldest ones of the "
                "address with most of them are closed for new ones; %d were closed so far",
                self.pending.limit, self.pending.evicted,
            )  # fmt: skip

    def _lower_limit(self) -> None:
        """Allow one pending connection less than there are now, for a while, because few descriptors are left."""
        pending = self.pending
        if not self._lower_interval.is_over():
            return
        if self._restore_timer is None:
            self._restore_timer = self.loop.call_later(LOG_INTERVAL, self._restore_limit)
        pending.limit = max(len(pending) - 1, 1)
        if len(pending) > pending.limit:
            pending.evict()

    def _restore_limit(self) -> None:
        self._restore_timer = None
        self.pending.limit = self.limits.max_pending_connections

    # Stopping -----------------------------------------------------------------------------------------------------

    def close_sockets(self) -> None:
        """Release the port; the pending connections go on."""
        if self._accept_loop is not None:
            self._accept_loop.close_sockets()
            self._remove_socket_file()

    async def finish_accepting(self) -> None:
        """Release the port, and wait until no connection is pending, at most ``open_timeout``."""
        self.close_sockets()
        deadline = self.loop.time() + self.limits.open_timeout
        accept_loop = self._accept_loop
        await asyncio.sleep(0)  # a connection that was just accepted is counted now
        while len(self.pending) or (accept_loop is not None and accept_loop.is_opening):
            if self.loop.time() >= deadline:
                return
            await asyncio.sleep(_PENDING_INTERVAL)

    def stop_accepting(self) -> None:
        """Release the port and drop the pending connections."""
        self.stopped = True
        if self._accept_loop is not None:
            self._accept_loop.stop()
            self._accept_loop = None
            self._remove_socket_file()
        if self._restore_timer is not None:
            self._restore_timer.cancel()
            self._restore_timer = None
        for connection in self.pending:
            connection.drop()

    def _remove_socket_file(self) -> None:
        if self._unix_path is not None:
            remove_socket_file(self._unix_path)
            self._unix_path = None

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """Stop accepting, close every connection and wait until all are gone."""
        self.stop_accepting()
        await asyncio.sleep(0)
        connections = list(self.connections)
        for connection in connections:
            connection.close(code, reason)
        for connection in connections:
            await connection.wait_closed()
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None
