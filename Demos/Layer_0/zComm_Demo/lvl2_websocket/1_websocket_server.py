"""Level 2.i: a WebSocket server in one line. It sends every message back until Ctrl+C stops it.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/1_websocket_server.py

and look at it from another terminal:

    curl http://127.0.0.1:8765/health

Ctrl+C closes every connection properly and releases the port, so it can be started again at once.
"""

from zCLI import zCLI

zSpark = {
    "deployment": "Production",
    "title": "websocket-server",
    "logger": "PROD",
    "logger_path": "./logs",
}

z = zCLI(zSpark)

# Host and port come from the five layers: 127.0.0.1 and 8765 unless a layer says otherwise, as in
# WEBSOCKET_PORT=9000. start(host=..., port=...) overrides them all.
z.comm.websocket.start()
