"""The core of a running server, inside its event loop: opens the port, sends broadcasts, and shuts down."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.websocket.credential_watch import CredentialWatch
from zcli_core.websocket.default_origins import DefaultOrigins
from zcli_core.websocket.endpoint import (
    endpoint_url,
    explain_listen_error,
    is_loopback,
    make_limits,
    pick_shared_port,
    remove_stale_socket,
    use_systemd_sockets,
)
from zcli_core.websocket.gate import Gate
from zcli_core.websocket.loop_lag import LoopLag
from zcli_core.websocket.parts.asgi_listener import AsgiListener
from zcli_core.websocket.recipients import NONE
from zcli_core.websocket.server_setup import warn_if_open
from zcli_core.websocket.sessions import GOING_AWAY, SERVICE_RESTART, Sessions
from zcli_core.websocket.workers.assignment import is_quiet

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import Connection, Listener, Message, Prepared, Transport
    from zcli_core.websocket.gate import Rules
    from zcli_core.websocket.plugin_pages import AskPlugins
    from zcli_core.websocket.recipients import Recipients
    from zcli_core.websocket.server_setup import ServerSetup
    from zcli_core.websocket.strategy_runner import StrategyRunner
    from zcli_core.websocket.tls import CertificateReloader

#: Seconds between two checks whether the certificate's files have changed.
RELOAD_INTERVAL = 2.0


class ShutdownSummary(NamedTuple):
    """Summary of a server's shutdown."""

    #: Number of clients that were connected when the server stopped.
    clients: int
    #: Number of clients that were closed earlier, because they read too slowly.
    slow: int
    #: What was released: ``"port 8765"`` or ``"the socket"``; None if an ASGI server listens.
    endpoint: str | None
    seconds: float

    def __str__(self) -> str:
        clients = f"{self.clients} client{'' if self.clients == 1 else 's'} closed"
        released = f", {self.endpoint} released" if self.endpoint else ""
        slow = f"; {self.slow} had been dropped for reading too slowly" if self.slow else ""
        return f"stopped: {clients}{released}, {self.seconds:.1f} s{slow}"


async def open_server(
    config: Config,
    setup: ServerSetup,
    transport: Transport,
    strategies: Sequence[StrategyRunner],
    sessions: Sessions,
    log: logging.Logger,
    ask_plugins: AskPlugins | None = None,
) -> ServerCore:
    """Open the port and start to accept clients.

    Raises:
        ListenError: The server cannot listen on the configured host and port, or socket.
    """
    settings = config.websocket
    endpoint = pick_shared_port(setup.endpoint)
    if setup.may_use_systemd:
        endpoint = use_systemd_sockets(endpoint)
    try:
        default_origins = DefaultOrigins(endpoint.host, is_loopback(endpoint), settings.require_auth)
        gate = Gate(settings, setup.rules, default_origins, strategies, sessions, log, ask_plugins)
        if not is_quiet():  # the supervisor has warned
            warn_if_open(config, endpoint, log)
        if endpoint.unix_path is not None:
            remove_stale_socket(endpoint.unix_path, config)
        listener = await transport.listen(endpoint, gate, setup.limits)
    except BaseException as error:
        for sock in endpoint.sockets:
            sock.close()
        if isinstance(error, OSError):
            raise explain_listen_error(error, endpoint) from error
        raise
    url = endpoint_url(endpoint, listener.addresses)
    watch = CredentialWatch(strategies, sessions)
    server = ServerCore(url, listener, gate, sessions, watch, settings.drain_timeout, settings.close_timeout)
    if setup.reloader is not None:
        server.watch_certificate(setup.reloader)
    return server


def open_asgi_core(
    config: Config,
    rules: Rules,
    strategies: Sequence[StrategyRunner],
    sessions: Sessions,
    log: logging.Logger,
    ask_plugins: AskPlugins | None = None,
) -> tuple[ServerCore, AsgiListener]:
    """Start to serve the clients that an ASGI server in the running event loop accepts."""
    settings = config.websocket

    async def ended(connection: Connection) -> None:
        await sessions.wait_disconnected(connection, settings.close_timeout)

    # The server listens, so its address is unknown here: pages without an origin are not admitted.
    origins = DefaultOrigins(None, False, settings.require_auth)
    gate = Gate(settings, rules, origins, strategies, sessions, log, ask_plugins)
    listener = AsgiListener(gate, make_limits(settings), log, ended)
    watch = CredentialWatch(strategies, sessions)
    core = ServerCore(None, listener, gate, sessions, watch, settings.drain_timeout, settings.close_timeout)
    return core, listener


