"""Tells every client who it is, until a line comes on standard input."""

from zCLI import zCLI

z = zCLI({"deployment": "Testing", "title": "whoami", "logger_path": "logs"})


async def tell(websocket, message):
    await websocket.send(z.comm.websocket.auth.get_client_info(websocket)["identity"])


with z.comm.websocket.start_background(port=0, handler=tell) as server:
    print(f"ws://127.0.0.1:{server.port}/", flush=True)
    input()
