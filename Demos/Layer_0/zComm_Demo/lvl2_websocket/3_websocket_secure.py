"""Level 2.iii: accept only clients with the right token, and only pages of allowed origins.

Run it, then open 3_client_secure.html of the same folder in a browser:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/3_websocket_secure.py

The token is WEBSOCKET_TOKEN in the .zEnv beside this script. The server closes connections without the right token with
code 1008, before the handler runs. The log in ./logs has the reason, and never shows a token.
"""

from pathlib import Path

from zCLI import print_line, zCLI

zSpark = {
    "deployment": "Production",
    "title": "websocket-secure",
    "logger": "INFO",
    "logger_path": "./logs",
    "env_file": Path(__file__).with_name(".zEnv"),  # this file, not one of the working directory
    "websocket": {
        "require_auth": True,
        "allowed_origins": [
            "http://localhost",
            "http://127.0.0.1",
            "file://",  # pages opened from a file, as in this demo
        ],
    },
}

z = zCLI(zSpark)


async def secure_echo_handler(websocket, message):
    """Send the message back. Only clients with the right token reach this handler."""
    client = z.comm.websocket.auth.get_client_info(websocket)
    print_line(f"{client['identity']} at {client['address'][0]}, page {client['origin']}: {message}")
    await websocket.send(f"[Secure Echo]: {message}")


z.comm.websocket.start(handler=secure_echo_handler)
