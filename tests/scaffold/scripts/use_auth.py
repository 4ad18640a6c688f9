"""Serves a client with the right key, and turns away one with another."""

import socket

from zCLI import zCLI
from zcli_core.testing.websocket.client import Client, upgrade_request
from zcli_core.testing.websocket.frames import CLOSE, frame


async def greet(websocket, message):
    await websocket.send("you are " + z.comm.websocket.auth.get_client_info(websocket)["identity"])


with zCLI({"deployment": "Production", "logger": "PROD", "logger_path": "logs", "websocket": {"port": 0}}) as z:
    server = z.comm.websocket.start_background(handler=greet)
    for key in ("k-alice", "k-mallory"):
        request = upgrade_request(f"X-API-Key: {key}")
        with socket.create_connection(("127.0.0.1", server.port), 10) as sock, Client(sock, request) as client:
            client.try_to_send(frame(0x1, b"who am I?") + frame(CLOSE, b"\x03\xe8"))
            ending = client.ending()
            print(*[answer.payload.decode() for answer in ending.before], ending.code)
