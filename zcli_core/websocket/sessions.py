"""The connected clients of one running server: each with its handler, from the opening to the end of on_disconnect."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.websocket.access_log import AccessLog, ConnectionTraffic
from zcli_core.websocket.client_limits import ClientLimits
from zcli_core.websocket.connection import ServerConnection, client_label
from zcli_core.websocket.contract import Cause, Closed, ClosedBy
from zcli_core.websocket.counters import ACCEPTED, FAILED, Counters
from zcli_core.websocket.dispatcher import MessageDispatcher, ends_more_than_a_handler
from zcli_core.websocket.loop_bridge import LoopBridge
from zcli_core.websocket.rooms import Rooms

if TYPE_CHECKING:
    from zcli_core.config.sections import WebSocket
    from zcli_core.websocket.admission import Admission
    from zcli_core.websocket.callbacks import Callbacks
    from zcli_core.websocket.contract import Connection, Message, Receiver
    from zcli_core.websocket.counters import Traffic
    from zcli_core.websocket.server_link import ServerLink

#: Seconds that on_disconnect functions get when the server stops, besides the rest of close_timeout.
_DISCONNECT_TIMEOUT = 1.0
#: Close code and reason for the clients of a server that stops.
GOING_AWAY = (1001, "the server is shutting down")
#: The same for the clients of a worker that a reload replaces.
SERVICE_RESTART = (1012, "the server is being reloaded")

_CLOSED_BY = {
    ClosedBy.CLIENT: "by the client",
    ClosedBy.SERVER: "by the server",
    ClosedBy.NETWORK: "without a close frame",
}


class Observers(NamedTuple):
    """The run hooks of the plugins; None if no plugin implements one."""

    opened: Callable[[ServerConnection], None] | None
    closed: Callable[[ServerConnection, int, str], None] | None
    joined: Callable[[ServerConnection, str], None] | None
    left: Callable[[ServerConnection, str], None] | None


class ClientSession(ServerConnection):
    """One client's connection with its dispatcher. Implements :class:`zcli_core.websocket.dispatcher.Session`."""

    __slots__ = ("_sessions",)

    def __init__(self, sessions: Sessions, connection: Connection, admission: Admission, counters: Traffic) -> None:
        super().__init__(connection, admission, sessions.bridge, counters)
        self._sessions = sessions
        self._dispatcher = MessageDispatcher(connection, self, sessions.loop, counters)

    @property
    def _server_rooms(self) -> Rooms:
        return self._sessions.rooms

    async def run_on_connect(self) -> None:
        """Run ``on_connect``, before any message is handled."""
        rooms = self._sessions.rooms
        if rooms.link is not None:
            await rooms.confirm_identity(self)
        on_connect = self._sessions.callbacks.on_connect
        if on_connect is not None:
            await on_connect(self)

    def handle(self, message: Message) -> Coroutine[Any, Any, None]:
        """Call the handler with a message."""
        return self._sessions.handler(self, message)

    def handler_failed(self, error: BaseException) -> None:
        """Log that ``on_connect`` or the handler raised."""
        self._sessions.counters.handler_errors += 1
        text = "the handler failed on %s; the connection is closed (1011)"
        self._sessions.log.error(text, client_label(self), exc_info=error)

    def closed(self, closed: Closed) -> None:
        """Note how the connection was closed."""
        self._closed = closed
        self._sessions.remove(self, closed)

    async def run_on_disconnect(self) -> None:
        """Run ``on_disconnect``, after the handler has ended."""
        on_disconnect = self._sessions.callbacks.on_disconnect
        if on_disconnect is None:
            return
        try:
            await on_disconnect(self)
        except BaseException as error:
            if ends_more_than_a_handler(error) or (isinstance(error, asyncio.CancelledError) and self._sessions.ending):
                raise
            self._sessions.counters.handler_errors += 1
            self._sessions.log.exception("on_disconnect failed for %s", client_label(self))

    def handler_abandoned(self) -> None:
        """Log that the handler still runs in its thread, so that ``on_disconnect`` cannot be called."""
        without = "" if self._sessions.callbacks.on_disconnect is None else ", so on_disconnect is not called"
        self._sessions.log.warning("the handler of %s is still running in its thread%s", client_label(self), without)


