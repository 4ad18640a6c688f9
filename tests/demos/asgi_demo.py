"""A demo of level 2 as an ASGI application: ``LEVEL_2_DEMO=2_websocket_echo.py uvicorn asgi_demo:app``.

The script runs unchanged. Only its last call, ``z.comm.websocket.start(...)``, makes an application of its handlers.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from zcli_core.websocket.facade import WebSocketServer

FOLDER = Path(__file__).resolve().parents[2] / "Demos" / "Layer_0" / "zComm_Demo" / "lvl2_websocket"


def application(demo: str) -> Any:
    """Run a demo and return the application that has its handlers."""
    made = []

    def start(server: WebSocketServer, **handlers: Any) -> None:
        made.append(server.asgi(**handlers))

    sys.path.insert(0, str(FOLDER))  # as a script has its folder
    try:
        with patch.object(WebSocketServer, "start", start):
            runpy.run_path(str(FOLDER / demo))
    finally:
        sys.path.remove(str(FOLDER))
    return made[0]


if "LEVEL_2_DEMO" in os.environ:
    app = application(os.environ["LEVEL_2_DEMO"])
