"""Level 2.iv: the same over TLS, as wss://.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/4_websocket_wss.py

1. Open https://127.0.0.1:8766 in a browser and accept the certificate. The demo makes the certificate on first use,
   and no authority has signed it. (A certificate from an authority such as Let's Encrypt needs no such step.)
2. Open 4_client_wss.html of the same folder.

The token comes from the .zEnv beside this script.
"""

import os
from pathlib import Path

from demo_certificate import make_certificate

from zCLI import zCLI

make_certificate()

zSpark = {
    "deployment": "Production",
    "title": "websocket-wss",
    "logger": "INFO",
    "logger_path": "./logs",
    "env_file": Path(__file__).with_name(".zEnv"),  # this file, not one of the working directory
    "websocket": {
        "port": os.getenv("WEBSOCKET_PORT", "8766"),
        "require_auth": True,
        "ssl_enabled": True,
        "ssl_cert": Path(__file__).with_name("certs") / "demo.cert",
        "ssl_key": Path(__file__).with_name("certs") / "demo.key",
        "allowed_origins": [
            "https://localhost",  # https: a page over http:// has another origin
            "https://127.0.0.1",
            "file://",
        ],
    },
}

z = zCLI(zSpark)


async def secure_echo_handler(websocket, message):
    """Send the message back. TLS encrypts it between client and server."""
    await websocket.send(f"[Encrypted Echo]: {message}")


z.comm.websocket.start(handler=secure_echo_handler)
