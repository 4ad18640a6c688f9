"""``zCLI`` objects on one real engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# The servers and clients of the tests of the WebSocket server.
sys.path.append(str(Path(__file__).parents[1] / "websocket"))

from engine_processes import ENGINES
from websocket_serving import Served

from zcli_core.app import zCLI
from zcli_core.testing import EngineProcess

TOKENS = {"ann": "the-token-of-ann-1", "bob": "the-token-of-bob-1"}


class Linked:
    """``zCLI`` objects on one engine."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.engine: EngineProcess = ENGINES[name]()
        self._folder = folder
        self._made: list[zCLI] = []

    def make(self, port: int | None = None, websocket: Any = None, **backplane: Any) -> zCLI:
        """Make an object, which does not serve yet."""
        engine = self.engine.settings(port or self.engine.port)
        z = zCLI(
            {
                "deployment": "Production",
                "logger": "PROD",
                "logger_path": str(self._folder / "logs"),
                "title": f"linked-{len(self._made)}",
                "websocket": {"backplane": self.name, **(websocket or {})},
                "backplane": {"timeout": 5, **engine["backplane"], **backplane},
            }
        )
        self._made.append(z)
        return z

    def serve(self, handler: Any = None, *, auth: bool = False, on_connect: Any = None, **settings: Any) -> Served:
        """Serve in the background."""
        websocket = {"require_auth": True, "tokens": TOKENS} if auth else {}
        z = self.make(websocket=websocket, **settings)
        handle = z.comm.websocket.start_background(port=0, handler=handler, on_connect=on_connect)
        return Served(z, handle)

    def end(self) -> None:
        self.engine.thaw()
        for z in self._made:
            z.close()
        self.engine.end()
