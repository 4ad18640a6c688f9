"""Makes some HTTP calls and serves some clients, until a line comes on standard input; then prints its metrics."""

import os

from prometheus_client import generate_latest

from zCLI import zCLI


async def echo(websocket, message):
    await websocket.send(message)


with zCLI({"deployment": "Testing", "title": "metrics", "logger_path": "logs"}) as z:
    for path in ("/get", "/get", "/status/404"):
        z.comm.http_get(os.environ["HTTPBIN_URL"] + path)
    z.comm.http_get(f"http://127.0.0.1:{z.comm.find_free_port()}/")
    with z.comm.websocket.start_background(port=0, handler=echo) as server:
        print(f"ws://127.0.0.1:{server.port}/", flush=True)
        input()
print(generate_latest().decode())
