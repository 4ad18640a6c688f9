"""The types of ``z.walker`` and ``z.bifrost``, so that editors and type checkers know them.

The plugin ``zcli_bifrost`` provides both. A plugin that replaces one of them provides the same methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zcli_core.websocket.asgi import AsgiApp
    from zcli_core.websocket.recipients import Delivery, Recipient
    from zcli_core.websocket.server_run import BackgroundServer

#: ``handler(client, data)``: an async or a plain function.
EventHandler = TypeVar("EventHandler", bound=Callable[..., Any])

#: The default of ``to``: all clients. None is an error, because a script that looks for a client and finds None must
#: not send to all.
ALL: Any = object()


class Walker(Protocol):
    """``z.walker``: runs the application in the way that ``zMode`` says."""

    def run(self) -> None:
        """Serve browsers until Ctrl+C if ``zMode`` is ``zBifrost``; in ``Terminal``, print that nothing is to be run.

        Raises:
            ConfigError: The settings cannot be used.
            ListenError: The server cannot listen on the port.
            RuntimeError: The server already runs, or the call was made inside an event loop.
        """
        ...


class Bifrost(Protocol):
    """``z.bifrost``: named events between browsers and the application, over the WebSocket server."""

    def on(self, event: str) -> Callable[[EventHandler], EventHandler]:
        """Return a decorator that makes a function handle an event.

        The function is called as ``handler(client, data)``. ``client`` is the connection, and ``data`` the message
        without ``event`` and ``_requestId``. What it returns is the result that the client gets, as JSON. An
        ``async def`` runs in the event loop; a plain function runs in a thread and may block.

        Args:
            event: The name of the event.

        Raises:
            ValueError: The name is reserved, invalid, or has a handler already.
            TypeError: The function cannot be called with two arguments.
        """
        ...

    async def broadcast(
        self,
        event: str,
        data: Any = None,
        *,
        to: Recipient | Iterable[Recipient] = ALL,
        exclude: Recipient | Iterable[Recipient] | None = None,
    ) -> Delivery:
        """Send an event to all clients, or to some: ``{"event": event, "data": data}``.

        Args:
            event: The name of the event.
            data: A value that JSON can hold.
            to: A room, ``"@identity"``, a client, or several of these; all clients if not given.
            exclude: Clients that do not get it.

        Returns:
            The number of clients of this process, as ``z.comm.websocket.broadcast`` returns it.

        Raises:
            ValueError: The name of the event is reserved, JSON cannot hold ``data``, the message is too large for
                ``websocket.max_send_buffer``, or the name of a room is invalid.
            TypeError: JSON cannot hold ``data``, or ``to`` or ``exclude`` has something else.
        """
        ...

    def publish(
        self,
        event: str,
        data: Any = None,
        *,
        to: Recipient | Iterable[Recipient] = ALL,
        exclude: Recipient | Iterable[Recipient] | None = None,
    ) -> Future[Delivery]:
        """Send an event as :meth:`broadcast` does, from any thread and without waiting."""
        ...

    def start(self, host: str | None = None, port: int | None = None) -> None:
        """Serve until Ctrl+C, SIGTERM or :meth:`stop`, whatever ``zMode`` is.

        Args:
            host: Name or address to listen on; ``websocket.host`` if not given.
            port: Port to listen on, 0 for a free one; ``websocket.port`` if not given.

        Raises:
            ConfigError, ListenError, RuntimeError: As for :meth:`Walker.run`.
        """
        ...

    def start_background(self, host: str | None = None, port: int | None = None) -> BackgroundServer:
        """Serve in a thread, and return when the server listens: for tests, and beside other work.

        The arguments and errors are those of :meth:`start`.

        Returns:
            A handle with ``url``, ``port`` and ``stop()``, which stops the server at the end of a ``with`` block.
        """
        ...

    def asgi(self) -> AsgiApp:
        """Return an ASGI 3 application with the same events, to mount in a framework."""
        ...

    def stop(self, wait: bool = True) -> bool:
        """Stop the server; returns whether it has ended. See ``z.comm.websocket.stop``."""
        ...
