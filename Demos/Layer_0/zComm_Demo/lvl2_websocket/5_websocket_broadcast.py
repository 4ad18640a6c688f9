"""Level 2.v: send the messages of one client to all others.

Run it, then open 5_client_broadcast.html of the same folder in two or three windows:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/5_websocket_broadcast.py

The page sends the token when it connects.
"""

from pathlib import Path

from zCLI import print_line, zCLI

zSpark = {
    "deployment": "Production",
    "title": "websocket-broadcast",
    "logger": "INFO",
    "logger_path": "./logs",
    "env_file": Path(__file__).with_name(".zEnv"),  # this file, not one of the working directory
    "websocket": {
        "require_auth": True,
        "allowed_origins": ["file://"],
    },
}

z = zCLI(zSpark)


async def broadcast_handler(websocket, message):
    """Send the message to all clients except its sender."""
    host, port = websocket.remote_address[:2]
    count = await z.comm.websocket.broadcast(f"{host}:{port} says: {message}", exclude=websocket)
    print_line(f"Broadcasted to {count} client(s)")


z.comm.websocket.start(handler=broadcast_handler)
