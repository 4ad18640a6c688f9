"""Serves a client that says more than it may."""

import socket

from zCLI import zCLI
from zcli_core.testing.websocket.client import Client, upgrade_request
from zcli_core.testing.websocket.frames import CLOSE, frame


async def echo(websocket, message):
    await websocket.send(message)


settings = {
    "deployment": "Production",
    "logger_path": "logs",
    "websocket": {"port": 0},
    "my_websocket": {"messages_per_second": 1},
}
with zCLI(settings) as z:
    server = z.comm.websocket.start_background(handler=echo)
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock, Client(sock, upgrade_request()) as client:
        print(client.echo(b"hello").decode())
        client.send(*[frame(0x1, b"hello")] * 50, frame(CLOSE, b""))
        print(client.ending().code)
