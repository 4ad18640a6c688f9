"""The handle of a server that runs in a thread of its own."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading


class _Run(Protocol):
    @property
    def url(self) -> str | None: ...

    @property
    def finished(self) -> threading.Event: ...


class _Stoppable(Protocol):
    def stop(self) -> bool: ...


class _OnSigterm(Protocol):
    def end(self) -> None: ...


class BackgroundServer:
    """A server in the background: ``url``, ``port``, ``stop()``; stopped at the end of a ``with`` block.

    ``port`` is None on a Unix socket.
    """

    def __init__(self, server: _Stoppable, run: _Run, on_sigterm: _OnSigterm | None = None) -> None:
        self._server = server
        self._run = run
        self._on_sigterm = on_sigterm
        self.url = run.url or ""
        port = self.url.rpartition(":")[2]
        self.port = int(port) if port.isdigit() else None

    def stop(self) -> bool:
        """Close every client, release the port and wait for the end; whether it has ended."""
        if self._on_sigterm is not None:
            self._on_sigterm.end()
        return self._run.finished.is_set() or self._server.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, at most ``timeout`` seconds; whether it has."""
        return self._run.finished.wait(timeout)

    def __enter__(self) -> BackgroundServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<BackgroundServer {self.url} {'ended' if self._run.finished.is_set() else 'running'}>"
