"""``z.comm.websocket``: starting, stopping and speaking to a WebSocket server, from any thread, without asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.errors import ConnectionClosed
from zcli_core.plugins.contract import Context
from zcli_core.system.forks import call_after_fork
from zcli_core.websocket import console, systemd
from zcli_core.websocket import event_loop as runner
from zcli_core.websocket.background import BackgroundServer
from zcli_core.websocket.blocking import BlockingConnection, unwrapped
from zcli_core.websocket.callbacks import Callbacks, ConnectionCallback, Handler, make_callbacks
from zcli_core.websocket.client_info import ClientAuth
from zcli_core.websocket.client_limits import ClientLimits
from zcli_core.websocket.connection import ServerConnection, as_message
from zcli_core.websocket.gate import Gate, Occupancy
from zcli_core.websocket.listening import (
    explain,
    make_way,
    one_port_for_all,
    shown_endpoint,
    with_passed_sockets,
)
from zcli_core.websocket.log_limit import limited_log
from zcli_core.websocket.paths import make_path_callbacks
from zcli_core.websocket.server_core import Observers, Report, RunningServer
from zcli_core.websocket.setup import Parts, Plan, make_parts, make_plan, make_rules, warn_if_open
from zcli_core.websocket.threads import HandlerThreads

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.host import PluginHost
    from zcli_core.websocket.contract import Endpoint, Message

#: A client as a handler knows it, whichever kind of handler it is.
Client = ServerConnection | BlockingConnection

#: The default of ``to``: all clients. None is an error, because a script that looks for a client and finds None must
#: not send to all.
_ALL: Any = object()

#: Seconds that stop() waits, besides drain_timeout and close_timeout, for a loop that somebody blocks.
_PATIENCE = 5.0


class Run:
    """One run of the server, from the call of ``start()`` until it returns."""

    def __init__(self) -> None:
        self.stop = runner.Stop()
        self.finished = threading.Event()
        #: The thread whose loop serves.
        self.thread = threading.current_thread()
        self.server: RunningServer | None = None
        self.url: str | None = None

    def drop(self) -> None:
        """Let go of everything at once."""
        if self.server is not None:
            self.server.drop_everything()


class _Order(NamedTuple):
    """What ``start()`` was asked for, checked."""

    parts: Parts
    plan: Plan
    callbacks: Callbacks


class WebSocketServer:
    """The WebSocket server of one ``zCLI`` object; it runs at most once at a time.

    Every method may be called from any thread.
    """

    def __init__(self, config: Config, host: PluginHost, log: logging.Logger) -> None:
        self._config = config
        self._host = host
        self._log = log
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._threads = HandlerThreads("zcli-websocket-handler")
        #: ``auth.get_client_info(websocket)`` tells as whom a client was let in.
        self.auth = ClientAuth()
        call_after_fork(self)

    def after_fork(self) -> None:
        """Let go of the parent's server: it runs in a thread that the child does not have, and is not the child's."""
        self._lock = threading.Lock()
        run, self._run = self._run, None
        if run is not None:
            run.server = run.url = None
            run.stop = runner.Stop()
            run.finished = threading.Event()
            run.finished.set()

    # --- starting ---

    def start(
        self,
        host: str | None = None,
        port: int | None = None,
        handler: Handler | Mapping[str, Handler] | None = None,
        *,
        on_connect: ConnectionCallback | None = None,
        on_disconnect: ConnectionCallback | None = None,
    ) -> None:
        """Serve until Ctrl+C, SIGTERM or :meth:`stop`; then close every client, release the port and return.

        ``host`` and ``port`` are ``websocket.host`` and ``websocket.port`` unless given; port 0 picks a free one.
        Where it listens and how it ended is printed. A second Ctrl+C ends at once.

        ``handler(websocket, message)`` is called for every message, those of one client in order and one at a time;
        without it, messages are sent back. It may be a mapping of paths to such functions, ``{"/chat": chat}``; other
        paths are refused then. ``on_connect(websocket)`` is called before a client's first message,
        ``on_disconnect(websocket)`` once it is gone. Each may be ``async def`` or plain; a plain one runs in a thread
        and may block.

        Raises ConfigError if the settings cannot be used, ListenError if the port is not to be had, ValueError for a
        port or host that is none, TypeError for a function that cannot be called like that, RuntimeError if the
        server runs already or inside an event loop, which it would block. The port is opened last.

        Under systemd, ``host`` and ``port`` are those of the sockets that it passes on (``LISTEN_FDS``), unless they
        are given, and it is told when the server is ready (``NOTIFY_SOCKET``).
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "start() blocks, so it cannot be called inside a running event loop; "
                "use 'await z.comm.websocket.serve(...)' there, or z.comm.websocket.start_background(...)"
            )
        order = self._order(host, port, handler, on_connect, on_disconnect)
        factory = runner.loop_factory(self._config)
        with self._claimed() as run, runner.stopped_by_signals(run.stop, run.drop) as signals:
            report = None
            with contextlib.suppress(KeyboardInterrupt):
                report = runner.run(factory, self._serve(run, order, self._announce), run.drop, self._log)
        if report is None or signals.insisted:
            console.print_line("[WebSocket] interrupted: every connection was dropped")
        else:
            console.print_line(f"[WebSocket] {console.ending(report)}")

    async def serve(
        self,
        host: str | None = None,
        port: int | None = None,
        handler: Handler | Mapping[str, Handler] | None = None,
        *,
        on_connect: ConnectionCallback | None = None,
        on_disconnect: ConnectionCallback | None = None,
    ) -> None:
        """:meth:`start` as a coroutine, for those who have an event loop: prints nothing and leaves signals alone.

        Returns after :meth:`stop`. Cancelling it closes every client as well.
        """
        order = self._order(host, port, handler, on_connect, on_disconnect)
        with self._claimed() as run:
            await self._serve(run, order, lambda run: None)

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
        """:meth:`start` in a thread of its own: returns once the server listens, or raises what kept it from that.

        The handle knows ``url``, ``port`` and ``stop()``, and stops the server at the end of a ``with`` block.

        When the script ends, its clients are closed with 1001, as by :meth:`stop`. With ``stop_on_sigterm`` they are
        when the program gets SIGTERM, too, which then ends it as it would have. That takes over the signal's handling,
        so it is possible in the main thread only; RuntimeError elsewhere.
        """
        order = self._order(host, port, handler, on_connect, on_disconnect)
        factory = runner.loop_factory(self._config)
        on_sigterm = runner.StopOnSigterm(self.stop) if stop_on_sigterm else None
        started: Future[Run] = Future()

        def work() -> None:
            try:
                with self._claimed() as run:
                    runner.run(factory, self._serve(run, order, started.set_result), run.drop, self._log)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever started the thread
                if started.done():
                    self._log.error("the server has failed", exc_info=error)
                else:
                    started.set_exception(error)

        threading.Thread(target=work, name="zcli-websocket", daemon=True).start()
        try:
            return BackgroundServer(self, started.result(), on_sigterm)
        except BaseException:
            if on_sigterm is not None:
                on_sigterm.end()
            raise

    def stop(self, wait: bool = True) -> bool:
        """Close every client with 1001, release the port and end; whether that is done. Harmless if nothing runs.

        Handlers at work get ``websocket.drain_timeout`` seconds to finish before that. Waits for the end, except in
        the server's own thread or a handler's, which it would wait for.
        """
        run = self._run
        if run is None:
            return True
        run.stop.request()
        if not wait or self._threads.inside or run.thread is threading.current_thread():
            return run.finished.is_set()
        settings = self._config.websocket
        if run.finished.wait(settings.drain_timeout + settings.close_timeout + _PATIENCE):
            return True
        self._log.error("the server does not stop: something blocks its event loop")
        return False

    # --- what runs ---

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    @property
    def url(self) -> str | None:
        """Where it listens, as a client would write it: ``"ws://127.0.0.1:8765"``; None if it does not."""
        run = self._run
        return run.url if run else None

    @property
    def clients(self) -> tuple[ServerConnection, ...]:
        """The clients that are connected, in the order in which they came."""
        server = self._server
        return tuple(server.clients) if server else ()

    @property
    def client_count(self) -> int:
        """How many clients are connected."""
        server = self._server
        return len(server.clients) if server else 0

    @property
    def slow_client_count(self) -> int:
        """How many clients were dropped (1013) since the start because they read too slowly."""
        server = self._server
        return server.slow_clients if server else 0

    # --- speaking ---

    async def broadcast(
        self,
        message: Message,
        exclude: Client | Iterable[Client] | None = None,
        *,
        to: Client | Iterable[Client] = _ALL,
    ) -> int:
        """Send a message to every client, to some, or to all but some; returns to how many.

        The message is encoded once. No client is waited for: one that has left more than ``websocket.max_send_buffer``
        bytes unread is closed (1013). Works in any event loop; 0 if the server does not run.

        Args:
            exclude: a client, or several, who do not get the message.
            to: a client, or several, each of which gets the message once; an empty list sends it to no client. Without
                this argument every client gets it.

        Raises:
            TypeError: the message is not text or bytes, or ``to`` or ``exclude`` has something other than clients;
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
        """:meth:`broadcast` for threads: does not wait, not even for itself. ``result()`` gives the count."""
        message = as_message(message)
        chosen = None if to is _ALL else tuple(dict.fromkeys(_clients("to", to)))
        excluded = frozenset(() if exclude is None else _clients("exclude", exclude))
        server = self._server
        if server is None:
            return _finished(0)
        if asyncio._get_running_loop() is server.loop:
            return _finished(server.publish(message, chosen, excluded))
        posted = server.bridge.post(server.publish, message, chosen, excluded)
        return _finished(0) if posted.cancelled() else posted

    async def send(self, client: Client, message: Message) -> bool:
        """Send a message to one client, waiting while it reads too slowly; False if it has gone. In any event loop."""
        message = as_message(message)
        connection = _client(client)
        server = self._server
        try:
            if server is None or asyncio.get_running_loop() is server.loop:
                await connection.send(message)
            else:
                await asyncio.to_thread(connection.blocking.send, message)
        except ConnectionClosed:
            return False
        return True

    # --- inside ---

    @property
    def _server(self) -> RunningServer | None:
        run = self._run
        return run.server if run else None

    @functools.cached_property
    def _parts(self) -> Parts:
        return make_parts(self._config, self._host, self._threads, self._log)

    def _order(
        self,
        host: str | None,
        port: int | None,
        handler: Handler | Mapping[str, Handler] | None,
        on_connect: ConnectionCallback | None,
        on_disconnect: ConnectionCallback | None,
    ) -> _Order:
        _expect_no_handler("host", host)
        _expect_no_handler("port", port)
        if isinstance(handler, Mapping):
            callbacks = make_path_callbacks(handler, on_connect, on_disconnect, self._threads)
            paths = frozenset(handler)
        else:
            callbacks = make_callbacks(handler, on_connect, on_disconnect, self._threads)
            paths = None
        plan = make_plan(self._config, host, port, paths, self._log)
        return _Order(self._parts, plan, callbacks)

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[Run]:
        run = Run()
        with self._lock:
            if self._run is not None:
                raise RuntimeError(f"the server runs already{f' at {self.url}' if self.url else ''}; stop() it first")
            self._run = run
        try:
            yield run
        finally:
            with self._lock:
                self._run = None
            run.finished.set()

    async def _serve(self, run: Run, order: _Order, announce: Callable[[Run], None]) -> Report:
        """Listen, tell so, wait until somebody wants it to stop, and stop."""
        with limited_log(self._log, asyncio.get_running_loop()):
            return await self._serve_limited(run, order, announce)

    async def _serve_limited(self, run: Run, order: _Order, announce: Callable[[Run], None]) -> Report:
        endpoint = one_port_for_all(order.plan.endpoint)
        if order.plan.may_be_passed:
            endpoint = with_passed_sockets(endpoint)
        try:
            server = self._make_server(order, endpoint)
            warn_if_open(self._config, endpoint, self._log)
            if endpoint.unix_path is not None:
                make_way(endpoint.unix_path)
            server.listener = await order.parts.transport.listen(endpoint, server, order.plan.limits)
        except BaseException as error:
            for sock in endpoint.sockets:
                sock.close()
            if isinstance(error, OSError):
                raise explain(error, endpoint) from error
            raise
        if order.plan.renewal is not None:
            server.watch_certificate(order.plan.renewal)
        run.thread = threading.current_thread()
        run.url = shown_endpoint(endpoint, server.listener.addresses)
        run.server = server
        self._log.info("listening on %s", run.url, extra=console.FILE_ONLY)
        try:
            announce(run)
            systemd.notify("READY=1")
            await run.stop.wait()
        finally:
            systemd.notify("STOPPING=1")
            report = await server.shut_down()
            run.server = None
            self._log.info("%s", console.ending(report), extra=console.FILE_ONLY)
        return report

    def _make_server(self, order: _Order, endpoint: Endpoint) -> RunningServer:
        settings = self._config.websocket
        client_level = logging.INFO if self._config.deployment == "Development" else logging.DEBUG
        server = RunningServer(
            order.callbacks,
            self._observers(),
            settings.max_connections,
            settings.close_timeout,
            settings.drain_timeout,
            self._log,
            client_level,
        )
        server.limits = ClientLimits(settings, server.loop, self._log)
        server.gate = Gate(
            settings,
            make_rules(self._config, order.plan, endpoint),
            order.parts.strategies,
            Occupancy(server.has_room, server.limits.count_of),
            server.admit,
            self._log,
            server.loop,
        )
        return server

    def _observers(self) -> Observers:
        context = Context(self._config, self._log)
        opened = self._host.notifier("zcli_websocket_opened", self._log)
        closed = self._host.notifier("zcli_websocket_closed", self._log)
        return Observers(
            opened and (lambda connection: opened(connection, context)),
            closed and (lambda connection, code, reason: closed(connection, code, reason, context)),
        )

    def _announce(self, run: Run) -> None:
        settings = self._config.websocket
        auth = f"auth: {', '.join(settings.auth)}" if settings.require_auth else "no auth"
        console.print_line(f"[WebSocket] listening on {run.url} ({auth}); Ctrl+C stops it")


def _expect_no_handler(name: str, given: object) -> None:
    """Raise TypeError if the handler was given in the place of another argument."""
    if callable(given) or isinstance(given, Mapping):
        shown = getattr(given, "__name__", None) or "..."
        raise TypeError(f"{name} must not be a handler, got {type(given).__name__} {shown}; pass it as handler={shown}")


def _clients(argument: str, given: Client | Iterable[Client]) -> tuple[ServerConnection, ...]:
    if given is None:
        raise TypeError(f"{argument} must be a client or an iterable of clients, got None; leave it out to send to all")
    if isinstance(given, Iterable) and not isinstance(given, (BlockingConnection, str, bytes)):
        return tuple(_client(each, f"each item of {argument}") for each in given)
    return (_client(given, argument, "a client or an iterable of clients"),)


def _client(given: object, argument: str = "client", expected: str = "a client") -> ServerConnection:
    client = unwrapped(given)
    if not isinstance(client, ServerConnection):
        raise TypeError(f"{argument} must be {expected} (the connection that a handler gets), got {_shown(client)}")
    return client


def _shown(given: object) -> str:
    return "None" if given is None else type(given).__name__


def _finished(count: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(count)
    return future
