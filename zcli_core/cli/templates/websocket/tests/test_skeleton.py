"""How many messages a client may send."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zCLI import zCLI
from zcli_core.testing.websocket.client import Client, upgrade_request
from zcli_core.testing.websocket.frames import CLOSE, frame

TEXT = 0x1


async def echo(websocket: Any, message: str | bytes) -> None:
    """Send every message back."""
    await websocket.send(message)


@contextmanager
def connected(folder: Path, **limit: float) -> Iterator[Client]:
    """A client of a server that uses the transport."""
    settings = {
        "deployment": "Production",
        "logger_path": str(folder),
        "websocket": {"transport": "skeleton", "port": 0},
        "skeleton": limit,
    }
    with zCLI(settings) as z:
        port = z.comm.websocket.start_background(handler=echo).port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), 10) as sock, Client(sock, upgrade_request()) as client:
            yield client


def test_message_over_the_limit_closes(tmp_path: Path) -> None:
    """The close reason names the limit, and further messages are not handled."""
    with connected(tmp_path, messages_per_second=3) as client:
        client.send(*[frame(TEXT, b"hello")] * 100, frame(CLOSE, b""))
        before, code, reason = client.ending()
    assert len(before) < 100
    assert (code, reason) == (1008, "more than 3 messages in a second")


def test_no_limit_by_default(tmp_path: Path) -> None:
    """Without the setting, all messages are handled."""
    with connected(tmp_path) as client:
        assert all(client.echo(b"hello") == b"hello" for _ in range(100))
