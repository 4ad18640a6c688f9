"""A server that runs: its clients, their handlers, broadcast, and the way it stops. One event loop's thread only."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.comm.websocket import pages
from zcli_core.comm.websocket.blocking import LoopBridge
from zcli_core.comm.websocket.connection import Admission, ServerConnection, who
from zcli_core.comm.websocket.driver import HandlerDriver
from zcli_core.contracts.websocket import Closed, ClosedBy, HttpAnswer, Message

if TYPE_CHECKING:
    from zcli_core.comm.websocket.callbacks import Callbacks
    from zcli_core.comm.websocket.client_limits import ClientLimits
    from zcli_core.comm.websocket.gate import Gate
    from zcli_core.comm.websocket.tls import Renewal
    from zcli_core.contracts.websocket import Address, Connection, Decision, Listener, Receiver, Request

#: Seconds between two looks at the certificate's files.
RENEWAL_INTERVAL = 2.0
#: Seconds that on_disconnect functions get at the end, besides what is left of close_timeout.
_LAST_CALLS = 1.0

_BY = {
    ClosedBy.CLIENT: "by the client",
    ClosedBy.SERVER: "by the server",
    ClosedBy.NETWORK: "without a goodbye",
}


class Observers(NamedTuple):
    """The plugins' run hooks; None where no plugin implements one, which costs nothing."""

    opened: Callable[[ServerConnection], None] | None
    closed: Callable[[ServerConnection, int, str], None] | None


class Report(NamedTuple):
    """How a server ended."""

    clients: int
    #: Clients that were dropped earlier, because they read too slowly.
    slow: int
    #: What was released: ``"port 8765"``, or a Unix socket's path.
    endpoint: str
    seconds: float


class _Session(ServerConnection):
    """A connection as its driver sees it: the driver's ``Owner``."""

    __slots__ = ("_server",)

    def __init__(self, server: RunningServer, connection: Connection, admission: Admission) -> None:
        super().__init__(connection, admission, server.bridge)
        self._server = server
        self._driver = HandlerDriver(connection, self, server.loop)

    async def opened(self) -> None:
        """Run ``on_connect``, before any message is handled."""
        on_connect = self._server.callbacks.on_connect
        if on_connect is not None:
            await on_connect(self)

    def handle(self, message: Message) -> Coroutine[Any, Any, None]:
        """Run the handler on a message."""
        return self._server.handler(self, message)

    def failed(self, error: Exception) -> None:
        """Say that ``on_connect`` or the handler raised."""
        self._server.log.error("the handler failed on %s, which is closed (1011)", who(self), exc_info=error)

    def closed(self, closed: Closed) -> None:
        """The connection is gone."""
        self._closed = closed
        self._server.left(self, closed)

    @property
    def handler_task(self) -> asyncio.Task[None]:
        """The task in which the handler runs."""
        return self._driver.task


