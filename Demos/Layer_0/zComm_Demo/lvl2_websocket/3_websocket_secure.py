"""Level 2.iii: only clients with the right token, and only pages from where we allow them.

Run it, then open 3_client_secure.html, which stands beside it, in a browser:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/3_websocket_secure.py

The token is WEBSOCKET_TOKEN in the .zEnv beside this script. Whoever has none, or another, is closed with the code
1008 before the handler hears of it; the log in ./logs tells why, and never shows a token.
"""

from pathlib import Path

from zCLI import print_line, zCLI

zSpark = {
    "deployment": "Production",
    "title": "websocket-secure",
    "logger": "INFO",
    "logger_path": "./logs",
    "env_file": Path(__file__).with_name(".zEnv"),  # this one, whatever stands in the working directory
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
    """Only clients that have shown the token reach this handler."""
    client = z.comm.websocket.auth.get_client_info(websocket)
    print_line(f"{client['identity']} at {client['address'][0]}, page {client['origin']}: {message}")
    await websocket.send(f"[Secure Echo]: {message}")


z.comm.websocket.start(handler=secure_echo_handler)
