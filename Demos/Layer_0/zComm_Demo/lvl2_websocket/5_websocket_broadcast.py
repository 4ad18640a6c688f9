"""Level 2.v: what one client says, all the others hear.

Run it, then open 5_client_broadcast.html, which stands beside it, in two or three windows:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/5_websocket_broadcast.py

Every window authenticates for itself, with the same token.
"""

from pathlib import Path

from zCLI import print_line, zCLI

zSpark = {
    "deployment": "Production",
    "title": "websocket-broadcast",
    "logger": "INFO",
    "logger_path": "./logs",
    "env_file": Path(__file__).with_name(".zEnv"),  # this one, whatever stands in the working directory
    "websocket": {
        "require_auth": True,
        "allowed_origins": ["file://"],
    },
}

z = zCLI(zSpark)


async def broadcast_handler(websocket, message):
    """Pass a message on to everybody but its sender."""
    host, port = websocket.remote_address[:2]
    count = await z.comm.websocket.broadcast(f"{host}:{port} says: {message}", exclude=websocket)
    print_line(f"Broadcasted to {count} client(s)")


z.comm.websocket.start(handler=broadcast_handler)
