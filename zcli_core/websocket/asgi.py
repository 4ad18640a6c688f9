"""The server as an ASGI application, for programs in which an ASGI server owns the connections."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from zcli_core.log import FILE_ONLY
from zcli_core.websocket.log_limit import limited_log

if TYPE_CHECKING:
    from zcli_core.websocket.parts.asgi_connection import Receive
    from zcli_core.websocket.parts.asgi_listener import AsgiListener
    from zcli_core.websocket.parts.asgi_request import Scope
    from zcli_core.websocket.parts.asgi_sender import Send
    from zcli_core.websocket.server_core import ServerCore

#: What is entered before a server listens, and left after its last client is gone.
Lifespan = Callable[[], AbstractAsyncContextManager[Any]]

#: Makes the parts of a run in the running event loop.
OpenCore = Callable[[], "tuple[ServerCore, AsgiListener]"]


class AsgiApp:
    """An ASGI 3 application that serves WebSockets, as ``z.comm.websocket.asgi()`` returns it.

    It answers the scope types ``websocket``, ``http`` and ``lifespan``. Frameworks do not pass ``lifespan`` on to what
    is mounted in them, so a run begins with the first request of an event loop at the latest. It ends with
    ``lifespan.shutdown``, with ``z.comm.websocket.stop()``, or with the event loop.
    """

    def __init__(
        self,
        open_core: OpenCore,
        ready: Callable[[ServerCore], Awaitable[None]],
        opened: Callable[[AsgiRun], None],
        ended: Callable[[AsgiRun], None],
        log: logging.Logger,
        lifespan: Lifespan | None = None,
    ) -> None:
        """Make an application without a run.

        Args:
            open_core: Makes the parts of a run.
            ready: Waits until a run may serve, or raises. It is called for ``lifespan.startup`` only.
            opened: Called when a run has begun, in any thread.
            ended: Called when it has ended.
            log: The application's log.
            lifespan: What each run enters before its first client, and leaves after the last one.
        """
        self._open_core = open_core
        self._lifespan = lifespan
        self._ready = ready
        self._opened = opened
        self._ended = ended
        self._log = log
        self._lock = threading.Lock()
        self._runs: dict[asyncio.AbstractEventLoop, AsgiRun] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one scope (ASGI)."""
        kind = scope["type"]
        if kind == "websocket":
            await (await self._started_run()).listener.websocket(scope, receive, send)
        elif kind == "http":
            await (await self._started_run()).listener.http(scope, send)
        elif kind == "lifespan":
            await self._handle_lifespan(receive, send)
        else:
            raise ValueError(f"the scope type must be websocket, http or lifespan, got {kind!r}")

    async def _started_run(self) -> AsgiRun:
        run = self._run()
        if run.starting is not None:
            await asyncio.shield(run.starting)
        return run

    async def _handle_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        run: AsgiRun | None = None
        try:
            run = self._run(restart=True)
            if run.starting is not None:
                await asyncio.shield(run.starting)
            await self._ready(run.core)
        except Exception as error:  # noqa: BLE001 - the server gets it
            self._log.exception("the ASGI application cannot start")
            if run is not None:
                await run.stop()
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await run.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _run(self, restart: bool = False) -> AsgiRun:
        """Return the run of the running event loop, which begins now if there is none.

        Args:
            restart: Whether a new run begins if the last one was stopped; otherwise that one refuses all clients.
        """
        loop = asyncio.get_running_loop()
        run = self._runs.get(loop)
        if run is None or (restart and run.stopping):
            with self._lock:
                self._forget_closed_loops()
                run = self._runs[loop] = AsgiRun(self)
        return run

    def _forget_closed_loops(self) -> None:
        """Forget the runs of event loops that were closed without cancelling their tasks."""
        for loop in [loop for loop in self._runs if loop.is_closed()]:
            self._runs.pop(loop).end()


class AsgiRun:
    """The run of an application in one event loop."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.core, self.listener = app._open_core()
        #: The thread that runs the event loop.
        self.thread = threading.current_thread()
        self.finished = threading.Event()
        self._stop = asyncio.Event()
        #: Done when the lifespan is entered, or with the error that this raised; None without a lifespan.
        self.starting: asyncio.Future[None] | None = None if app._lifespan is None else self.core.loop.create_future()
        # The task must not keep the context of the first request.
        task: Any = contextvars.Context().run(self.core.loop.create_task, self._serve())
        self._task: asyncio.Task[None] = task
        # An event loop that is closed without cancelling its tasks ends this run too, so that needs no warning.
        task._log_destroy_pending = False
        app._opened(self)

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stop.is_set()

    @property
    def is_alive(self) -> bool:
        """Whether its event loop runs, so that it can do something."""
        return self.core.loop.is_running() and not self.finished.is_set()

    async def _serve(self) -> None:
        """Wait for the end of the run, and shut down."""
        with limited_log(self._app._log, self.core.loop):
            try:
                if self._app._lifespan is None or self.starting is None:
                    await self._serve_clients()
                else:
                    await self._serve_within(self._app._lifespan, self.starting)
            finally:
                self.end()

    async def _serve_within(self, lifespan: Lifespan, starting: asyncio.Future[None]) -> None:
        try:
            async with lifespan():
                starting.set_result(None)
                await self._serve_clients()
        except BaseException as error:
            self._stop.set()
            if starting.done():
                raise
            starting.set_exception(error)
            starting.exception()  # the log has it even if no client waits for it
            self._app._log.error("the ASGI application cannot serve", exc_info=error)
            await self.core.shut_down()

    async def _serve_clients(self) -> None:
        try:
            await self._stop.wait()
        except asyncio.CancelledError:
            self._stop.set()  # the event loop is about to be closed
        summary = await self.core.shut_down()
        self._app._log.info("%s", summary, extra=FILE_ONLY)

    def request_stop(self) -> None:
        """Ask the run to shut down, in any thread."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self.core.loop.call_soon_threadsafe(self._stop.set)

    async def stop(self) -> None:
        """Shut down and wait for the end, in the event loop of the run."""
        self._stop.set()
        await asyncio.shield(self._task)

    def end(self) -> None:
        """Note that the run has ended, or that its event loop is closed."""
        self.finished.set()
        self._app._ended(self)
