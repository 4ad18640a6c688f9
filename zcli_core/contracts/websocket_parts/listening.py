"""Listening on asyncio: binding, keepalive and stopping."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from zcli_core.contracts.websocket_parts.connection import AsyncioConnection
from zcli_core.contracts.websocket_parts.opening import Opening

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Acceptor, Address, Endpoint, Limits, Message, Prepared, Request

C = TypeVar("C", bound=AsyncioConnection)

#: Bytes that are read at once.
_READ_SIZE = 256 * 1024


#: Blocks up to this size are kept by the C library's allocator instead of going back to the system.
_KEPT_BLOCK = 4 * 1024 * 1024


def _keep_large_blocks() -> None:
    """Make glibc keep what large messages free.

    Out of the box it maps every block over 128 KiB anew, and page faults then cost more than the message. Freeing one
    large block once raises that threshold (mallopt(3), M_MMAP_THRESHOLD). Harmless with other allocators.
    """
    block = bytearray(_KEPT_BLOCK)
    del block


class AsyncioListener(Generic[C]):
    """Implements :class:`zcli_core.contracts.websocket.Listener`, but for what is sent.

    A transport derives from it and adds :meth:`connection` and :meth:`prepare`; ``C`` is its class of connections.
    """

    def __init__(self, acceptor: Acceptor, limits: Limits, log: logging.Logger) -> None:
        self.acceptor = acceptor
        self.limits = limits
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.connections: set[C] = set()
        #: Clients that are not let in: still undecided, or refused and not gone yet.
        self.openings: set[Opening | AsyncioConnection] = set()
        #: What every connection reads into. The loop reads and hands over in one step, so one is enough.
        self.read_buffer = memoryview(bytearray(_READ_SIZE))
        #: Whether nobody is let in any more.
        self.stopped = False
        self._server: asyncio.Server | None = None
        self._unix_path: str | None = None
        self._addresses: list[Address] = []
        self._clock: asyncio.TimerHandle | None = None

    # What a transport adds ----------------------------------------------------------------------------------------

    def connection(self, transport: asyncio.Transport, request: Request, subprotocol: str | None) -> C:
        """A connection for a client that is let in; its 101 has not been sent yet."""
        raise NotImplementedError

    def prepare(self, message: Message) -> Prepared:
        """Encode a message once."""
        raise NotImplementedError

    # Listening ----------------------------------------------------------------------------------------------------

    async def start(self, endpoint: Endpoint) -> None:
        """Bind and accept. Raises OSError where the system refuses the address."""
        _keep_large_blocks()
        timeouts: dict[str, Any] = {}
        if endpoint.tls is not None:
            timeouts["ssl_handshake_timeout"] = self.limits.open_timeout
            if sys.version_info >= (3, 11):
                timeouts["ssl_shutdown_timeout"] = self.limits.close_timeout
        if endpoint.unix_path is not None:
            self._unix_path = str(endpoint.unix_path)
            self._server = await self.loop.create_unix_server(
                lambda: Opening(self), self._unix_path, ssl=endpoint.tls, backlog=endpoint.backlog,
                **timeouts,
            )  # fmt: skip
        else:
            self._server = await self.loop.create_server(
                lambda: Opening(self), endpoint.host, endpoint.port, ssl=endpoint.tls, backlog=endpoint.backlog,
                reuse_port=endpoint.reuse_port or None, **timeouts,
            )  # fmt: skip
            self._addresses = [cast("Address", sock.getsockname()) for sock in self._server.sockets]
        if self.limits.ping_interval:
            self._start_clock()

    @property
    def addresses(self) -> list[Address]:
        """Where it listens."""
        return list(self._addresses)

    def forget(self, connection: AsyncioConnection) -> None:
        """A connection is gone."""
        self.connections.discard(cast("C", connection))
        self.openings.discard(connection)

    # Keepalive ----------------------------------------------------------------------------------------------------

    def _start_clock(self) -> None:
        """One timer for all connections: each counts the ticks since it was heard of, so bytes cost no clock read."""
        interval, timeout = self.limits.ping_interval, self.limits.ping_timeout
        period = min(interval, timeout) / 4
        ping_at = math.ceil(interval / period)
        lost_at = ping_at + math.ceil(timeout / period)

        def tick() -> None:
            self._clock = self.loop.call_later(period, tick)
            for connection in list(self.connections):
                connection.quiet_ticks += 1
                if connection.quiet_ticks == ping_at:
                    connection.keepalive_ping()
                elif connection.quiet_ticks >= lost_at:
                    connection.keepalive_lost(interval + timeout)

        self._clock = self.loop.call_later(period, tick)

    # Stopping -----------------------------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Release the port and drop who is still in the upgrade."""
        self.stopped = True
        if self._server is not None:
            self._stop_listening(self._server)
            self._server = None
            self._remove_socket_file()
        for opening in list(self.openings):
            opening.drop()

    def _stop_listening(self, server: asyncio.Server) -> None:
        """Close the server; where asyncio accepts by itself, one turn of the loop later.

        A connection that it has accepted and made no transport for would otherwise be lost, neither served nor closed.
        """
        try:
            accepting = [self.loop.remove_reader(sock.fileno()) for sock in server.sockets]
        except NotImplementedError:  # Windows
            accepting = []
        if any(accepting):
            self.loop.call_soon(server.close)
        else:
            server.close()

    def _remove_socket_file(self) -> None:
        if self._unix_path is not None:
            try:
                if stat.S_ISSOCK(os.stat(self._unix_path).st_mode):
                    os.unlink(self._unix_path)
            except OSError:
                pass  # somebody has removed it already
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
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
