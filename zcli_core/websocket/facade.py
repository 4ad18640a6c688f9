"""The facade ``z.comm.websocket``: start, stop and use the WebSocket server from any thread, without asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import BackplaneFailure, ConnectionClosed
from zcli_core.log import FILE_ONLY
from zcli_core.plugins.contract import Context
from zcli_core.printable import print_line
from zcli_core.system.forks import call_after_fork
from zcli_core.websocket import event_loop, systemd
from zcli_core.websocket.admission import ClientAuth
from zcli_core.websocket.asgi import AsgiApp, AsgiRun, Lifespan
from zcli_core.websocket.callbacks import Callbacks, ConnectionCallback, Handler, echo, is_async, make_callbacks
from zcli_core.websocket.connection import ServerConnection, as_message, as_server_connection
from zcli_core.websocket.counters import Totals
from zcli_core.websocket.handler_threads import HandlerThreads
from zcli_core.websocket.log_limit import limited_log
from zcli_core.websocket.parts.frames import check_close
from zcli_core.websocket.plugin_pages import make_ask
from zcli_core.websocket.process_links import ProcessLinks, Publication
from zcli_core.websocket.recipients import (
    Client,
    Delivery,
    Recipient,
    delivery,
    parse_excluded,
    parse_recipients,
    parse_room,
)
from zcli_core.websocket.rooms import Rooms
from zcli_core.websocket.running_server import shown_to_operators
from zcli_core.websocket.server_core import ShutdownSummary, open_asgi_core, open_server
from zcli_core.websocket.server_run import BackgroundServer, ServerRun
from zcli_core.websocket.server_setup import (
    ServerSetup,
    Strategies,
    make_asgi_rules,
    make_plugins,
    make_setup,
    make_strategies,
    warn_if_open,
)
from zcli_core.websocket.sessions import Observers, Sessions
from zcli_core.websocket.signals import StopOnSigterm, stopped_by_signals
from zcli_core.websocket.single_server import SingleServer
from zcli_core.websocket.workers import assignment
from zcli_core.websocket.workers.command import command_line, occupy_standard_descriptors, refuse_workers, worker_count

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Member
    from zcli_core.config import Config
    from zcli_core.plugins.host import PluginHost
    from zcli_core.types import HttpMetrics, WebSocketMetrics
    from zcli_core.websocket.contract import Message, Transport
    from zcli_core.websocket.parts.asgi_listener import AsgiListener
    from zcli_core.websocket.server_core import ServerCore

#: The default of ``to``: all clients. None is an error, because a script that looks for a client and finds None must
#: not send to all.
_ALL: Any = object()

#: Seconds that stop() waits, besides drain_timeout and close_timeout, if a handler blocks the event loop.
_STOP_MARGIN = 5.0

_T = TypeVar("_T")

_Announce = Callable[[ServerRun], None]
_Serve = Callable[[ServerRun, _Announce], Coroutine[Any, Any, ShutdownSummary]]


class WebSocketServer:
    """The WebSocket server of one ``zCLI`` object; it runs at most once at a time.

    Every method may be called from any thread.
    """

    def __init__(
        self, config: Config, host: PluginHost, log: logging.Logger, http_metrics: Callable[[], HttpMetrics]
    ) -> None:
        """Make a server that does not run yet.

        Args:
            config: The configuration.
            host: The plugins.
            log: Where the server logs.
            http_metrics: Returns what the HTTP client of the same ``zCLI`` object counts.
        """
        self._config = config
        self._http_metrics = http_metrics
        self._host = host
        self._log = log
        self._lock = threading.Lock()
        self._run: ServerRun | None = None
        #: The servers whose clients get messages, in one event loop or several.
        self._servers: tuple[ServerCore, ...] = ()
        #: The runs of ASGI applications, each with one of these servers.
        self._asgi_runs: tuple[AsgiRun, ...] = ()
        self._threads = HandlerThreads("zcli-websocket-handler")
        self._totals = Totals()
        self._links = ProcessLinks(config, host, log)
        #: ``auth.get_client_info(websocket)`` shows how a client was authenticated.
        self.auth = ClientAuth()
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Forget the parent's server, whose thread the child process does not have."""
        self._lock = threading.Lock()
        self._totals = Totals()
        run, self._run = self._run, None
        self._servers = ()
        self._asgi_runs = ()
        self._links.after_fork()
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
        lifespan: Lifespan | None = None,
    ) -> None:
        """Serve until Ctrl+C, SIGTERM or :meth:`stop`; then close all clients, release the port and return.

        Prints the URL at the start and a summary at the end. A second Ctrl+C closes all connections at once.

        The handler and the callbacks may be ``async def`` or plain functions. A plain function runs in a thread and may
        block.

        With ``websocket.workers`` this process supervises, and starts the program again for each worker. The code above
        and below this call runs in all of them.

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
            lifespan: A function without arguments that returns an async context manager, such as one made by
                ``contextlib.asynccontextmanager``. It is entered in the server's event loop before the port is opened,
                and left after the last client is gone. An error when it is entered is raised here.

        Raises:
            ConfigError: The settings cannot be used. This is checked before the port is opened.
            ListenError: The server cannot listen on the port.
            ValueError: ``host`` or ``port`` is invalid.
            TypeError: A function cannot be called with these arguments.
            RuntimeError: The server already runs, or the call was made inside an event loop, which it would block.
            WorkerError: With ``websocket.workers``, the workers crash again and again.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "start() blocks, so it cannot be called inside a running event loop; "
                "use 'await z.comm.websocket.serve(...)' there, or z.comm.websocket.start_background(...)"
            )
        arguments = host, port, handler, on_connect, on_disconnect
        assigned = assignment.take()
        if assigned is not None:
            self._work(assigned, lifespan, *arguments)
            return
        count = worker_count(self._config)
        if count > 1:
            summary = self._supervise(count, *arguments)
        else:
            serve = self._prepare(*arguments, lifespan)
            summary = self._run_until_signal(lambda run: serve(run, self._print_url))
        print_line(f"[WebSocket] {summary or 'interrupted: every connection was dropped'}")

    def _run_until_signal(
        self,
        serve: Callable[[ServerRun], Coroutine[Any, Any, ShutdownSummary]],
        factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> ShutdownSummary | None:
        """Run a server in an event loop of its own. Returns None if it was interrupted."""
        factory = factory or event_loop.loop_factory(self._config)
        # A worker leaves Ctrl+C, which a terminal sends to all processes, to the supervisor.
        numbers = (signal.SIGINT, signal.SIGTERM) if assignment.worker_number() is None else (signal.SIGTERM,)
        with self._new_run() as run, stopped_by_signals(run.stop, run.abort, numbers) as signals:
            summary = None
            with contextlib.suppress(KeyboardInterrupt):
                summary = event_loop.run(factory, _then(serve(run), signals.closing), run.abort, self._log)
        return None if signals.aborted else summary

    async def serve(
        self,
        host: str | None = None,
        port: int | None = None,
        handler: Handler | Mapping[str, Handler] | None = None,
        *,
        on_connect: ConnectionCallback | None = None,
        on_disconnect: ConnectionCallback | None = None,
        lifespan: Lifespan | None = None,
    ) -> None:
        """Serve in the running event loop until :meth:`stop`: :meth:`start` as a coroutine, with the same arguments.

        It prints nothing and does not handle signals. Cancelling it closes all clients as well.
        """
        refuse_workers(self._config, "serve")
        serve = self._prepare(host, port, handler, on_connect, on_disconnect, lifespan)
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
        lifespan: Lifespan | None = None,
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
        refuse_workers(self._config, "start_background")
        serve = self._prepare(host, port, handler, on_connect, on_disconnect, lifespan)
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

    def asgi(
        self,
        handler: Handler | Mapping[str, Handler] | None = None,
        *,
        on_connect: ConnectionCallback | None = None,
        on_disconnect: ConnectionCallback | None = None,
        lifespan: Lifespan | None = None,
        path: str | None = None,
    ) -> AsgiApp:
        """Return an ASGI 3 application: for uvicorn, hypercorn, granian, or to mount in a framework.

        The ASGI server listens, and owns TLS, pings and frames; the settings ``websocket.host``, ``port``, ``ssl_*``
        and ``ping_*`` do not apply. Every call makes an application of its own; :attr:`clients` and :meth:`broadcast`
        include the clients of all of them.

        Args:
            handler: As for :meth:`start`. The paths of a mapping are those below the place where a framework has
                mounted the application.
            on_connect: As for :meth:`start`.
            on_disconnect: As for :meth:`start`.
            lifespan: As for :meth:`start`. Each event loop in which the application serves enters it: at
                ``lifespan.startup``, or before its first client if the framework does not pass that on.
            path: The only path that the handler serves: the same as ``handler={path: handler}``.

        Raises:
            ConfigError: The settings cannot be used.
            TypeError: A function cannot be called with these arguments, or ``path`` is given with a mapping.
            ValueError: A path is invalid.
        """
        if path is not None:
            if isinstance(handler, Mapping):
                raise TypeError(f"path must not be given if handler is a mapping of paths, got {path!r}")
            handler = {path: handler or echo}
        if self._config.websocket.workers != 1:
            origin = self._config.explain("websocket.workers").origin
            self._log.warning(
                "websocket.workers (%s) has no effect inside an ASGI server, which starts its own processes", origin
            )
        callbacks = make_callbacks(handler, on_connect, on_disconnect, self._threads)
        paths = frozenset(handler) if isinstance(handler, Mapping) else None
        rules = make_asgi_rules(self._config, paths, self._log)
        strategies = self._strategies
        self._links.check()

        def open_core() -> tuple[ServerCore, AsgiListener]:
            sessions = self._make_sessions(callbacks)
            if sessions.link is not None:
                sessions.link.link.start()
            ask = make_ask(self._config, self._host, self._log, self)
            return open_asgi_core(self._config, rules, strategies, sessions, self._log, ask)

        return AsgiApp(open_core, self._asgi_ready, self._asgi_opened, self._asgi_ended, self._log, lifespan)

    async def _asgi_ready(self, core: ServerCore) -> None:
        link = core.sessions.link
        if link is not None and self._config.backplane.required:
            await self._links.prove(link)

    def _asgi_opened(self, run: AsgiRun) -> None:
        self._add_server(run.core)
        with self._lock:
            self._asgi_runs = (*self._asgi_runs, run)

    def _asgi_ended(self, run: AsgiRun) -> None:
        self._remove_server(run.core)
        with self._lock:
            self._asgi_runs = tuple(each for each in self._asgi_runs if each is not run)

    def stop(self, wait: bool = True) -> bool:
        """Stop the server: let handlers finish, close all clients with 1001 and release the port.

        Running handlers get ``websocket.drain_timeout`` seconds to finish. Does nothing if no server runs. An ASGI
        application refuses all clients from then on, until its server starts it again.

        Args:
            wait: Wait until the server has ended. A call from a handler, or from the server's own thread, never waits,
                because the server waits for them.

        Returns:
            Whether the server has ended.
        """
        asgi_runs = [each for each in self._asgi_runs if each.is_alive]
        for each in asgi_runs:
            each.request_stop()
        run = self._run
        if run is not None:
            run.request_stop()
        runs: list[ServerRun | AsgiRun] = [*asgi_runs] if run is None else [run, *asgi_runs]
        if not wait or self._threads.inside or any(each.thread is threading.current_thread() for each in runs):
            return all(each.finished.is_set() for each in runs)
        settings = self._config.websocket
        deadline = time.monotonic() + settings.drain_timeout + settings.close_timeout + _STOP_MARGIN
        if all(each.finished.wait(max(deadline - time.monotonic(), 0)) for each in runs):
            return True
        self._log.error("the server does not stop, because its event loop is blocked")
        return False

    def close(self) -> None:
        """Stop the server, and end the link that a program has which does not serve."""
        self.stop()
        self._links.close()

    # --- state ---

    @property
    def is_running(self) -> bool:
        """Whether the server listens, or an ASGI application serves."""
        run = self._run
        return (run is not None and run.listens) or any(each.is_alive for each in self._asgi_runs)

    @property
    def url(self) -> str | None:
        """The URL for clients, as in ``"ws://127.0.0.1:8765"``; None if the server does not listen."""
        run = self._run
        return run.url if run else None

    @property
    def clients(self) -> tuple[ServerConnection, ...]:
        """The connected clients, in the order in which they connected."""
        return tuple(client for server in self._servers for client in tuple(server.sessions.clients))

    @property
    def client_count(self) -> int:
        """Number of connected clients."""
        return sum(len(server.sessions.clients) for server in self._servers)

    @property
    def slow_client_count(self) -> int:
        """Number of clients that were closed (1013) since the start because they read too slowly."""
        return sum(server.sessions.counters.slow_clients for server in self._servers)

    def metrics(self) -> WebSocketMetrics:
        """Return what the server counts, for monitoring.

        Counters only grow: they cover every run of this object's server, also those that have ended. ``clients``,
        ``rooms`` and ``loop_lag`` are numbers of this moment. The values are read one after the other while the server
        works, so a message that is being received or sent may be missing in one of them.
        """
        total = self._totals.sum()
        return {
            "clients": self.client_count,
            "rooms": len(self.rooms),
            "connections": total.connections,
            "closed": total.closed,
            "messages_received": total.messages_received,
            "messages_sent": total.messages_sent,
            "bytes_received": total.bytes_received,
            "bytes_sent": total.bytes_sent,
            "slow_clients": total.slow_clients,
            "handler_errors": total.handler_errors,
            "open_seconds": total.open_seconds.read(),
            "loop_lag": max((each.lag.largest() for each in self._servers if each.loop.is_running()), default=0.0),
            "backplane": self._links.metrics(),
            "http": self._http_metrics(),
        }

    @property
    def rooms(self) -> dict[str, int]:
        """The number of clients in each room, of this process; a new dict at each use."""
        counts: dict[str, int] = {}
        for server in self._servers:
            for room, count in server.sessions.rooms.counts().items():
                counts[room] = counts.get(room, 0) + count
        return counts

    async def count(self, room: str) -> int:
        """Return the number of clients in a room, or of an identity (``"@alice"``), in all processes.

        Raises:
            BackplaneFailure: The backplane does not offer presence, or its engine does not respond.
            TypeError: ``room`` is not a string.
            ValueError: The name is invalid.
        """
        name = parse_room(room)
        if self._links.is_remote:
            return await asyncio.wrap_future(self._links.run(lambda link: link.count(name)))
        return sum(server.sessions.rooms.count(name) for server in self._servers)

    async def presence(self, room: str, limit: int | None = 1000) -> tuple[Member, ...]:
        """Return the clients in a room, or of an identity (``"@alice"``), in all processes.

        Args:
            room: The room.
            limit: Most clients that are returned; None for all.

        Returns:
            For each client its ``identity`` and the ``data`` of ``join()``, with identifiers of its ``process`` and its
            ``connection``.

        Raises:
            BackplaneFailure: The backplane does not offer presence, or its engine does not respond.
            TypeError: ``room`` is not a string.
            ValueError: The name is invalid, or ``limit`` is negative.
        """
        name = parse_room(room)
        most = sys.maxsize if limit is None else limit
        if most < 0:
            raise ValueError(f"limit must not be negative, got {limit}")
        if self._links.is_remote:
            return await asyncio.wrap_future(self._links.run(lambda link: link.present(name, most)))
        found: list[Member] = []
        calls = [call for call in self._call(lambda s: s.sessions.rooms.present(name, most)) if not call.cancelled()]
        for members in await asyncio.gather(*map(asyncio.wrap_future, calls)):
            found += members
        return tuple(found[:most])

    # --- sending ---

    async def broadcast(
        self,
        message: Message,
        exclude: Recipient | Iterable[Recipient] | None = None,
        *,
        to: Recipient | Iterable[Recipient] = _ALL,
        local_only: bool = False,
    ) -> Delivery:
        """Send a message to all clients, to some, or to all but some, in any event loop.

        The message is encoded once. The call does not wait for slow clients: a client that leaves more than
        ``websocket.max_send_buffer`` bytes unread is closed (1013).

        Args:
            message: Text or bytes.
            exclude: A client, ``"@identity"``, or several of these, that do not get the message.
            to: A room, ``"@identity"`` for all clients of one identity, a client, or several of these. Each client gets
                the message once; an empty list sends it to no client. Without this argument every client gets it.
            local_only: Send it to clients of this process only, although there is a backplane.

        Returns:
            The number of clients of this process to which it was sent. ``processes`` is the number of other processes
            that took it, and ``failure`` says why it did not reach them; a failure of the backplane is never raised.

        Raises:
            TypeError: The message is not text or bytes, or ``to`` or ``exclude`` has something else; ``to=None`` is an
                error too.
            ValueError: The name of a room is invalid.
        """
        local, publication = self._deliver(message, to, exclude, local_only)
        link = None if publication is None else self._links.link_here()
        if publication is None or link is None:
            remote = None if publication is None else self._links.run(publication)
            return await _result(delivery(local, remote))
        # In the event loop of a server, the futures of other threads would cost more than the message.
        try:
            processes, failure = await publication(link), None
        except BackplaneFailure as error:
            processes, failure = None, error
        clients = await _result(delivery(local, None))
        return Delivery(clients, processes, failure)

    def publish(
        self,
        message: Message,
        *,
        to: Recipient | Iterable[Recipient] = _ALL,
        exclude: Recipient | Iterable[Recipient] | None = None,
        local_only: bool = False,
    ) -> Future[Delivery]:
        """Send a message as :meth:`broadcast` does, from any thread and without waiting.

        Returns:
            A future whose ``result()`` is the number of clients, as :meth:`broadcast` returns it.
        """
        local, publication = self._deliver(message, to, exclude, local_only)
        remote = None if publication is None else self._links.run(publication)
        return delivery(local, remote, [server.loop for server in self._servers])

    def _deliver(
        self, message: Message, to: Any, exclude: Any, local_only: bool
    ) -> tuple[list[Future[int]], Publication | None]:
        """Send a message to clients of this process, so that they never wait for the engine.

        Returns:
            The number of clients of each server, and what publishes the message for other processes; None if it is for
            none of them.
        """
        message = as_message(message)
        chosen = None if to is _ALL else parse_recipients("to", to)
        excluded = parse_excluded(exclude)
        local = self._call(lambda server: server.deliver(message, chosen, excluded))
        if local_only or not self._links.is_remote or (chosen is not None and not chosen.rooms):
            return local, None
        return local, self._links.message(message, chosen, excluded.rooms)

    async def disconnect(self, to: Recipient | Iterable[Recipient], code: int = 1008, reason: str = "") -> Delivery:
        """Close the connections of clients.

        Args:
            to: A room, ``"@identity"``, a client, or several of these.
            code: The close code; see :meth:`ServerConnection.close`.
            reason: At most 123 bytes.

        Returns:
            The number of clients of this process whose connections are being closed. It also has ``processes`` and
            ``failure``, as :meth:`broadcast` returns them.

        Raises:
            TypeError: ``to`` has something else.
            ValueError: ``code``, ``reason`` or the name of a room is not allowed.
        """
        chosen = parse_recipients("to", to)
        check_close(code, reason)
        local = self._call(lambda server: server.close_clients(chosen, code, reason))
        if not chosen.rooms or not self._links.is_remote:
            return await _result(delivery(local, None))
        publication = self._links.disconnection(chosen, code, reason)
        return await asyncio.wrap_future(delivery(local, self._links.run(publication)))

    async def send(self, client: Client, message: Message) -> bool:
        """Send a message to one client, in any event loop, waiting while the client reads too slowly.

        Returns:
            False if the client has disconnected.
        """
        message = as_message(message)
        connection = as_server_connection(client)
        try:
            if asyncio.get_running_loop() is connection._bridge.loop:
                await connection.send(message)
            else:
                await asyncio.to_thread(connection.blocking.send, message)
        except ConnectionClosed:
            return False
        return True

    def _call(self, function: Callable[[ServerCore], _T]) -> list[Future[_T]]:
        """Call a function with each server, in its event loop. Returns a future for each."""
        running = asyncio._get_running_loop()
        return [
            _finished(function(server)) if server.loop is running else server.sessions.bridge.post(function, server)
            for server in self._servers
            if server.loop.is_running()
        ]

    # --- other processes ---

    def wake(self, topic: str) -> None:
        """Call the functions that other processes have given to :meth:`on_wake` for a topic.

        It may be called from any thread, does not wait, and does nothing without a backplane. The call is lost while
        the backplane is down, or while the server ends. So it is for plugins that also poll from time to time.

        Args:
            topic: A name that no other plugin uses, such as that of its distribution.

        Raises:
            TypeError: The topic is not a string.
        """
        _check_topic(topic)
        if self._links.is_remote and not (self._is_server_thread() and self._links.link_here() is None):
            self._links.run(self._links.waking(topic))

    def on_wake(self, topic: str, function: Callable[[], None]) -> None:
        """Call a function when another process calls :meth:`wake`.

        Args:
            topic: The topic.
            function: Called without arguments in the event loop of each server of this object. It must not block.

        Raises:
            TypeError: The topic is not a string, or the function is a coroutine function or cannot be called.
        """
        _check_topic(topic)
        if not callable(function) or is_async(function):
            raise TypeError(f"function must be a plain function without arguments, got {function!r}")
        self._links.wait_for(topic, function)

    def _is_server_thread(self) -> bool:
        """Whether this is the thread of a server, in which no link may begin that outlives the server."""
        run = self._run
        runs: list[ServerRun | AsgiRun] = [*self._asgi_runs] if run is None else [run, *self._asgi_runs]
        return any(each.thread is threading.current_thread() for each in runs)

    # --- one run ---

    @functools.cached_property
    def _plugins(self) -> tuple[Transport, Strategies]:
        return make_plugins(self._config, self._host, self._threads, self._log)

    @functools.cached_property
    def _strategies(self) -> Strategies:
        return make_strategies(self._config, self._host, self._threads, self._log)

    def _prepare(
        self,
        host: str | None,
        port: int | None,
        handler: Handler | Mapping[str, Handler] | None,
        on_connect: ConnectionCallback | None,
        on_disconnect: ConnectionCallback | None,
        lifespan: Lifespan | None,
    ) -> _Serve:
        """Check the arguments and settings; return the coroutine function that serves."""
        _expect_no_handler("host", host)
        _expect_no_handler("port", port)
        setup, callbacks = self._check(host, port, handler, on_connect, on_disconnect)
        return _within(lifespan, functools.partial(self._serve, setup, callbacks, *self._plugins))

    def _check(
        self,
        host: str | None,
        port: int | None,
        handler: Handler | Mapping[str, Handler] | None,
        on_connect: ConnectionCallback | None,
        on_disconnect: ConnectionCallback | None,
    ) -> tuple[ServerSetup, Callbacks]:
        callbacks = make_callbacks(handler, on_connect, on_disconnect, self._threads)
        paths = frozenset(handler) if isinstance(handler, Mapping) else None
        return make_setup(self._config, host, port, paths, self._log), callbacks

    # --- several processes ---

    def _supervise(self, count: int, *arguments: Any) -> ShutdownSummary | None:
        """Start workers that serve, and wait for their end. The arguments are those of :meth:`start`."""
        from zcli_core.websocket.workers.sockets import open_sockets
        from zcli_core.websocket.workers.supervisor import Supervisor

        command = command_line(self._config)
        setup, _ = self._check(*arguments)
        _ = self._plugins  # so that an error is raised here, once
        self._links.check()
        assignment.supervise()
        occupy_standard_descriptors()
        supervisor = Supervisor(self._config, command, count, self.metrics(), self._log)

        async def serve(run: ServerRun) -> ShutdownSummary:
            sockets = await open_sockets(self._config, setup, count)
            try:
                run.thread, run.url, run.supervisor = threading.current_thread(), sockets.url, supervisor
                warn_if_open(self._config, sockets.endpoint, self._log)
                shown = shown_to_operators(supervisor, self._config, self._host, self._log)
                with shown, systemd.Watchdog().pinging(asyncio.get_running_loop()):
                    clients, slow, seconds = await supervisor.serve(
                        sockets, run.stop, functools.partial(self._announce_workers, run, count)
                    )
            finally:
                run.supervisor = None
                sockets.close()
            summary = ShutdownSummary(clients, slow, sockets.label, seconds)
            self._log.info("%s", summary, extra=FILE_ONLY)
            return summary

        with event_loop.standard_policy():
            return self._run_until_signal(serve, asyncio.new_event_loop)

    def _announce_workers(self, run: ServerRun, count: int) -> None:
        self._log.info("listening on %s with %d workers", run.url, count, extra=FILE_ONLY)
        self._print_url(run, count)

    def _work(self, assigned: assignment.Assignment, lifespan: Lifespan | None, *arguments: Any) -> None:
        """Serve as a worker. The arguments are those of :meth:`start`."""
        from zcli_core.websocket.workers.sockets import with_sockets
        from zcli_core.websocket.workers.worker import Worker

        worker = Worker(assigned, self.metrics, self._config.websocket)
        summary = None
        try:
            with worker.reporting_failure():
                worker_count(self._config)
                setup, callbacks = self._check(*arguments)
                setup = with_sockets(setup, worker.sockets)
                serve = _within(lifespan, functools.partial(self._serve, setup, callbacks, *self._plugins))
                summary = self._run_until_signal(lambda run: worker.attend(run, serve(run, worker.begin)))
        finally:
            worker.ended(summary)

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
            sessions = self._make_sessions(callbacks)
            link = sessions.link
            if link is not None:
                await self._links.begin(link)
            try:
                ask = make_ask(self._config, self._host, self._log, self)
                if run.may_accept is not None and not await run.may_accept():
                    if link is not None:
                        await link.close()
                    return ShutdownSummary(0, 0, None, 0.0)
                server = await open_server(self._config, setup, transport, strategies, sessions, self._log, ask)
            except BaseException:
                if link is not None:
                    await link.close()
                raise
            run.thread = threading.current_thread()
            run.url = server.url
            run.server = server
            self._add_server(server)
            single = SingleServer(self._config, server, self.metrics)
            # Operators see the server until its last client is gone.
            with contextlib.ExitStack() as shown:
                try:
                    if assignment.worker_number() is None:  # the supervisor stands for its workers
                        shown.enter_context(shown_to_operators(single, self._config, self._host, self._log))
                    shown.enter_context(systemd.Watchdog().pinging(server.loop))
                    self._log.info("listening on %s", run.url, extra=FILE_ONLY)
                    announce(run)
                    systemd.notify_ready(f"listening on {run.url}")
                    await run.stop.wait()
                finally:
                    systemd.notify_stopping("closing all clients")
                    try:
                        summary = await server.shut_down()
                    except BaseException:
                        server.abort()
                        raise
                    finally:
                        run.server = None
                        self._remove_server(server)
                    self._log.info("%s", summary, extra=FILE_ONLY)
            return summary

    def _make_sessions(self, callbacks: Callbacks) -> Sessions:
        """Make the object that holds the clients of one run, in its event loop."""
        client_level = logging.INFO if self._config.deployment == "Development" else logging.DEBUG
        observers = self._observers()
        rooms = self._make_rooms(observers)
        sessions = Sessions(self._config.websocket, callbacks, observers, self._log, client_level, rooms)
        sessions.attach(self._links.make_server_link(rooms.process, sessions.bridge))
        return sessions

    def _observers(self) -> Observers:
        context = Context(self._config, self._log)
        opened = self._host.notifier("zcli_websocket_opened", self._log)
        closed = self._host.notifier("zcli_websocket_closed", self._log)
        joined = self._host.notifier("zcli_websocket_joined", self._log)
        left = self._host.notifier("zcli_websocket_left", self._log)
        return Observers(
            opened and (lambda connection: opened(connection, context)),
            closed and (lambda connection, code, reason: closed(connection, code, reason, context)),
            joined and (lambda connection, room: joined(connection, room, context)),
            left and (lambda connection, room: left(connection, room, context)),
        )

    def _make_rooms(self, observers: Observers) -> Rooms:
        limit_text = f"websocket.max_rooms ({self._config.explain('websocket.max_rooms').origin})"
        return Rooms(self._config.websocket.max_rooms, limit_text, observers.joined, observers.left)

    def _add_server(self, server: ServerCore) -> None:
        with self._lock:
            self._servers = (*self._servers, server)
        self._totals.begin(server.sessions.counters)

    def _remove_server(self, server: ServerCore) -> None:
        with self._lock:
            self._servers = tuple(each for each in self._servers if each is not server)
        self._totals.end(server.sessions.counters)

    def _print_url(self, run: ServerRun, workers: int = 1) -> None:
        settings = self._config.websocket
        auth = f"auth: {', '.join(settings.auth)}" if settings.require_auth else "no auth"
        shown = f"{auth}, {workers} workers" if workers > 1 else auth
        print_line(f"[WebSocket] listening on {run.url} ({shown}); Ctrl+C stops it")


def _within(lifespan: Lifespan | None, serve: _Serve) -> _Serve:
    """Return a function that serves inside the lifespan."""
    if lifespan is None:
        return serve

    async def serve_within(run: ServerRun, announce: _Announce) -> ShutdownSummary:
        async with lifespan():
            return await serve(run, announce)

    return serve_within


async def _then(coroutine: Coroutine[Any, Any, _T], function: Callable[[], None]) -> _T:
    """Await a coroutine, and then call a function, before anything else happens."""
    result = await coroutine
    function()
    return result


def _check_topic(topic: object) -> None:
    if not isinstance(topic, str):
        raise TypeError(f"topic must be a string, got {type(topic).__name__}")


def _expect_no_handler(name: str, given: object) -> None:
    """Raise TypeError if the handler was given in the place of another argument."""
    if callable(given) or isinstance(given, Mapping):
        shown = getattr(given, "__name__", None) or "..."
        raise TypeError(f"{name} must not be a handler, got {type(given).__name__} {shown}; pass it as handler={shown}")


async def _result(future: Future[_T]) -> _T:
    """Return the result of a future that another thread may set. Lets the event loop run also if it is set already."""
    if not future.done():
        return await asyncio.wrap_future(future)
    await asyncio.sleep(0)
    return future.result()


def _finished(result: _T) -> Future[_T]:
    future: Future[_T] = Future()
    future.set_result(result)
    return future
