"""The server of a process without workers, as operators and exporters of metrics see it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from zcli_core.log import application_title
from zcli_core.system.trusted import script_file
from zcli_core.websocket.running_server import RESTART_REASONS

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.types import ServerMetrics, ServerStatus, WebSocketMetrics, WorkerStatus
    from zcli_core.websocket.server_core import ServerCore


class SingleServer:
    """Implements :class:`zcli_core.websocket.running_server.RunningServer` for the server of this process."""

    def __init__(self, config: Config, core: ServerCore, metrics: Callable[[], WebSocketMetrics]) -> None:
        """Describe a server that has just started.

        Args:
            config: The configuration of the server.
            core: The server.
            metrics: Returns what the ``zCLI`` object of the server counts.
        """
        self._config = config
        self._core = core
        self._metrics = metrics
        self._began = time.monotonic()

    def metrics(self) -> ServerMetrics:
        """Return what the server counts."""
        total = self._metrics()
        return {"total": total, "workers": {1: total}, "restarts": dict.fromkeys(RESTART_REASONS, 0)}

    def status(self) -> ServerStatus:
        """Return the state of the server."""
        worker = self._worker()
        return {
            "title": application_title(self._config.title, script_file()),
            "pid": worker["pid"],
            "url": self._core.url or "",
            "uptime": worker["uptime"],
            "clients": worker["clients"],
            "backplane": self._config.websocket.backplane,
            "workers": [worker],
            "restarts": dict.fromkeys(RESTART_REASONS, 0),
        }

    def _worker(self) -> WorkerStatus:
        sessions = self._core.sessions
        return {
            "number": 1,
            "pid": os.getpid(),
            "state": "draining" if self._core.is_draining else "ready",
            "uptime": time.monotonic() - self._began,
            "clients": len(sessions.clients),
            "rooms": len(sessions.rooms.counts()),
            "not_ready": self._core.readiness(),
        }

    def reload(self) -> None:
        """Raise RuntimeError: one process cannot be replaced while it serves."""
        raise RuntimeError(
            "cannot reload: the server has no workers; start it with websocket.workers set to 2 or more, or to auto"
        )
