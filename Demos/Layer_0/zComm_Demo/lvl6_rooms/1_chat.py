"""Level 6: a chat in rooms, over as many processes as you start, with who is here.

Run it twice, in two terminals:

    python3 Demos/Layer_0/zComm_Demo/lvl6_rooms/1_chat.py
    WEBSOCKET_PORT=8766 python3 Demos/Layer_0/zComm_Demo/lvl6_rooms/1_chat.py

Then open 1_client_chat.html of the same folder in two windows, and follow the link to the second process in one of
them. The processes share a Redis, which the first one starts if none runs. If no Redis is installed, run
pip install -e '.[redis]'. Stop Redis with `zcli services stop redis`. Without websocket.backplane and start_service()
the same script is a chat in one process.
"""

import json
import sys

from zCLI import BackplaneFailure, print_line, zCLI

zSpark = {
    "deployment": "Production",
    "title": "chat",
    "logger": "INFO",
    "logger_path": "./logs",
    "websocket": {"backplane": "redis", "allowed_origins": ["file://"]},
    "backplane": {"namespace": "zcli-demo-chat"},
}

z = zCLI(zSpark)
names = {}


async def chat(websocket, message):
    """Handle what the page sends: ``{"join": room, "name": name}``, ``{"say": text}`` or ``{"who": true}``."""
    request = json.loads(message)
    if "join" in request:
        for room in tuple(websocket.rooms):
            await websocket.leave(room)
        names[websocket] = request["name"]
        await websocket.join(request["join"], data={"name": request["name"]})
    for room in websocket.rooms:
        if "say" in request:
            text = json.dumps({"from": names[websocket], "text": request["say"]})
            await z.comm.websocket.broadcast(text, to=room, exclude=websocket)
        else:
            try:
                members = await z.comm.websocket.presence(room)
            except BackplaneFailure:  # the engine is down: the page keeps what it shows
                continue
            await websocket.send(json.dumps({"room": room, "here": [[m.data["name"], m.process] for m in members]}))


def gone(websocket):
    """Forget the name of a client."""
    names.pop(websocket, None)


if not z.comm.start_service("redis"):
    print_line(f"✗ Redis did not start: {z.comm.services.last_failure}", keep="\n")
    sys.exit(1)
z.comm.websocket.start(handler=chat, on_disconnect=gone)
