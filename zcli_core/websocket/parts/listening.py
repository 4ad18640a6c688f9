"""Listening on asyncio: binding, keepalive and stopping."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from zcli_core.websocket.parts.accepting import SAY_AGAIN, Accepting, certificate_trouble
from zcli_core.websocket.parts.binding import listening_sockets
from zcli_core.websocket.parts.connection import AsyncioConnection
from zcli_core.websocket.parts.handshake import Opening
from zcli_core.websocket.parts.openings import Openings, Unadmitted
from zcli_core.websocket.parts.sending import CORK_SIZE, HIGH_WATER

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Acceptor, Address, Endpoint, Limits, Message, Prepared, Request

C = TypeVar("C", bound=AsyncioConnection)

#: Bytes that are read at once.
_READ_SIZE = 256 * 1024


#: Seconds between two steps that lower the limit of openings: the connections that were dropped are closed by then.
_LOWER_AGAIN = 0.1


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
    """Implements :class:`zcli_core.websocket.contract.Listener`, but for what is sent.

    A transport derives from it and adds :meth:`connection` and :meth:`prepare`; ``C`` is its class of connections.
    """

    def __init__(self, acceptor: Acceptor, limits: Limits, log: logging.Logger) -> None:
        self.acceptor = acceptor
        self.limits = limits
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.connections: set[C] = set()
        #: Clients that are not let in: in the TLS handshake, undecided, or answered and not gone yet.
        self.openings = Openings(limits.max_openings)
        self._said_full_at = self._lowered_at = -SAY_AGAIN
        #: What every connection reads into. The loop reads and hands over in one step, so one is enough.
        self.read_buffer = memoryview(bytearray(_READ_SIZE))
        #: Bytes that wait in one place of a connection before it counts as slow. There are two such places.
        self.high_water = min(HIGH_WATER, limits.max_send_buffer // 2)
        #: Bytes of answers that are collected before they are written.
        self.cork_size = min(CORK_SIZE, limits.max_send_buffer // 2)
        #: Whether nobody is let in any more.
        self.stopped = False
        self._accepting: Accepting | None = None
        self._unix_path: str | None = None
        self._addresses: list[Address] = []
        self._clock: asyncio.TimerHandle | None = None
        self._restoring: asyncio.TimerHandle | None = None

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
        self._accepting = Accepting(
            sockets, functools.partial(Opening, self), tls, self._tls_failed, self._make_room, self._lower_limit,
            self.log,
        )  # fmt: skip
        try:
            await self._accepting.start(endpoint.backlog)
        except BaseException:
            self.stop_accepting()
            for sock in sockets:
                sock.close()  # those on which nothing accepts yet
            raise
        if self.limits.ping_interval:
            self._start_clock()

    @property
    def addresses(self) -> list[Address]:
        """Where it listens."""
        return list(self._addresses)

    def opened(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        accepting = self._accepting
        if accepting is not None and accepting.loop_accepts:
            accepting.watch(transport.get_extra_info("socket"))

    def _lower_limit(self) -> None:
        """Few descriptors are left: for a while, no more clients may wait to be let in than do now, but for one."""
        openings, now = self.openings, self.loop.time()
        if now - self._lowered_at < _LOWER_AGAIN:
            return
        self._lowered_at = now
        if self._restoring is None:
            self._restoring = self.loop.call_later(SAY_AGAIN, self._restore_limit)
        openings.limit = max(len(openings) - 1, 1)
        if len(openings) > openings.limit:
            openings.evict()

    def _restore_limit(self) -> None:
        self._restoring = None
        self.openings.limit = self.limits.max_openings

    def add_opening(self, opening: Unadmitted, address: Address) -> None:
        """Count a client that is not let in; it may cost another one its connection."""
        if self.openings.add(opening, address) and self.loop.time() - self._said_full_at >= SAY_AGAIN:
            self._said_full_at = self.loop.time()
            self.log.warning(
                "%d connections are in the handshake or being refused, which is the limit; the oldest of the address "
                "with most of them are closed for new ones; %d so far", self.openings.limit, self.openings.evicted,
            )  # fmt: skip

    def _make_room(self) -> bool:
        """The system has no descriptor left: give one back, if a client that is not let in has one."""
        return self.openings.evict()

    def _tls_failed(self, address: Any, error: Exception) -> None:
        trouble = certificate_trouble(error)
        if trouble is not None:
            self.acceptor.refused(trouble, address if isinstance(address, tuple) else None)

    def forget(self, connection: AsyncioConnection) -> None:
        """A connection is gone."""
        self.connections.discard(cast("C", connection))
        self.openings.discard(connection)

    # Keepalive ----------------------------------------------------------------------------------------------------

    def _start_clock(self) -> None:
        """One timer for all connections: each counts ticks, so that bytes cost no clock read."""
        interval, timeout = self.limits.ping_interval, self.limits.ping_timeout
        period = min(interval, timeout) / 4
        ping_at = math.ceil(interval / period)
        lost_at = ping_at + math.ceil(timeout / period)

        def tick() -> None:
            self._clock = self.loop.call_later(period, tick)
            for connection in list(self.connections):
                connection.tick(ping_at, lost_at, interval + timeout)

        self._clock = self.loop.call_later(period, tick)

    # Stopping -----------------------------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Release the port and drop who is still in the upgrade."""
        self.stopped = True
        if self._accepting is not None:
            self._accepting.stop()
            self._accepting = None
            self._remove_socket_file()
        if self._restoring is not None:
            self._restoring.cancel()
            self._restoring = None
        for opening in self.openings:
            opening.drop()

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
