"""The facade ``z.comm.websocket``: start, stop and use the WebSocket server from any thread, without asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from zcli_core.errors import ConnectionClosed
from zcli_core.log import FILE_ONLY
from zcli_core.plugins.contract import Context
from zcli_core.printable import print_line
from zcli_core.system.forks import call_after_fork
from zcli_core.websocket import event_loop, systemd
from zcli_core.websocket.admission import ClientAuth
from zcli_core.websocket.blocking import BlockingConnection
from zcli_core.websocket.callbacks import Callbacks, ConnectionCallback, Handler, make_callbacks
from zcli_core.websocket.connection import ServerConnection, as_message, as_server_connection
from zcli_core.websocket.handler_threads import HandlerThreads
from zcli_core.websocket.log_limit import limited_log
from zcli_core.websocket.server_core import ShutdownSummary, open_server
from zcli_core.websocket.server_run import BackgroundServer, ServerRun
from zcli_core.websocket.server_setup import ServerSetup, Strategies, make_plugins, make_setup
from zcli_core.websocket.sessions import Observers, Sessions
from zcli_core.websocket.signals import StopOnSigterm, stopped_by_signals

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.host import PluginHost
    from zcli_core.websocket.contract import Message, Transport
    from zcli_core.websocket.server_core import ServerCore

#: A client as a handler gets it, async or plain.
Client = ServerConnection | BlockingConnection

#: The default of ``to``: all clients. None is an error, because a script that looks for a client and finds None must
#: not send to all.
_ALL: Any = object()

#: Seconds that stop() waits, besides drain_timeout and close_timeout, if a handler blocks the event loop.
_STOP_MARGIN = 5.0

_Announce = Callable[[ServerRun], None]
_Serve = Callable[[ServerRun, _Announce], Coroutine[Any, Any, ShutdownSummary]]


class WebSocketServer:
    """The WebSocket server of one ``zCLI`` object; it runs at most once at a time.

    Every method may be called from any thread.
    """

    def __init__(self, config: Config, host: PluginHost, log: logging.Logger) -> None:
        self._config = config
        self._host = host
        self._log = log
        self._lock = threading.Lock()
        self._run: ServerRun | None = None
        self._threads = HandlerThreads("zcli-websocket-handler")
        #: ``auth.get_client_info(websocket)`` shows how a client was authenticated.
        self.auth = ClientAuth()
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Forget the parent's server, whose thread the child process does not have."""
        self._lock = threading.Lock()
        run, self._run = self._run, None
        if run is not None:
            run.server = run.url = None
            run.stop = event_loop.StopEvent()
            run.finished = threading.Event()
            run.finished.set()

    # --- starting and stopping ---

    def start(
        self,
        host: str | None = None,
        port: int | None = None,
        handler: Handler | Mapping[str, Handler] | None = None,
        *,
        on_connect: ConnectionCallback | None = None,
        on_disconnect: ConnectionCallback | None = None,
    ) -> None:
        """Serve until Ctrl+C, SIGTERM or :meth:`stop`; then close all clients, release the port and return.

        Prints the URL at the start and a summary at the end. A second Ctrl+C closes all connections at once.

        The handler and the callbacks may be ``async def`` or plain functions. A plain function runs in a thread and may
        block.

        Under systemd, the server uses the sockets of a socket unit (``LISTEN_FDS``) unless ``host`` or ``port`` is
        given, and reports when it is ready (``NOTIFY_SOCKET``).

        Args:
            host: Name or address to listen on; ``websocket.host`` if not given.
            port: Port to listen on, 0 for a free one; ``websocket.port`` if not given.
            handler: ``handler(websocket, message)`` is called for every message. The messages of one client are handled
                in order, one at a time. It may be a mapping of paths to such functions, ``{"/chat": chat}``; clients of
                other paths are refused. Without a handler, messages are sent back.
            on_connect: ``on_connect(websocket)`` is called before a client's first message.
            on_disconnect: ``on_disconnect(websocket)`` is called when a client has disconnected.

        Raises:
            ConfigError: The settings cannot be used. This is checked before the port is opened.
            ListenError: The server cannot listen on the port.
            ValueError: ``host`` or ``port`` is invalid.
            TypeError: A function cannot be called with these arguments.
            RuntimeError: The server already runs, or the call was made inside an event loop, which it would block.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "start() blocks, so it cannot be called inside a running event loop; "
                "use 'await z.comm.websocket.serve(...)' there, or z.comm.websocket.start_background(...)"
            )
        serve = self._prepare(host, port, handler, on_connect, on_disconnect)
        factory = event_loop.loop_factory(self._config)
        with self._new_run() as run, stopped_by_signals(run.stop, run.abort) as signals:
            summary = None
            with contextlib.suppress(KeyboardInterrupt):
                summary = event_loop.run(factory, serve(run, self._print_url), run.abort, self._log)
        if summary is None or signals.aborted:
            print_line("[WebSocket] interrupted: every connection was dropped")
        else:
            print_line(f"[WebSocket] {summary}")

    async def serve(
        self,
        host: str | None = None,
        port: int | None = None,
        handler: Handler | Mapping[str, Handler] | None = None,
        *,
        on_connect: ConnectionCallback | None = None,
        on_disconnect: ConnectionCallback | None = None,
    ) -> None:
        """Serve in the running event loop until :meth:`stop`: :meth:`start` as a coroutine, with the same arguments.

        It prints nothing and does not handle signals. Cancelling it closes all clients as well.
        """
        serve = self._prepare(host, port, handler, on_connect, on_disconnect)
        with self._new_run() as run:
            await serve(run, lambda run: None)

    def start_background(
        self,
        host: str | None = None,
        port: int | None = None,
        handler: Handler | Mapping[str, Handler] | None = None,
        *,
        on_connect: ConnectionCallback | None = None,
        on_disconnect: ConnectionCallback | None = None,
        stop_on_sigterm: bool = False,
    ) -> BackgroundServer:
        """Serve in a thread, and return when the server listens. The other arguments are those of :meth:`start`.

        When the script ends, all clients are closed with 1001, as by :meth:`stop`.

        Args:
            stop_on_sigterm: Close the clients also at SIGTERM, before it ends the program as usual. This replaces the
                handler of the signal, which only the main thread can do.

        Returns:
            A handle with ``url``, ``port`` and ``stop()``, which stops the server at the end of a ``with`` block.

        Raises:
            RuntimeError: The server already runs, or ``stop_on_sigterm`` is used outside the main thread.
        """
        serve = self._prepare(host, port, handler, on_connect, on_disconnect)
        factory = event_loop.loop_factory(self._config)
        on_sigterm = StopOnSigterm(self.stop) if stop_on_sigterm else None
        started: Future[ServerRun] = Future()

        def work() -> None:
            try:
                with self._new_run() as run:
                    event_loop.run(factory, serve(run, started.set_result), run.abort, self._log)
            except BaseException as error:  # noqa: BLE001 - raised in the thread that called start_background()
                if started.done():
                    self._log.error("the server has failed", exc_info=error)
                else:
                    started.set_exception(error)

        threading.Thread(target=work, name="zcli-websocket", daemon=True).start()
        try:
            return BackgroundServer(started.result(), self.stop, on_sigterm)
        except BaseException:
            if on_sigterm is not None:
                on_sigterm.end()
            raise

    def stop(self, wait: bool = True) -> bool:
        """Stop the server: let handlers finish, close all clients with 1001 and release the port.

        Running handlers get ``websocket.drain_timeout`` seconds to finish. Does nothing if no server runs.

        Args:
            wait: Wait until the server has ended. A call from a handler, or from the server's own thread, never waits,
                because the server waits for them.

        Returns:
            Whether the server has ended.
        """
        run = self._run
        if run is None:
            return True
        run.stop.request()
        if not wait or self._threads.inside or run.thread is threading.current_thread():
            return run.finished.is_set()
        settings = self._config.websocket
        if run.finished.wait(settings.drain_timeout + settings.close_timeout + _STOP_MARGIN):
            return True
        self._log.error("the server does not stop, because its event loop is blocked")
        return False

    # --- state ---

    @property
    def is_running(self) -> bool:
        """Whether the server listens."""
        return self._server is not None

    @property
    def url(self) -> str | None:
        """The URL for clients, as in ``"ws://127.0.0.1:8765"``; None if the server does not listen."""
        run = self._run
        return run.url if run else None

    @property
    def clients(self) -> tuple[ServerConnection, ...]:
        """The connected clients, in the order in which they connected."""
        server = self._server
        return tuple(server.sessions.clients) if server else ()

    @property
    def client_count(self) -> int:
        """Number of connected clients."""
        server = self._server
        return len(server.sessions.clients) if server else 0

    @property
    def slow_client_count(self) -> int:
        """Number of clients that were closed (1013) since the start because they read too slowly."""
        server = self._server
        return server.sessions.slow_count if server else 0

    # --- sending ---

    async def broadcast(
        self,
        message: Message,
        exclude: Client | Iterable[Client] | None = None,
        *,
        to: Client | Iterable[Client] = _ALL,
    ) -> int:
        """Send a message to all clients, to some, or to all but some, in any event loop.

        The message is encoded once. The call does not wait for slow clients: a client that leaves more than
        ``websocket.max_send_buffer`` bytes unread is closed (1013).

        Args:
            message: Text or bytes.
            exclude: A client, or several, that do not get the message.
            to: A client, or several, each of which gets the message once; an empty list sends it to no client. Without
                this argument every client gets it.

        Returns:
            The number of clients to which it was sent; 0 if the server does not run.

        Raises:
            TypeError: The message is not text or bytes, or ``to`` or ``exclude`` has something other than clients;
                ``to=None`` is an error too.
        """
        return await asyncio.wrap_future(self.publish(message, to=to, exclude=exclude))

    def publish(
        self,
        message: Message,
        *,
        to: Client | Iterable[Client] = _ALL,
        exclude: Client | Iterable[Client] | None = None,
    ) -> Future[int]:
        """Send a message as :meth:`broadcast` does, from any thread and without waiting.

        Returns:
            A future whose ``result()`` is the number of clients.
        """
        message = as_message(message)
        chosen = None if to is _ALL else tuple(dict.fromkeys(_clients("to", to)))
        excluded = frozenset(() if exclude is None else _clients("exclude", exclude))
        server = self._server
        if server is None:
            return _finished(0)
        if asyncio._get_running_loop() is server.loop:
            return _finished(server.publish(message, chosen, excluded))
        posted = server.sessions.bridge.post(server.publish, message, chosen, excluded)
        return _finished(0) if posted.cancelled() else posted

    async def send(self, client: Client, message: Message) -> bool:
        """Send a message to one client, in any event loop, waiting while the client reads too slowly.

        Returns:
            False if the client has disconnected.
        """
        message = as_message(message)
        connection = as_server_connection(client)
        server = self._server
        try:
            if server is None or asyncio.get_running_loop() is server.loop:
                await connection.send(message)
            else:
                await asyncio.to_thread(connection.blocking.send, message)
        except ConnectionClosed:
            return False
        return True

    # --- one run ---

    @property
    def _server(self) -> ServerCore | None:
        run = self._run
        return run.server if run else None

    @functools.cached_property
    def _plugins(self) -> tuple[Transport, Strategies]:
        return make_plugins(self._config, self._host, self._threads, self._log)

    def _prepare(
        self,
        host: str | None,
        port: int | None,
        handler: Handler | Mapping[str, Handler] | None,
        on_connect: ConnectionCallback | None,
        on_disconnect: ConnectionCallback | None,
    ) -> _Serve:
        """Check the arguments and settings; return the coroutine function that serves."""
        _expect_no_handler("host", host)
        _expect_no_handler("port", port)
        callbacks = make_callbacks(handler, on_connect, on_disconnect, self._threads)
        paths = frozenset(handler) if isinstance(handler, Mapping) else None
        setup = make_setup(self._config, host, port, paths, self._log)
        return functools.partial(self._serve, setup, callbacks, *self._plugins)

    @contextlib.contextmanager
    def _new_run(self) -> Iterator[ServerRun]:
        run = ServerRun()
        with self._lock:
            if self._run is not None:
                raise RuntimeError(
                    f"the server is already running{f' at {self.url}' if self.url else ''}; stop() it first"
                )
            self._run = run
        try:
            yield run
        finally:
            with self._lock:
                self._run = None
            run.finished.set()

    async def _serve(
        self,
        setup: ServerSetup,
        callbacks: Callbacks,
        transport: Transport,
        strategies: Strategies,
        run: ServerRun,
        announce: _Announce,
    ) -> ShutdownSummary:
        """Listen, announce it, wait until a stop is requested, and shut down."""
        with limited_log(self._log, asyncio.get_running_loop()):
            client_level = logging.INFO if self._config.deployment == "Development" else logging.DEBUG
            sessions = Sessions(self._config.websocket, callbacks, self._observers(), self._log, client_level)
            server = await open_server(self._config, setup, transport, strategies, sessions, self._log)
            run.thread = threading.current_thread()
            run.url = server.url
            run.server = server
            self._log.info("listening on %s", run.url, extra=FILE_ONLY)
            try:
                announce(run)
                systemd.notify("READY=1")
                await run.stop.wait()
            finally:
                systemd.notify("STOPPING=1")
                summary = await server.shut_down()
                run.server = None
                self._log.info("%s", summary, extra=FILE_ONLY)
            return summary

    def _observers(self) -> Observers:
        context = Context(self._config, self._log)
        opened = self._host.notifier("zcli_websocket_opened", self._log)
        closed = self._host.notifier("zcli_websocket_closed", self._log)
        return Observers(
            opened and (lambda connection: opened(connection, context)),
            closed and (lambda connection, code, reason: closed(connection, code, reason, context)),
        )

    def _print_url(self, run: ServerRun) -> None:
        settings = self._config.websocket
        auth = f"auth: {', '.join(settings.auth)}" if settings.require_auth else "no auth"
        print_line(f"[WebSocket] listening on {run.url} ({auth}); Ctrl+C stops it")


def _expect_no_handler(name: str, given: object) -> None:
    """Raise TypeError if the handler was given in the place of another argument."""
    if callable(given) or isinstance(given, Mapping):
        shown = getattr(given, "__name__", None) or "..."
        raise TypeError(f"{name} must not be a handler, got {type(given).__name__} {shown}; pass it as handler={shown}")


def _clients(argument: str, given: Client | Iterable[Client]) -> tuple[ServerConnection, ...]:
    if given is None:
        raise TypeError(f"{argument} must be a client or an iterable of clients, got None; leave it out to send to all")
    if isinstance(given, Iterable) and not isinstance(given, (BlockingConnection, str, bytes)):
        return tuple(as_server_connection(each, f"each item of {argument}") for each in given)
    return (as_server_connection(given, argument, "a client or an iterable of clients"),)


def _finished(count: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(count)
    return future
