"""The transport ``uvicorn``: a listener whose connections belong to a uvicorn server in the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from zcli_asgi.loading import Application, load_application
from zcli_asgi.protocol import QuietHttpProtocol, protocol_class
from zcli_asgi.settings import Asgi
from zcli_core.errors import ConfigError
from zcli_core.websocket.contract import Capability
from zcli_core.websocket.parts.asgi_listener import AsgiListener
from zcli_core.websocket.parts.binding import listening_sockets, remove_socket_file

if TYPE_CHECKING:
    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.contract import Acceptor, Address, Endpoint, Limits
    from zcli_core.websocket.parts.asgi_connection import Receive
    from zcli_core.websocket.parts.asgi_request import Scope
    from zcli_core.websocket.parts.asgi_sender import Event, Send

#: Seconds that connections get to end, when the server stops, after their tasks have ended.
_LINGER = 0.25


def make_transport(context: Context) -> UvicornTransport:
    """Make the transport, with the application of ``asgi.app``."""
    settings = context.config.section(Asgi)
    application = None if settings.app is None else load_application(context.config, settings.app)
    origin = context.config.explain("asgi.app").origin
    return UvicornTransport(application, f"asgi.app ({origin}): {settings.app!r}", context.log)


class UvicornTransport:
    """Implements :class:`zcli_core.websocket.contract.Transport`."""

    #: uvicorn owns the bytes of the connections.
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, application: Application | None, label: str, log: logging.Logger) -> None:
        """Make a transport.

        Args:
            application: Answers plain HTTP requests; None leaves them to the core.
            label: The setting of the application and its value, for errors.
            log: Where errors are logged.
        """
        self._application = application
        self._label = label
        self._log = log

    async def listen(self, endpoint: Endpoint, acceptor: Acceptor, limits: Limits) -> UvicornListener:
        """Start listening."""
        listener = UvicornListener(acceptor, limits, self._log, self._application, self._label)
        await listener.start(endpoint)
        return listener


class _Server(uvicorn.Server):
    """A server that leaves signals to zCLI."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class UvicornListener(AsgiListener):
    """Implements :class:`zcli_core.websocket.contract.Listener` with a uvicorn server of its own."""

    def __init__(
        self, acceptor: Acceptor, limits: Limits, log: logging.Logger, application: Application | None, label: str
    ) -> None:
        super().__init__(acceptor, limits, log)
        self._application = application
        self._label = label
        self._addresses: list[Address] = []
        self._unix_path: str | None = None
        self._server: _Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        #: What the application said when it failed to start.
        self._startup_error = ""

    @property
    def addresses(self) -> list[Address]:
        """The addresses that this listens on."""
        return list(self._addresses)

    async def start(self, endpoint: Endpoint) -> None:
        """Start the application, bind and accept.

        Raises:
            OSError: The system refuses the address.
            ConfigError: The application has failed to start.
        """
        sockets = await listening_sockets(endpoint, self.loop)
        if endpoint.unix_path is not None and not endpoint.sockets:
            self._unix_path = str(endpoint.unix_path)
        try:
            await self._start_server(endpoint, sockets)
        except BaseException:
            for sock in sockets:
                sock.close()
            self._remove_socket_file()
            raise
        names = [sock.getsockname() for sock in sockets]
        self._addresses = [cast("Address", name) for name in names if isinstance(name, tuple)]

    async def _start_server(self, endpoint: Endpoint, sockets: list[Any]) -> None:
        limits = self.limits
        config = uvicorn.Config(
            self._handle,
            http=QuietHttpProtocol,
            ws=protocol_class(limits),
            ws_max_size=limits.max_size,
            ws_ping_interval=limits.ping_interval or None,
            ws_ping_timeout=limits.ping_timeout,
            ws_per_message_deflate=limits.compression is not None,
            h11_max_incomplete_event_size=limits.max_header_bytes,
            lifespan="off" if self._application is None else "auto",
            interface="asgi3",
            backlog=endpoint.backlog,
            # The core trusts proxies by websocket.trusted_proxies, and writes its own log.
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
        )
        config.load()
        config.ssl = endpoint.tls
        server = _Server(config)
        server.lifespan = config.lifespan_class(config)
        try:
            await server.startup(sockets)
        except SystemExit:
            raise ConfigError(f"{self._label} failed to start: {self._startup_error or 'see the log'}") from None
        self._server = server
        self._ticking = self.loop.create_task(server.main_loop())

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one scope (ASGI)."""
        kind = scope["type"]
        if kind == "websocket":
            await self.websocket(scope, receive, send)
        elif self._application is None:
            await self.http(scope, _closing(send))
        elif kind == "lifespan":
            await self._application(scope, receive, self._noting_failure(send))
        else:
            await self._application(scope, receive, send)

    def _noting_failure(self, send: Send) -> Send:
        async def note(event: Event) -> None:
            if event["type"] == "lifespan.startup.failed":
                lines = str(event.get("message", "")).strip().splitlines()
                self._startup_error = lines[-1] if lines else ""
            await send(event)

        return note

    # Stopping -----------------------------------------------------------------------------------------------------

    def close_sockets(self) -> None:
        """Release the port; what was accepted goes on."""
        if self._server is not None:
            for server in self._server.servers:
                server.close()
        self._remove_socket_file()

    async def finish_accepting(self) -> None:
        """Release the port, and wait until no connection is without a WebSocket, at most ``open_timeout``."""
        self.close_sockets()
        deadline = self.loop.time() + self.limits.open_timeout
        await asyncio.sleep(0)
        while self._has_http_connections() and self.loop.time() < deadline:
            await asyncio.sleep(_LINGER / 10)

    def _has_http_connections(self) -> bool:
        server = self._server
        return server is not None and any(
            isinstance(each, QuietHttpProtocol) for each in server.server_state.connections
        )

    def stop_accepting(self) -> None:
        """Release the port, and drop the clients that are not admitted."""
        super().stop_accepting()
        self.close_sockets()

    def _remove_socket_file(self) -> None:
        if self._unix_path is not None:
            remove_socket_file(self._unix_path)
            self._unix_path = None

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """Stop accepting, close every connection, let HTTP requests finish, and end the application."""
        deadline = self.loop.time() + self.limits.close_timeout
        await super().close(code, reason)
        server, self._server = self._server, None
        if server is None:
            return
        assert self._ticking is not None
        self._ticking.cancel()
        state = server.server_state
        # Those whose client has not responded to the close frame.
        closing = {each for each in state.connections if getattr(each, "close_timer", None) is not None}
        while closing & state.connections and self.loop.time() < deadline:
            await asyncio.sleep(0.005)
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            _, remaining = await asyncio.wait(state.tasks, timeout=max(deadline - self.loop.time(), _LINGER))
            for task in remaining:
                task.cancel()
        end = self.loop.time() + _LINGER
        while state.connections and self.loop.time() < end:
            await asyncio.sleep(0.005)
        for connection in list(state.connections):
            connection.transport.abort()
        await server.lifespan.shutdown()


def _closing(send: Send) -> Send:
    """Return a ``send`` that closes the connection after the response."""

    async def send_and_close(event: Event) -> None:
        if event["type"] == "http.response.start":
            event["headers"] = [*event["headers"], (b"connection", b"close")]
        await send(event)

    return send_and_close
