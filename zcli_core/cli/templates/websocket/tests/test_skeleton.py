"""What is Skeleton's own: how much a client may say."""

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


def test_one_message_over_the_limit_ends_the_connection(tmp_path: Path) -> None:
    """The client is told why, and most of what it sent is not answered."""
    with connected(tmp_path, messages_per_second=3) as client:
        client.send(*[frame(TEXT, b"hello")] * 100, frame(CLOSE, b""))
        before, code, reason = client.ending()
    assert len(before) < 100
    assert (code, reason) == (1008, "more than 3 messages in a second")


def test_without_a_limit_a_client_may_say_what_it_likes(tmp_path: Path) -> None:
    """That is how it comes."""
    with connected(tmp_path) as client:
        assert all(client.echo(b"hello") == b"hello" for _ in range(100))
