"""One run of the server, from the call of ``start()`` to its end, and the handle of a run in the background."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING

from zcli_core.websocket.event_loop import StopEvent

if TYPE_CHECKING:
    from zcli_core.websocket.running_server import RunningServer
    from zcli_core.websocket.server_core import ServerCore
    from zcli_core.websocket.signals import StopOnSigterm


class ServerRun:
    """The state of one run, which other threads may read."""

    def __init__(self) -> None:
        self.stop = StopEvent()
        self.finished = threading.Event()
        #: The thread whose event loop serves.
        self.thread = threading.current_thread()
        #: The server while it listens; None before and after.
        self.server: ServerCore | None = None
        self.url: str | None = None
        #: The supervisor while its workers serve; None in a process that serves itself.
        self.supervisor: RunningServer | None = None
        #: In a worker: tells the supervisor that the script asks for the end of the server. Called in the event loop.
        self.tell_supervisor: Callable[[], None] | None = None
        #: In a worker: waits until it may accept clients. Returns False if it should stop instead.
        self.may_accept: Callable[[], Awaitable[bool]] | None = None

    @property
    def listens(self) -> bool:
        """Whether clients can connect."""
        return self.server is not None or self.supervisor is not None

    def request_stop(self) -> None:
        """Ask the server to stop; in a worker, the whole server."""
        if self.tell_supervisor is not None:
            self.stop.call_soon(self.tell_supervisor)
        self.stop.request()

    def abort(self) -> None:
        """Close every connection at once, if the server listens. Call it in the event loop's thread."""
        if self.server is not None:
            self.server.abort()


class BackgroundServer:
    """The handle of a server in the background, which is stopped at the end of a ``with`` block.

    Attributes:
        url: Where it listens, as in ``"ws://127.0.0.1:8765"``.
        port: Its port, or None on a Unix socket.
    """

    def __init__(self, run: ServerRun, stop: Callable[[], bool], on_sigterm: StopOnSigterm | None = None) -> None:
        self._run = run
        self._stop = stop
        self._on_sigterm = on_sigterm
        self.url = run.url or ""
        port = self.url.rpartition(":")[2]
        self.port = int(port) if port.isdigit() else None

    def stop(self) -> bool:
        """Close all clients, release the port and wait for the end. Returns whether the server has ended."""
        if self._on_sigterm is not None:
            self._on_sigterm.end()
        return self._run.finished.is_set() or self._stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended, at most ``timeout`` seconds. Returns whether it has."""
        return self._run.finished.wait(timeout)

    def __enter__(self) -> BackgroundServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<BackgroundServer {self.url} {'ended' if self._run.finished.is_set() else 'running'}>"
