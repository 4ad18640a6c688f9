"""A server that runs: its clients, their handlers, broadcast, and the way it stops. One event loop's thread only."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.websocket import pages
from zcli_core.websocket.blocking import LoopBridge
from zcli_core.websocket.connection import Admission, ServerConnection, who
from zcli_core.websocket.contract import Cause, Closed, ClosedBy, Message, PlainResponse
from zcli_core.websocket.dispatcher import HandlerDriver, ends_more_than_a_handler

if TYPE_CHECKING:
    from zcli_core.websocket.callbacks import Callbacks
    from zcli_core.websocket.client_limits import ClientLimits
    from zcli_core.websocket.contract import Address, Connection, Decision, Listener, Receiver, Request
    from zcli_core.websocket.gate import Gate
    from zcli_core.websocket.tls import Renewal

#: Seconds between two looks at the certificate's files.
RENEWAL_INTERVAL = 2.0
#: Seconds that on_disconnect functions get at the end, besides what is left of close_timeout.
_LAST_CALLS = 1.0
#: What the clients of a server that stops are told, with the code 1001.
_STOPPING = "the server is shutting down"

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

    def failed(self, error: BaseException) -> None:
        """Say that ``on_connect`` or the handler raised."""
        self._server.log.error("the handler failed on %s, which is closed (1011)", who(self), exc_info=error)

    def closed(self, closed: Closed) -> None:
        """The connection is gone."""
        self._closed = closed
        self._server.gone(self, closed)

    async def left(self) -> None:
        """Run ``on_disconnect``, after the handler has ended."""
        on_disconnect = self._server.callbacks.on_disconnect
        if on_disconnect is None:
            return
        try:
            await on_disconnect(self)
        except BaseException as error:
            if ends_more_than_a_handler(error) or (isinstance(error, asyncio.CancelledError) and self._server.ending):
                raise
            self._server.log.exception("on_disconnect failed for %s", who(self))

    def abandoned(self) -> None:
        """Say that the handler goes on in its thread, so that ``on_disconnect`` cannot be called."""
        without = "" if self._server.callbacks.on_disconnect is None else ", so on_disconnect is not called"
        self._server.log.warning("the handler of %s is still running in its thread%s", who(self), without)


class RunningServer:
    """Implements :class:`zcli_core.websocket.contract.Acceptor` for one listener."""

    def __init__(
        self,
        callbacks: Callbacks,
        observers: Observers,
        capacity: int,
        close_timeout: float,
        drain_timeout: float,
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
        self.clients: dict[_Session, Connection] = {}
        #: Clients that were closed because they read too slowly.
        self.slow_clients = 0
        self.listener: Listener
        self.gate: Gate
        self.limits: ClientLimits
        self._observers = observers
        self._capacity = capacity
        self._close_timeout = close_timeout
        self._drain_timeout = drain_timeout
        self._client_level = client_level
        #: Whether all that is left is ended.
        self.ending = False
        #: Those whose connection is gone, while their handler or on_disconnect still runs.
        self._lingering: set[HandlerDriver] = set()
        #: Those of them whose handler was at work when the client left.
        self._at_work: set[HandlerDriver] = set()
        self._renewal: asyncio.TimerHandle | None = None

    # --- the transport's side ---

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide on an upgrade."""
        return self.gate.upgrade(request)

    def http(self, request: Request) -> PlainResponse:
        """Answer a plain HTTP request."""
        return pages.answer(self.gate.client_of(request), not self.has_room(), self.gate.page_of(request))

    def refused(self, cause: str, address: Address, request: Request | None = None) -> float:
        """The transport has refused a client itself."""
        return self.gate.refused(cause, address, request)

    def has_room(self) -> bool:
        """Whether another client may enter.

        A handler that was at work when its client left keeps the place until it ends. An on_disconnect function does
        not, so that a client may come back at once, unless there are more of them than places.
        """
        at_work = len(self._at_work)
        too_many = max(len(self._lingering) - at_work - self._capacity, 0)
        return len(self.clients) + at_work + too_many < self._capacity

    def admit(self, admission: Admission) -> Callable[[Connection], Receiver]:
        """What the transport calls with the connection of a client that the gate has let in."""
        return functools.partial(self._opened, admission)

    def _opened(self, admission: Admission, connection: Connection) -> Receiver:
        session = _Session(self, connection, admission)
        try:
            receiver = self.limits.enter(session, connection, session._driver)
            self.clients[session] = connection
            if self.log.isEnabledFor(self._client_level):
                origin = f", page {admission.origin}" if admission.origin else ""
                self.log.log(self._client_level, "%s connected%s; %d now", who(session), origin, len(self.clients))
            if self._observers.opened is not None:
                self._observers.opened(session)
        except BaseException:
            # The transport closes the connection, and does not call gone().
            session._driver.cancel()
            if self.clients.pop(session, None) is not None:
                self.limits.leave(session)
            raise
        return receiver

    def gone(self, session: _Session, closed: Closed) -> None:
        """A client is gone."""
        self.clients.pop(session, None)
        driver = session._driver
        if closed.cause is Cause.SLOW:
            self.slow_clients += 1
            self.log.warning("%s read too slowly and was dropped: %s", who(session), closed.reason)
        elif self.log.isEnabledFor(self._client_level):
            reason = f" {closed.reason!r}" if closed.reason else ""
            self.log.log(
                self._client_level, "%s left: closed %s, %d%s; %d now",
                who(session), _BY[closed.by], closed.code, reason, len(self.clients),
            )  # fmt: skip
        if closed.dropped:
            # The script that closes a connection itself wants no more messages of it.
            level = self._client_level if session._closed_by_script else logging.WARNING
            text = "%d messages of %s that had arrived before the end were not handled"
            self.log.log(level, text, closed.dropped, who(session))
        if self._observers.closed is not None:
            self._observers.closed(session, closed.code, closed.reason)
        if driver.is_at_work:
            self._at_work.add(driver)
        else:
            self.limits.leave(session)
        if not driver.task.done():
            self._lingering.add(driver)
            driver.task.add_done_callback(functools.partial(self._ended, session))

    def _ended(self, session: _Session, _: asyncio.Task[None]) -> None:
        """The handler of a client that is gone has ended, and on_disconnect too."""
        driver = session._driver
        self._lingering.discard(driver)
        if driver in self._at_work:
            self._at_work.discard(driver)
            self.limits.leave(session)

    # --- sending ---

    def publish(
        self, message: Message, to: Collection[ServerConnection] | None, excluded: Collection[ServerConnection]
    ) -> int:
        """Send to those clients, or to all if ``to`` is None, but not to the excluded ones; returns to how many.

        Encodes once and waits for nobody. A client that has gone does not count.
        """
        clients: Mapping[Any, Connection] = self.clients
        chosen = clients if to is None else to
        # A list, because a client that has just become too slow may leave while we go.
        receivers = [clients[client] for client in chosen if client not in excluded and client in clients]
        prepared = self.listener.prepare(message)
        return sum(connection.send_prepared(prepared) for connection in receivers)

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

    async def shut_down(self) -> Report:
        """Release the port, let handlers at work finish, close everybody with 1001, end what still runs.

        Takes at most ``drain_timeout`` for the handlers, ``close_timeout`` for closing and two seconds for the rest.
        """
        began = self.loop.time()
        self._stop_watching()
        clients = len(self.clients)
        ports = {address[1] for address in self.listener.addresses if address}
        endpoint = f"port {min(ports)}" if ports else "the socket"
        self.listener.stop_accepting()
        await self._drain()
        closing = self.loop.time()
        await self.listener.close(1001, _STOPPING)
        await self._end_handlers(self._close_timeout - (self.loop.time() - closing))
        self.bridge.close()
        return Report(clients, self.slow_clients, endpoint, self.loop.time() - began)

    async def _drain(self) -> None:
        """Close each client as soon as its handler has dealt with what had come; wait ``drain_timeout`` for that."""
        await asyncio.sleep(0)  # a client whose socket was accepted just now may still enter
        working = []
        for session, connection in list(self.clients.items()):
            drained = session._driver.drain()
            if drained is None:
                connection.close(1001, _STOPPING)
            else:
                drained.add_done_callback(functools.partial(_close, connection))
                working.append(drained)
        if working and self._drain_timeout:
            await asyncio.wait(working, timeout=self._drain_timeout)

    async def _end_handlers(self, left: float) -> None:
        """Cancel handlers that still run, wait for on_disconnect functions, and cancel those too in the end."""
        for driver in list(self._lingering):
            driver.cancel()
        if self._lingering:
            await asyncio.wait([driver.task for driver in self._lingering], timeout=max(left, _LAST_CALLS))
        self.ending = True
        tasks = [driver.task for driver in self._lingering]
        for task in tasks:
            task.cancel()
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=_LAST_CALLS)
            for task in stubborn:
                self.log.warning("a handler that would not be cancelled is left behind: %r", task.get_coro())

    def drop_everything(self) -> None:
        """Release the port and drop every connection at once, without a close frame."""
        self._stop_watching()
        self.ending = True
        self.bridge.close()
        self.listener.stop_accepting()
        for session, connection in list(self.clients.items()):
            connection.abort()
            session._driver.cancel()
        for driver in list(self._lingering):
            driver.cancel()
            driver.task.cancel()

    def _stop_watching(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        self.gate.close()


def _close(connection: Connection, _: asyncio.Future[None]) -> None:
    connection.close(1001, _STOPPING)