class RunningServer:
    """Implements :class:`zcli_core.contracts.websocket.Acceptor` for one listener."""

    def __init__(
        self,
        callbacks: Callbacks,
        observers: Observers,
        capacity: int,
        close_timeout: float,
        log: logging.Logger,
        client_level: int,
    ) -> None:
        """``client_level`` is the log level of the line that each client's coming and going gets."""
        self.loop = asyncio.get_running_loop()
        self.bridge = LoopBridge(self.loop)
        self.callbacks = callbacks
        self.handler = callbacks.handler
        self.log = log
        #: In the order in which they came, each with the transport's side of it.
        self.clients: dict[ServerConnection, Connection] = {}
        #: Clients that were closed because they read too slowly.
        self.slow_clients = 0
        self.listener: Listener
        self.gate: Gate
        self.limits: ClientLimits
        self._observers = observers
        self._capacity = capacity
        self._close_timeout = close_timeout
        self._client_level = client_level
        #: Handlers whose connection has gone before them, and on_disconnect functions that run.
        self._lingering: set[asyncio.Task[None]] = set()
        self._farewells: set[asyncio.Task[None]] = set()
        self._renewal: asyncio.TimerHandle | None = None
        self._began = time.time()

    # --- the transport's side ---

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide on an upgrade."""
        return self.gate.upgrade(request)

    def http(self, request: Request) -> HttpAnswer:
        """Answer a plain HTTP request."""
        request = self.gate.client_of(request)
        return pages.answer(request, len(self.clients), self._capacity, self.gate.page_of(request))

    def refused(self, cause: str, address: Address, request: Request | None = None) -> float:
        """The transport has refused a client itself."""
        return self.gate.refused(cause, address, request)

    def has_room(self) -> bool:
        """Whether another client may enter."""
        return len(self.clients) < self._capacity

    def admit(self, admission: Admission) -> Callable[[Connection], Receiver]:
        """What the transport calls with the connection of a client that the gate has let in."""
        return functools.partial(self._opened, admission)

    def _opened(self, admission: Admission, connection: Connection) -> Receiver:
        session = _Session(self, connection, admission)
        self.clients[session] = connection
        if self.log.isEnabledFor(self._client_level):
            origin = f", page {admission.origin}" if admission.origin else ""
            self.log.log(self._client_level, "%s connected%s; %d now", who(session), origin, len(self.clients))
        receiver = self.limits.enter(session, connection, session._driver)
        if self._observers.opened is not None:
            self._observers.opened(session)
        return receiver

    def left(self, session: _Session, closed: Closed) -> None:
        """A client is gone."""
        self.clients.pop(session, None)
        self.limits.leave(session)
        if closed.code == 1013 and closed.by is ClosedBy.SERVER:
            self.slow_clients += 1
            self.log.warning("%s read too slowly and was dropped: %s", who(session), closed.reason)
        elif self.log.isEnabledFor(self._client_level):
            reason = f" {closed.reason!r}" if closed.reason else ""
            self.log.log(
                self._client_level, "%s left: closed %s, %d%s; %d now",
                who(session), _BY[closed.by], closed.code, reason, len(self.clients),
            )  # fmt: skip
        if self._observers.closed is not None:
            self._observers.closed(session, closed.code, closed.reason)
        _keep(self._lingering, session.handler_task)
        if self.callbacks.on_disconnect is not None:
            _keep(self._farewells, self.loop.create_task(self._call_on_disconnect(session)))

    async def _call_on_disconnect(self, session: ServerConnection) -> None:
        try:
            assert self.callbacks.on_disconnect is not None
            await self.callbacks.on_disconnect(session)
        except Exception:
            self.log.exception("on_disconnect failed for %s", who(session))

    # --- sending ---

    def broadcast(self, message: Message, excluded: Collection[ServerConnection] = ()) -> int:
        """Send to all clients but those; returns to how many. Encodes once and waits for nobody."""
        receivers = self.clients.copy()  # a client that has just become too slow may leave while we go
        for client in excluded:
            receivers.pop(client, None)
        prepared = self.listener.prepare(message)
        return sum(connection.send_prepared(prepared) for connection in receivers.values())

    def send_to(self, client: ServerConnection, message: Message) -> int:
        """Send to one client without waiting for it; returns to how many: 1, or 0 if it has gone."""
        connection = self.clients.get(client)
        return int(connection is not None and connection.send_prepared(self.listener.prepare(message)))

    # --- the certificate ---

    def watch_certificate(self, renewal: Renewal) -> None:
        """Look now and then whether the certificate was renewed."""

        def look() -> None:
            renewal.check()
            self._renewal = self.loop.call_later(RENEWAL_INTERVAL, look)

        self._renewal = self.loop.call_later(RENEWAL_INTERVAL, look)

    # --- the end ---

    @property
    def addresses(self) -> list[Address]:
        """Where it listens."""
        return self.listener.addresses

    @property
    def uptime(self) -> float:
        """Seconds since it began."""
        return time.time() - self._began

    async def shut_down(self) -> Report:
        """Release the port, close everybody with 1001, wait at most ``close_timeout``, end what still runs."""
        began = self.loop.time()
        self._stop_watching()
        clients = len(self.clients)
        ports = {address[1] for address in self.listener.addresses if address}
        endpoint = f"port {min(ports)}" if ports else "the socket"
        await self.listener.close(1001, "the server is shutting down")
        left = self._close_timeout - (self.loop.time() - began)
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=max(left, _LAST_CALLS))
        await self._end_lingering()
        self.bridge.close()
        return Report(clients, self.slow_clients, endpoint, self.loop.time() - began)

    async def _end_lingering(self) -> None:
        tasks = [*self._lingering, *self._farewells]
        for task in tasks:
            task.cancel()
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=_LAST_CALLS)
            for task in stubborn:
                self.log.warning("a handler that would not be cancelled is left behind: %r", task.get_coro())

    def drop_everything(self) -> None:
        """Release the port and drop every connection at once, without a goodbye."""
        self._stop_watching()
        self.bridge.close()
        self.listener.stop_accepting()
        for connection in list(self.clients.values()):
            connection.abort()
        for task in (*self._lingering, *self._farewells):
            task.cancel()

    def _stop_watching(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        self.gate.close()


def _keep(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    """Remember a task for as long as it runs."""
    if not task.done():
        tasks.add(task)
        task.add_done_callback(tasks.discard)
