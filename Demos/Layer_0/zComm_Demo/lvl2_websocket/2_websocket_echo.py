"""Level 2.ii: handle messages.

Run it, then open 2_client_echo.html of the same folder in a browser:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/2_websocket_echo.py

The server accepts every client, because websocket.require_auth is off by default. The next demo turns it on.
"""

from zCLI import zCLI


async def echo_handler(websocket, message):
    """Send the message back. Messages of one client arrive in order, one at a time."""
    await websocket.send(f"Echo: {message}")


zSpark = {
    "deployment": "Production",
    "title": "websocket-echo",
    "logger": "INFO",
    "logger_path": "./logs",
}

z = zCLI(zSpark)

z.comm.websocket.start(handler=echo_handler)