class Sessions:
    """The clients of one running server. Use it in the thread of its event loop only."""

    def __init__(
        self,
        settings: WebSocket,
        callbacks: Callbacks,
        observers: Observers,
        log: logging.Logger,
        client_level: int,
        rooms: Rooms,
    ) -> None:
        """Create the object inside the server's event loop.

        Args:
            settings: Limits and timeouts.
            callbacks: The user's functions.
            observers: The run hooks of the plugins.
            log: The application's log.
            client_level: Log level of the lines about each client that connects or disconnects.
            rooms: The rooms that the clients may join.
        """
        self.loop = asyncio.get_running_loop()
        self.bridge = LoopBridge(self.loop)
        self.limits = ClientLimits(settings, self.loop, log)
        self.callbacks = callbacks
        self.handler = callbacks.handler
        self.log = log
        #: In the order in which they connected, each with the transport's side of the connection.
        self.clients: dict[ClientSession, Connection] = {}
        self.counters = Counters()
        #: None: ``websocket.access_log`` is off, so no connection counts its own traffic.
        self.access_log = AccessLog(log, settings.subprotocols) if settings.access_log else None
        self.rooms = rooms
        #: The link to other processes; None if there is none.
        self.link: ServerLink | None = None
        self._observers = observers
        self._capacity = settings.max_connections
        self._client_level = client_level
        #: Whether the tasks of all clients are being cancelled.
        self.ending = False
        #: Disconnected clients whose handler or on_disconnect still runs, by the transport's side of the connection.
        self._disconnecting: dict[Connection, MessageDispatcher] = {}
        #: Those of them whose handler was running when the client disconnected.
        self._at_work: set[MessageDispatcher] = set()

    def attach(self, link: ServerLink | None) -> None:
        """Use a link to other processes, before the first client connects."""
        self.link = self.rooms.link = link

    # --- a client connects and disconnects ---

    def has_capacity(self) -> bool:
        """Whether another client may connect.

        A handler that was running when its client disconnected counts as a client until it ends. An on_disconnect
        function does not, so that a client may reconnect at once, unless more than ``max_connections`` of them run.
        """
        at_work = len(self._at_work)
        too_many = max(len(self._disconnecting) - at_work - self._capacity, 0)
        return len(self.clients) + at_work + too_many < self._capacity

    def accept(self, admission: Admission) -> Callable[[Connection], Receiver]:
        """Return the function that the transport calls with the connection of an accepted client."""
        return functools.partial(self._open, admission)

    def _open(self, admission: Admission, connection: Connection) -> Receiver:
        session = ClientSession(self, connection, admission, self._traffic())
        try:
            receiver = self.limits.enter(session, connection, session._dispatcher)
            self.clients[session] = connection
            if admission.identity is not None:
                self.rooms.enter_identity(session, admission.identity)
            level = self._client_level
            if self.log.isEnabledFor(level):
                origin = f", page {admission.origin}" if admission.origin else ""
                self.log.log(level, "%s connected%s; %d now", client_label(session), origin, len(self.clients))
            if self._observers.opened is not None:
                self._observers.opened(session)
            self.counters.connections[ACCEPTED] += 1
            accepted_at = connection.request.accepted_at
            if accepted_at is not None:
                self.counters.open_seconds.add(time.monotonic() - accepted_at)
        except BaseException:
            # The transport closes the connection, and remove() is not called.
            session._dispatcher.cancel()
            if self.clients.pop(session, None) is not None:
                self.rooms.leave_all(session)
                self.limits.leave(session)
            self._write_access(session, 1011, "", FAILED)
            raise
        return receiver

    def _traffic(self) -> Traffic:
        """Return what counts the traffic of a new connection."""
        if self.access_log is None:
            return self.counters
        traffic = ConnectionTraffic()
        self.counters.begin(traffic)
        return traffic

    def _write_access(self, session: ClientSession, code: int, reason: str, result: str = ACCEPTED) -> None:
        traffic = session._counters
        if self.access_log is not None and isinstance(traffic, ConnectionTraffic):
            self.counters.end(traffic)
            self.access_log.ended(session._admission, session._connection, traffic, code, reason, result)

    def remove(self, session: ClientSession, closed: Closed) -> None:
        """Remove a client whose connection is closed, and log the reason."""
        self.clients.pop(session, None)
        self.counters.count_close(closed.code)
        self.rooms.leave_all(session)
        dispatcher = session._dispatcher
        if closed.cause is Cause.SLOW:
            self.counters.slow_clients += 1
            self.log.warning("%s read too slowly and was disconnected: %s", client_label(session), closed.reason)
        elif self.log.isEnabledFor(self._client_level):
            reason = f" {closed.reason!r}" if closed.reason else ""
            self.log.log(
                self._client_level, "%s disconnected: closed %s, %d%s; %d now",
                client_label(session), _CLOSED_BY[closed.by], closed.code, reason, len(self.clients),
            )  # fmt: skip
        if closed.dropped:
            # A script that closes a connection itself does not want its remaining messages.
            level = self._client_level if session._closed_by_script else logging.WARNING
            text = "%d messages of %s that arrived before the connection ended were not handled"
            self.log.log(level, text, closed.dropped, client_label(session))
        self._write_access(session, closed.code, closed.reason)
        if self._observers.closed is not None:
            self._observers.closed(session, closed.code, closed.reason)
        if dispatcher.is_at_work:
            self._at_work.add(dispatcher)
        else:
            self.limits.leave(session)
        if not dispatcher.task.done():
            self._disconnecting[dispatcher.connection] = dispatcher
            dispatcher.task.add_done_callback(functools.partial(self._disconnected, session))

    def _disconnected(self, session: ClientSession, _: asyncio.Task[None]) -> None:
        """Forget a client whose handler and on_disconnect have ended."""
        dispatcher = session._dispatcher
        self._disconnecting.pop(dispatcher.connection, None)
        if dispatcher in self._at_work:
            self._at_work.discard(dispatcher)
            self.limits.leave(session)

    async def wait_disconnected(self, connection: Connection, timeout: float) -> None:
        """Wait until the handler and on_disconnect of a closed connection have ended.

        A cancellation shortens the wait to a second at most, and is raised afterwards.

        Args:
            connection: The transport's side of the connection.
            timeout: Longest time to wait, in seconds.
        """
        dispatcher = self._disconnecting.get(connection)
        cancelled: asyncio.CancelledError | None = None
        deadline = self.loop.time() + timeout
        while dispatcher is not None and not dispatcher.task.done() and (left := deadline - self.loop.time()) > 0:
            try:
                await asyncio.wait({dispatcher.task}, timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
                deadline = min(deadline, self.loop.time() + _DISCONNECT_TIMEOUT)
        if cancelled is not None:
            raise cancelled

    # --- the server stops ---

    async def drain(self, timeout: float, goodbye: tuple[int, str]) -> None:
        """Close each client as soon as its received messages are handled; wait at most ``timeout`` seconds for that."""
        await asyncio.sleep(0)  # a client whose socket was just accepted may still connect
        drained = [self.drain_client(session, goodbye) for session in list(self.clients)]
        working = [each for each in drained if each is not None]
        if working and timeout:
            await asyncio.wait(working, timeout=timeout)

    def drain_client(self, session: ClientSession, goodbye: tuple[int, str]) -> asyncio.Future[None] | None:
        """Close a client as soon as its received messages are handled.

        Returns:
            A future that is done then; None if the client has none or is gone.
        """
        connection = self.clients.get(session)
        if connection is None:
            return None
        drained = session._dispatcher.drain()
        if drained is None:
            connection.close(*goodbye)
        else:
            drained.add_done_callback(lambda _: connection.close(*goodbye))
        return drained

    async def end_handlers(self, timeout: float) -> None:
        """Cancel handlers that still run, wait for on_disconnect functions, then cancel those too."""
        for dispatcher in list(self._disconnecting.values()):
            dispatcher.cancel()
        if self._disconnecting:
            tasks = [dispatcher.task for dispatcher in self._disconnecting.values()]
            await asyncio.wait(tasks, timeout=max(timeout, _DISCONNECT_TIMEOUT))
        self.ending = True
        tasks = [dispatcher.task for dispatcher in self._disconnecting.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, remaining = await asyncio.wait(tasks, timeout=_DISCONNECT_TIMEOUT)
            for task in remaining:
                self.log.warning("a handler that ignored its cancellation still runs: %r", task.get_coro())
        self.bridge.close()

    def abort(self) -> None:
        """Close every connection at once, without a close frame, and cancel all handlers."""
        self.ending = True
        self.bridge.close()
        for session, connection in list(self.clients.items()):
            connection.abort()
            session._dispatcher.cancel()
        for dispatcher in list(self._disconnecting.values()):
            dispatcher.cancel()
            dispatcher.task.cancel()
