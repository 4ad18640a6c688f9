"""Level 2.ii: answer messages with a handler.

Run it, then open 2_client_echo.html, which stands beside it, in a browser:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/2_websocket_echo.py

Anybody may connect to it: websocket.require_auth is off unless a layer turns it on. The next demo does.
"""

from zCLI import zCLI


async def echo_handler(websocket, message):
    """Called for every message; those of one client come in order, one at a time."""
    await websocket.send(f"Echo: {message}")


zSpark = {
    "deployment": "Production",
    "title": "websocket-echo",
    "logger": "INFO",
    "logger_path": "./logs",
}

z = zCLI(zSpark)

z.comm.websocket.start(handler=echo_handler)
