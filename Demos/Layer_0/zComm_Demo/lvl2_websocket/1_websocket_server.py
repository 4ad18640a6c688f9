"""Level 2.i: a WebSocket server in one line. It sends every message back until Ctrl+C stops it.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/1_websocket_server.py

Check it from another terminal:

    curl http://127.0.0.1:8765/health

Ctrl+C closes every connection with a close code and releases the port, so the server can start again at once.
"""

from zCLI import zCLI

zSpark = {
    "deployment": "Production",
    "title": "websocket-server",
    "logger": "PROD",
    "logger_path": "./logs",
}

z = zCLI(zSpark)

# Host and port are settings: 127.0.0.1 and 8765, unless a layer such as the environment (WEBSOCKET_PORT=9000) sets
# others. start(host=..., port=...) overrides all layers.
z.comm.websocket.start()
