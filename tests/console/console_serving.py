"""Servers with a console, and what their port responds to plain HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from zcli_core.app import zCLI

TOKEN = "a-token-for-the-console"
TIMEOUT = 20.0  # seconds


class ConsoleServer:
    """A zCLI server that sends messages back, and joins rooms: ``join NAME``."""

    def __init__(self, folder: Path, zspark: dict[str, Any]) -> None:
        quiet = {"logger": "PROD", "logger_path": str(folder), "title": "Tea & cake"}
        websocket = {"max_refusal_delay": 0, "drain_timeout": 0.2, **zspark.pop("websocket", {})}
        self.z = zCLI({**quiet, **zspark, "websocket": websocket})
        self.handle = self.z.comm.websocket.start_background(handler=_echo, port=0)

    @property
    def port(self) -> int:
        assert self.handle.port is not None
        return self.handle.port

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, str]:
        """Return the response to a GET request, and its body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response, body

    def state(self, query: str = "", **headers: str) -> Any:
        """Return the state that the console shows, or the status of its refusal."""
        response, body = self.get(f"/console/state{query}", **headers)
        return json.loads(body) if response.status == 200 else response.status

    @contextmanager
    def client(self, *messages: str, **options: Any) -> Iterator[ClientConnection]:
        """A client that has sent some messages and got them back."""
        with connect(self.handle.url, proxy=None, open_timeout=TIMEOUT, **options) as client:
            for message in messages:
                client.send(message)
                client.recv(timeout=TIMEOUT)
            yield client


async def _echo(websocket: Any, message: str) -> None:
    if message.startswith("join "):
        await websocket.join(message.removeprefix("join "))
    if message == "flood":
        for number in range(10_000):
            await websocket.send(f'{{"number": {number}}}')
    await websocket.send(message)


Serve = Callable[..., ConsoleServer]
