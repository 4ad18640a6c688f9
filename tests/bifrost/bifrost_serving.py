"""zBifrost served in the background, and a client of it, for tests."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from websockets.sync.client import ClientConnection, connect

sys.path.append(str(Path(__file__).parents[1] / "websocket"))

from websocket_serving import DEADLINE, eventually

from zcli_core.app import zCLI
from zcli_core.websocket.server_run import BackgroundServer


class Browser:
    """A client that sends requests, as ``bifrost.js`` does."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        #: What the server said after connecting.
        self.info = self.receive()

    def send(self, event: str, request_id: Any = None, **data: Any) -> None:
        """Send a request, and do not wait for its answer."""
        message = {"event": event, **data} if request_id is None else {"event": event, "_requestId": request_id, **data}
        self.connection.send(json.dumps(message))

    def receive(self) -> dict[str, Any]:
        """Return the next message."""
        found: dict[str, Any] = json.loads(self.connection.recv(timeout=DEADLINE))
        return found

    def ask(self, event: str, request_id: Any = 1, **data: Any) -> dict[str, Any]:
        """Return the response to a request, without its id."""
        self.send(event, request_id, **data)
        answer = self.receive()
        assert answer.pop("_requestId") == request_id
        return answer


class Served(NamedTuple):
    """A server that runs in the background."""

    z: zCLI
    handle: BackgroundServer

    @property
    def port(self) -> int:
        assert self.handle.port is not None
        return self.handle.port

    @contextlib.contextmanager
    def browser(self, query: str = "", **options: Any) -> Iterator[Browser]:
        """Connect a client, and wait for the greeting."""
        with connect(self.handle.url + query, proxy=None, open_timeout=DEADLINE, **options) as connection:
            yield Browser(connection)

    def log(self) -> str:
        """Return the whole log."""
        assert self.z.log_file is not None
        return Path(self.z.log_file).read_text(encoding="utf-8")

    def logged(self, text: str) -> str:
        """Wait until the log has a text, and return the log."""
        eventually(lambda: text in self.log(), f"{text!r} in the log")
        return self.log()


def clients_of(z: zCLI) -> list[Any]:
    """Return the clients that zBifrost keeps."""
    return [client for run in z.bifrost._runs.values() for client in run.clients]  # type: ignore[attr-defined]  # not in the protocol
