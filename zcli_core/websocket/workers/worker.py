"""This process as a worker: serves the sockets of the supervisor, reports to it, and does what it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import BackplaneFailure, ConfigError, ListenError
from zcli_core.system.forks import call_after_fork
from zcli_core.websocket.addresses import Network
from zcli_core.websocket.workers.channel import Channel, Message, send_blocking
from zcli_core.websocket.workers.supervisor import tick_interval, time_to_end

if TYPE_CHECKING:
    from zcli_core.config.sections import WebSocket
    from zcli_core.types import WebSocketMetrics
    from zcli_core.websocket.server_core import ServerCore, ShutdownSummary
    from zcli_core.websocket.server_run import ServerRun
    from zcli_core.websocket.workers.assignment import Assignment

_T = TypeVar("_T")

#: Exit status of a worker whose start() has failed.
_FAILED = 1


class Worker:
    """A worker's side of the socket pair."""

    def __init__(self, assigned: Assignment, metrics: Callable[[], WebSocketMetrics], settings: WebSocket) -> None:
        """Take over the descriptors.

        Args:
            assigned: What the supervisor has told this process.
            metrics: Returns what the server counts.
            settings: The timeouts.
        """
        self.sockets = tuple(socket.socket(fileno=descriptor) for descriptor in assigned.sockets)
        self._sock = socket.socket(fileno=assigned.channel)
        self._stderr = assigned.stderr
        self._others = assigned.workers - 1
        self._metrics = metrics
        self._interval = tick_interval(settings.worker_timeout)
        self._channel: Channel | None = None
        self._server: ServerCore | None = None
        #: Messages that came before the server.
        self._early: list[Message] = []
        self._tick: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None
        time_limit = sum(time_to_end(settings))
        threading.Thread(target=self._end_after_supervisor, args=(time_limit,), name="zcli-worker", daemon=True).start()
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Close what belongs to the parent, so that its end is noticed.

        The objects stay as they are, because uvloop keeps sockets open, and would close their numbers again.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for sock in (self._sock, *self.sockets):
            if sock.fileno() >= 0:
                os.dup2(null, sock.fileno(), inheritable=False)
        os.close(null)

    def _end_after_supervisor(self, seconds: float) -> None:
        """End this process so many seconds after the supervisor, because its event loop may be blocked."""
        ended = select.poll()
        ended.register(self._sock, 0)  # Linux reports the end of the other side in any case
        ended.poll()
        time.sleep(seconds)
        os._exit(_FAILED)

    # --- before and after the event loop ---

    @contextlib.contextmanager
    def reporting_failure(self) -> Iterator[None]:
        """Report an error of ``start()`` to the supervisor, which raises or logs it, and end the process.

        Raises:
            SystemExit: There was an error that the script may expect. Any other error is raised as it is.
        """
        try:
            yield
        except (ConfigError, ListenError, BackplaneFailure) as error:
            arguments: list[Any] = [*error.problems] if isinstance(error, ConfigError) else []
            if isinstance(error, BackplaneFailure):
                arguments = [error.kind]
            send_blocking(
                self._sock,
                {"kind": "failed", "type": type(error).__name__, "text": str(error), "arguments": arguments},
            )
            raise SystemExit(_FAILED) from None

    def ended(self, summary: ShutdownSummary | None) -> None:
        """Report that ``start()`` has ended; ``summary`` is None if it was interrupted."""
        clients = 0 if summary is None else summary.clients
        send_blocking(self._sock, {"kind": "ended", "clients": clients, **self._report([])})

    # --- while it serves ---

    async def _may_accept(self) -> bool:
        """Report that all is prepared, and wait until the supervisor lets this worker accept clients.

        Otherwise the clients of a new worker would be closed when another new worker fails and so the whole reload.

        Returns:
            False if the server should stop instead.
        """
        run = self._run
        self._accept = asyncio.Event()
        self._channel = Channel(self._sock, self._received, run.stop.request)
        self._send(kind="prepared")
        waiting = [asyncio.ensure_future(self._accept.wait()), asyncio.ensure_future(run.stop.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        return self._accept.is_set()

    def begin(self, run: ServerRun) -> None:
        """Report that the server accepts, and do what the supervisor says from now on. Call it in the event loop."""
        server = run.server
        assert server is not None
        self._server = server
        self._loop = asyncio.get_running_loop()
        run.tell_supervisor = self._ask_for_stop
        server.gate.throttle.share(
            lambda networks: self._send(kind="wrong credential", networks=networks), self._others
        )
        self._use_own_stderr()
        self._send(kind="ready", **self._report(server.readiness()))
        self._report_regularly()
        for message in self._early:
            self._received(message)
        self._early = []

    async def attend(self, run: ServerRun, serving: Coroutine[Any, Any, _T]) -> _T:
        """Run the coroutine that serves, and which calls :meth:`begin`; report no more when it has ended."""
        self._run = run
        run.may_accept = self._may_accept
        try:
            return await serving
        finally:
            if self._tick is not None:
                self._tick.cancel()
            if self._channel is not None:
                self._channel.close()

    def _use_own_stderr(self) -> None:
        """Write to the supervisor's stderr from now on, instead of the pipe to the supervisor."""
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
        os.dup2(self._stderr, 2)
        os.close(self._stderr)

    def _send(self, **message: Any) -> bool:
        return self._channel is not None and self._channel.send(message)

    def _ask_for_stop(self) -> None:
        self._send(kind="stop")

    def _report(self, not_ready: list[str]) -> Message:
        return {"metrics": self._metrics(), "not_ready": not_ready}

    def _report_regularly(self) -> None:
        assert self._server is not None
        self._send(kind="tick", **self._report(self._server.readiness()))
        self._tick = self._loop.call_later(self._interval, self._report_regularly)

    def _received(self, message: Message) -> None:
        """Do what the supervisor says."""
        kind = message.get("kind")
        if kind == "stop":
            self._run.stop.request()
        elif kind == "accept":
            self._accept.set()
        elif self._server is None:
            self._early.append(message)
        elif kind == "ask":
            self._send(kind="report", question=message.get("question"), **self._report(self._server.readiness()))
        elif kind == "stop accepting":
            self._leaving = self._loop.create_task(self._stop_accepting(self._server))
        elif kind == "leave":
            self._leaving = self._loop.create_task(self._leave(self._server, float(message.get("seconds", 0.0))))
        elif kind == "wrong credential":
            self._server.gate.throttle.failed_elsewhere(_networks(message))
        elif kind == "relayed":
            self._server.gate.throttle.settled(_networks(message))

    async def _stop_accepting(self, server: ServerCore) -> None:
        server.listener.close_sockets()
        await asyncio.sleep(0)  # a connection whose socket was just accepted is counted now
        self._send(kind="stopped accepting")

    async def _leave(self, server: ServerCore, seconds: float) -> None:
        """Close the clients one by one, and then stop."""
        await server.leave(seconds)
        self._run.stop.request()


def _networks(message: Message) -> tuple[Network, ...]:
    return tuple(Network(str(key), int(share)) for key, share in message.get("networks", ()))