class ServerCore:
    """A listening server. Use it in the thread of its event loop only."""

    def __init__(
        self,
        url: str | None,
        listener: Listener,
        gate: Gate,
        sessions: Sessions,
        watch: CredentialWatch,
        drain_timeout: float,
        close_timeout: float,
    ) -> None:
        #: The URL for clients; None if an ASGI server listens.
        self.url = url
        self.listener = listener
        self.gate = gate
        self.sessions = sessions
        self.loop = sessions.loop
        self._watch = watch
        self._drain_timeout = drain_timeout
        self._close_timeout = close_timeout
        self._reload_timer: asyncio.TimerHandle | None = None
        #: Whether the server is being shut down.
        self.is_draining = False
        self.lag = LoopLag(self.loop)
        #: Close code and reason for the clients when the server stops.
        self._goodbye = GOING_AWAY
        gate.readiness = self.readiness
        if sessions.link is not None:
            sessions.link.core = self

    def readiness(self) -> list[str]:
        """Return why a load balancer should send no further clients here; empty if the server is ready."""
        reasons = []
        if self.is_draining:
            reasons.append("draining")
        if not self.sessions.has_capacity():
            reasons.append("full")
        link = self.sessions.link
        if link is not None and not link.link.is_up:
            failure = link.link.failure  # its text may have an address, which every client could read
            reasons.append(f"backplane: {failure.kind if failure is not None else 'not connected yet'}")
        return reasons

    def deliver(self, message: Message, to: Recipients | None, excluded: Recipients) -> int:
        """Send a message to clients of this server, encoded once, without waiting.

        Args:
            message: The message.
            to: For whom it is; None for all clients.
            excluded: Clients and identities that do not get the message.

        Returns:
            The number of clients to which it was sent. A client that has disconnected does not count.
        """
        receivers = self._receivers(to, excluded)
        if not receivers:
            return 0
        prepared = self.listener.prepare(message)
        # Sending may disconnect a client that reads too slowly, so it needs a copy.
        if self.sessions.access_log is not None:
            return sum([_send_counted(*each, prepared) for each in list(receivers.items())])
        count = sum([connection.send_prepared(prepared) for connection in list(receivers.values())])
        counters = self.sessions.counters
        counters.messages_sent += count
        counters.bytes_sent += count * prepared.size
        return count

    def close_clients(self, to: Recipients, code: int, reason: str) -> int:
        """Begin to close clients of this server. Returns their number."""
        chosen = list(self._choose(to))
        for client in chosen:
            client._begin_close(code, reason)
        return len(chosen)

    def _receivers(self, to: Recipients | None, excluded: Recipients) -> Mapping[ServerConnection, Connection]:
        """Return the clients to send to."""
        clients: Mapping[Any, Connection] = self.sessions.clients
        chosen = clients if to is None else self._choose(to)
        if excluded is NONE:
            return chosen
        kept = dict(chosen)
        for client in (*excluded.clients, *self.sessions.rooms.members_of(excluded.rooms)):
            kept.pop(client, None)
        return kept

    def _choose(self, to: Recipients) -> Mapping[ServerConnection, Connection]:
        """Return the clients that ``to`` names, each once."""
        rooms = self.sessions.rooms
        if len(to.rooms) == 1 and not to.clients:
            return rooms.members.get(to.rooms[0], {})
        clients: Mapping[Any, Connection] = self.sessions.clients
        return rooms.members_of(to.rooms) | {client: clients[client] for client in to.clients if client in clients}

    def watch_certificate(self, reloader: CertificateReloader) -> None:
        """Reload the certificate when its files change."""

        def check() -> None:
            reloader.check()
            self._reload_timer = self.loop.call_later(RELOAD_INTERVAL, check)

        self._reload_timer = self.loop.call_later(RELOAD_INTERVAL, check)

    async def leave(self, seconds: float) -> None:
        """Accept no further clients, and close all clients with 1012, in random order and spread over a time.

        Args:
            seconds: The time.
        """
        self.is_draining = True
        self._goodbye = SERVICE_RESTART
        accepted = self.loop.create_task(self.listener.finish_accepting())
        clients = list(self.sessions.clients)
        random.shuffle(clients)
        began = self.loop.time()
        for number, client in enumerate(clients):
            due = began + seconds * number / len(clients)
            while (left := due - self.loop.time()) > 0:
                await asyncio.sleep(left)
            self.sessions.drain_client(client, SERVICE_RESTART)
        await accepted

    async def shut_down(self) -> ShutdownSummary:
        """Release the port, let running handlers finish, close all clients, and cancel the remaining tasks.

        Takes at most ``drain_timeout`` for the handlers, ``close_timeout`` for closing, two seconds for cancelling, and
        a few seconds for the link to other processes.
        """
        began = self.loop.time()
        self.is_draining = True
        self._stop_watching()
        clients = len(self.sessions.clients)
        ports = {address[1] for address in self.listener.addresses if address}
        endpoint = None if self.url is None else f"port {min(ports)}" if ports else "the socket"
        self.listener.stop_accepting()
        await self.sessions.drain(self._drain_timeout, self._goodbye)
        closing = self.loop.time()
        await self.listener.close(*self._goodbye)
        self._watch.stop()
        await self.sessions.end_handlers(self._close_timeout - (self.loop.time() - closing))
        if self.sessions.link is not None:
            await self.sessions.link.close()
        self.lag.stop()
        return ShutdownSummary(clients, self.sessions.counters.slow_clients, endpoint, self.loop.time() - began)

    def abort(self) -> None:
        """Release the port and close every connection at once, without a close frame."""
        self._stop_watching()
        self._watch.stop()
        self.lag.stop()
        self.listener.stop_accepting()
        self.sessions.abort()
        if self.sessions.link is not None:
            self.sessions.link.abort()

    def _stop_watching(self) -> None:
        if self._reload_timer is not None:
            self._reload_timer.cancel()
            self._reload_timer = None
        self.gate.close()


def _send_counted(client: ServerConnection, connection: Connection, prepared: Prepared) -> bool:
    """Send a message to a client that counts its own traffic. Returns whether it was sent."""
    sent = connection.send_prepared(prepared)
    if sent:
        client._counters.messages_sent += 1
        client._counters.bytes_sent += prepared.size
    return sent
