"""``z.bifrost``: the events of clients and their handlers, on the WebSocket server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zcli_bifrost import client_file
from zcli_bifrost.access.tier_layer import STRATEGY
from zcli_bifrost.client import BifrostClient, EventHandler, Limits, largest_response
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.events import BUILTIN, DataEvents, without_models
from zcli_bifrost.messages import MAX_EVENT_LENGTH, Result, encode, event_message
from zcli_core import __version__
from zcli_core.subsystems.bifrost import ALL
from zcli_core.subsystems.parts import FunctionCaller
from zcli_core.websocket.log_limit import limited_log

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zcli_bifrost.data.service import DataService
    from zcli_bifrost.data.subscriptions import DataEvent
    from zcli_core.subsystems.contract import SubsystemContext
    from zcli_core.websocket.asgi import AsgiApp
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.recipients import Delivery, Recipient
    from zcli_core.websocket.server_run import BackgroundServer

#: With this topic a process wakes the others after a write.
_WRITTEN = "zcli_bifrost.written"
#: Events of the server that no script may send.
_OF_THE_SERVER = ("data_updated",)

_F = TypeVar("_F", bound=Callable[..., Any])


class _Run(NamedTuple):
    """What belongs to one event loop that serves.

    Attributes:
        data: The models; None if there are none.
        handlers: The handlers of the events that scripts cannot handle.
        clients: The clients. A client whose handler does not return is dropped with the run.
    """

    data: DataService | None
    handlers: Mapping[str, EventHandler]
    clients: dict[ServerConnection, BifrostClient]


class BifrostServer:
    """Named events between browsers and the script. Implements :class:`zcli_core.subsystems.bifrost.Bifrost`."""

    def __init__(self, context: SubsystemContext) -> None:
        self._app = context.app
        self._config = context.config
        self._log = context.log
        self._websocket = context.app.comm.websocket
        self._limits = Limits(
            context.config.bifrost.requests_max, largest_response(context.config.websocket.max_send_buffer)
        )
        self._functions = FunctionCaller("zcli-bifrost-handler")
        self._lock = threading.Lock()
        #: The handlers of the script, by event.
        self._handlers: dict[str, EventHandler] = {}
        self._runs: dict[asyncio.AbstractEventLoop, _Run] = {}
        self._websocket.on_wake(_WRITTEN, self._look_for_writes)

    def close(self) -> None:
        """Stop the server, so that models are closed while everything that they use still works."""
        if self._runs:
            self.stop()

    # --- events ---

    def on(self, event: str) -> Callable[[_F], _F]:
        """Return a decorator that makes a function handle an event: ``handler(client, data)``.

        Args:
            event: The name of the event.

        Raises:
            ValueError: The name is reserved, invalid, or has a handler already.
            TypeError: The function cannot be called with two arguments.
        """
        _check_event(event)

        def register(function: _F) -> _F:
            self._functions.check(function, ("client", "data"))
            with self._lock:
                if event in self._handlers:
                    raise ValueError(f"the event {event!r} has a handler already")
                self._handlers[event] = self._calling(function)
            return function

        return register

    def _calling(self, function: Callable[..., Any]) -> EventHandler:
        async def handle(client: BifrostClient, data: dict[str, Any]) -> Result:
            return Result(encode(await self._functions.call(function, client.connection, data)))

        async def handle_in_thread(client: BifrostClient, data: dict[str, Any]) -> Result:
            async with client.threads:
                return await handle(client, data)

        return handle if self._functions.is_async(function) else handle_in_thread

    async def broadcast(
        self,
        event: str,
        data: Any = None,
        *,
        to: Recipient | Iterable[Recipient] = ALL,
        exclude: Recipient | Iterable[Recipient] | None = None,
    ) -> Delivery:
        """Send an event to all clients, or to some; see :class:`zcli_core.subsystems.bifrost.Bifrost`."""
        message = self._event_message(event, data)
        if to is ALL:
            return await self._websocket.broadcast(message, exclude)
        return await self._websocket.broadcast(message, exclude, to=to)

    def publish(
        self,
        event: str,
        data: Any = None,
        *,
        to: Recipient | Iterable[Recipient] = ALL,
        exclude: Recipient | Iterable[Recipient] | None = None,
    ) -> Future[Delivery]:
        """Send an event as :meth:`broadcast` does, from any thread and without waiting."""
        message = self._event_message(event, data)
        if to is ALL:
            return self._websocket.publish(message, exclude=exclude)
        return self._websocket.publish(message, to=to, exclude=exclude)

    def _event_message(self, event: str, data: Any) -> str:
        _check_event(event)
        message = event_message(event, encode(data))
        if len(message.encode()) > self._limits.response:
            raise ValueError(
                f"the message of the event {event!r} has {len(message.encode())} bytes; it may have "
                f"{self._limits.response}, because of websocket.max_send_buffer"
            )
        return message

    # --- serving ---

    def start(self, host: str | None = None, port: int | None = None) -> None:
        """Serve until Ctrl+C, SIGTERM or :meth:`stop`, whatever ``zMode`` is.

        Args:
            host: Name or address to listen on; ``websocket.host`` if not given.
            port: Port to listen on, 0 for a free one; ``websocket.port`` if not given.

        Raises:
            ConfigError: The settings cannot be used.
            ListenError: The server cannot listen on the port.
            RuntimeError: The server already runs, or the call was made inside an event loop.
        """
        self._websocket.start(host, port, **self._callbacks())

    def start_background(self, host: str | None = None, port: int | None = None) -> BackgroundServer:
        """Serve in a thread, and return when the server listens: for tests, and beside other work.

        The arguments and errors are those of :meth:`start`.

        Returns:
            A handle with ``url``, ``port`` and ``stop()``, which stops the server at the end of a ``with`` block.
        """
        return self._websocket.start_background(host, port, **self._callbacks())

    def asgi(self) -> AsgiApp:
        """Return an ASGI 3 application with the same events, to mount in a framework."""
        return self._websocket.asgi(**self._callbacks())

    def stop(self, wait: bool = True) -> bool:
        """Stop the server; returns whether it has ended. See ``z.comm.websocket.stop``."""
        return self._websocket.stop(wait)

    def _callbacks(self) -> dict[str, Any]:
        """Check the models; return what the WebSocket server calls."""
        data = self._open_data()
        if data is not None and self._config.bifrost.auth_tier == "none":
            self._warn_of_unusable_models(data)
        client_file.serve_for(self._config)
        return {
            "handler": self._received,
            "on_connect": self._connected,
            "on_disconnect": self._disconnected,
            "lifespan": self._lifespan,
        }

    def _warn_of_unusable_models(self, data: DataService) -> None:
        """Warn of models that no client can use, because without a tier clients have no role."""
        client = Actor("any" if self._config.websocket.require_auth else None)
        for name in data.hidden_models(client):
            self._log.warning(
                "no client can use the model %r: it has an owner or access rules, and without bifrost.auth_tier "
                "clients have no role; set ZCLI_BIFROST_AUTH_TIER=application in %s",
                name, self._config.env_file_in_use,
            )  # fmt: skip

    def _open_data(self) -> DataService | None:
        if self._config.bifrost.models is None:
            return None
        from zcli_bifrost.data.opening import open_data

        return open_data(self._config, self._log, self._app.log_file)

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        """Use the models while the server runs."""
        with limited_log(self._log, asyncio.get_running_loop()):
            loop, data = asyncio.get_running_loop(), self._open_data()
            try:
                if data is None:
                    handlers = without_models()
                else:
                    await data.start(self._deliver, lambda: self._websocket.wake(_WRITTEN))
                    handlers = DataEvents(data, self._config.bifrost.admin_role).handlers()
                self._runs[loop] = _Run(data, {**handlers, "connection_info": self._connection_info}, {})
                yield
            finally:
                self._runs.pop(loop, None)
                if data is not None:
                    await data.close()

    # --- clients ---

    async def _connected(self, connection: ServerConnection) -> None:
        client = BifrostClient(connection, self._actor(connection), self._limits, self._log)
        self._run().clients[connection] = client
        await connection.send(event_message("connection_info", (await self._connection_info(client, {})).text))

    async def _received(self, connection: ServerConnection, message: str | bytes) -> None:
        await self._run().clients[connection].receive(message, self._find)

    def _find(self, event: str) -> EventHandler | None:
        return self._handlers.get(event) or self._run().handlers.get(event)

    def _run(self) -> _Run:
        return self._runs[asyncio.get_running_loop()]

    async def _disconnected(self, connection: ServerConnection) -> None:
        run = self._runs.get(asyncio.get_running_loop())
        if run is None:  # its handler did not return before the run had ended
            return
        run.clients.pop(connection, None)
        if run.data is not None:
            run.data.remove_subscriber(connection)

    def _actor(self, connection: ServerConnection) -> Actor:
        found = self._websocket.auth.get_client_info(connection)
        if found["strategy"] != STRATEGY:
            tier = self._config.bifrost.auth_tier
            if tier != "none":  # the settings were checked, so this is a mistake of ours or of another plugin
                raise RuntimeError(f"bifrost.auth_tier is {tier!r}, but the client was not admitted by it")
            return Actor(found["identity"])
        claims: Mapping[str, Any] = found["claims"]
        return Actor(found["identity"], claims["role"], claims["tier"], claims["app"])

    async def _connection_info(self, client: BifrostClient, _: dict[str, Any]) -> Result:
        """What the server tells a client about itself and about the client."""
        actor, data = client.actor, self._run().data
        info = {
            "server_version": __version__,
            "features": ["events"] if data is None else ["events", "models", "cache", "subscriptions"],
            "models": [] if data is None else data.models(actor),
            "identity": actor.identity,
            "tier": actor.tier,
            "role": actor.role,
            "requests_max": self._limits.requests,
        }
        return Result(encode(info))

    def _look_for_writes(self) -> None:
        run = self._runs.get(asyncio.get_running_loop())
        if run is not None and run.data is not None:
            run.data.wake()

    def _deliver(self, event: DataEvent, subscribers: Collection[Any]) -> None:
        """Send a change of rows to the clients that follow them."""
        message = event_message("data_updated", event.text)
        if len(message.encode()) > self._limits.response:
            news = {"subscription": event.subscription, "model": event.model, "action": "refresh"}
            message = event_message("data_updated", encode(news))
        self._websocket.publish(message, to=subscribers, local_only=True)


def _check_event(event: str) -> None:
    if callable(event):
        raise TypeError('the name of the event is missing; write @z.bifrost.on("name")')
    if not isinstance(event, str):
        raise TypeError(f"the name of an event must be a text, got {type(event).__name__}")
    if event in BUILTIN or event in _OF_THE_SERVER:
        raise ValueError(f"the event {event!r} is reserved for zBifrost; choose another name")
    if not 0 < len(event) <= MAX_EVENT_LENGTH:
        raise ValueError(f"the name of an event must have 1 to {MAX_EVENT_LENGTH} characters, got {len(event)}")
