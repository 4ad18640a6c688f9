"""Level 5.iii: a WebSocket server that shares its port with a FastAPI application, in one deployment only.

Run it as in development, and open live_page/index.html of this folder in two or three windows:

    python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/asgi/1_one_port.py

Run it as in production, and open http://127.0.0.1:8765 in two or three windows:

    ZCLI_DEPLOYMENT=Production python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/asgi/1_one_port.py

In Development, zCLI's own server serves WebSockets only, and needs no other package. In Production, uvicorn serves the
same handlers, and the application of live_app.py answers every other request on the same port: the page, its static
files, and the docs page at /docs. Only the settings differ. Production needs: pip install fastapi 'uvicorn[standard]'
"""

import json

from zCLI import zCLI

zSpark = {
    "title": "one-port",
    "logger_path": "./logs",
    "deployments": {
        "Development": {"websocket": {"transport": "wsproto"}},
        "Production": {"websocket": {"transport": "uvicorn"}, "asgi": {"app": "live_app:app"}},
    },
}

z = zCLI(zSpark)


async def show_count(websocket):
    """Send the number of connected pages to all of them, when one has come or gone."""
    await z.comm.websocket.broadcast(json.dumps({"clients": z.comm.websocket.client_count}))


async def pass_on(websocket, message):
    """Send the message of one page to all of them."""
    await z.comm.websocket.broadcast(json.dumps({"message": message[:100]}))


z.comm.websocket.start(handler={"/live/": pass_on}, on_connect=show_count, on_disconnect=show_count)
