"""Level 5.iv: a FastAPI application with zCLI's WebSocket server mounted in it, and a live counter of its clients.

Run it, and open http://127.0.0.1:8765 in two or three windows:

    python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/asgi/2_live_counter.py

The application owns the port. Any ASGI server can run it, in the folder of this file:

    uvicorn 2_live_counter:app
    hypercorn 2_live_counter:app
    granian --interface asgi 2_live_counter:app

http://127.0.0.1:8765/docs has the route /clients of this file, which shows that FastAPI's own routes can use z.
The demo needs: pip install fastapi 'uvicorn[standard]'
"""

import json

import uvicorn
from live_app import app

from zCLI import zCLI

zSpark = {"deployment": "Production", "title": "live-counter", "logger_path": "./logs"}

z = zCLI(zSpark)


async def show_count(websocket):
    """Send the number of connected pages to all of them, when one has come or gone."""
    await z.comm.websocket.broadcast(json.dumps({"clients": z.comm.websocket.client_count}))


async def pass_on(websocket, message):
    """Send the message of one page to all of them."""
    await z.comm.websocket.broadcast(json.dumps({"message": message[:100]}))


@app.get("/clients")
def clients() -> list[str]:
    """List the addresses of the connected pages."""
    return [f"{client.remote_address[0]}:{client.remote_address[1]}" for client in z.comm.websocket.clients]


app.mount("/live", z.comm.websocket.asgi(handler=pass_on, on_connect=show_count, on_disconnect=show_count))

if __name__ == "__main__":
    uvicorn.run(app, host=z.config.websocket.host, port=z.config.websocket.port)
