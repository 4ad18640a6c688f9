"""Writing to a client that has reset its connection: event loops log such writes to stderr."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import pytest
from websocket_transports import serve

from zcli_core.errors import ConnectionClosed
from zcli_core.testing.certificates import client_tls, server_tls
from zcli_core.testing.websocket.client import (
    PATIENCE,
    reset,
    until,
)
from zcli_core.testing.websocket.frames import (
    PING,
    TEXT,
    frame,
)
from zcli_core.testing.websocket.server import (
    Echo,
    ServerUnderTest,
)
from zcli_core.websocket.contract import Connection, Endpoint, Message

COUNT = 100


def send(server: ServerUnderTest, connection: Connection) -> None:
    for _ in range(COUNT):
        connection.send("x")


def send_large(server: ServerUnderTest, connection: Connection) -> None:
    connection.send("x" * 1_000_000)  # over TLS, it is written in pieces


def publish(server: ServerUnderTest, connection: Connection) -> None:
    prepared = server.listener.prepare("x")
    for _ in range(COUNT):
        connection.send_prepared(prepared)


def send_pongs(server: ServerUnderTest, connection: Connection) -> None:
    """Read the pings that came after the message and send pongs."""


@pytest.mark.parametrize("write", [send, send_large, publish, send_pongs])
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_writes_after_a_reset_log_nothing(
    write: Callable[..., None], secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio logs each write after the fifth."""
    has_reset = threading.Event()

    class Writing(Echo):
        def message(self, message: Message) -> bool:
            assert has_reset.wait(PATIENCE)
            with contextlib.suppress(ConnectionClosed):
                write(self.server, self.connection)
            return True

    endpoint = Endpoint(port=0, tls=server_tls() if secure else None)
    with serve("wsproto", endpoint=endpoint, receiver=Writing) as server:
        client = server.connect(tls=client_tls() if secure else None)
        client.send(frame(TEXT, b"go") + frame(PING) * COUNT)
        reset(client.sock)
        has_reset.set()
        until(lambda: server.closed)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
