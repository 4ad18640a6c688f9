"""zCLI's server of :mod:`scale_peers`: what a user's script does, with the backplane that a URL names.

Beyond the other peers it understands

- ``J<room>|<name>`` to join with data for presence,
- ``W<tasks>|<seconds>|<room>`` to publish as fast as it can for that time, in so many tasks that each wait for each
  message (0: ``publish()`` from 8 threads). It answers with the number of messages a second.
- ``C<room>`` to count the members of a room everywhere, and ``X`` to show whether it is ready.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from scale_peers import MAX_SIZE, room_and_text

from zCLI import zCLI


class Server:
    """A zCLI object, and the handler of its clients."""

    def __init__(self, url: str) -> None:
        kind = urlsplit(url).scheme
        backplane: dict[str, Any] = {} if kind == "local" else {kind: {"url": url}}
        self.z = zCLI({
            "deployment": "Production", "title": "scale", "logger": os.environ.get("ZCLI_SCALE_LOG", "PROD"),
            "logger_path": os.environ.get("ZCLI_SCALE_LOGS", os.devnull),
            "backplane": backplane,
            "websocket": {
                "backplane": kind, "allowed_origins": ["*"], "max_size": 1024 * 1024, "max_connections": 20_000,
                "max_rooms": 20_000, "max_send_buffer": MAX_SIZE, "ping_interval": 3600.0,
            },
        })  # fmt: skip

    async def handle(self, websocket: Any, message: str) -> None:
        """Do what a client asks for."""
        server, what = self.z.comm.websocket, message[0]
        if what == "B":
            await server.broadcast(message, to=message[1:].partition("|")[0])
        elif what in "TL":
            room, text = room_and_text(message)
            server.publish(text, to=room)
        elif what == "J":
            room, _, name = message[1:].partition("|")
            await websocket.join(room, data={"name": name} if name else None)
            await websocket.send("joined")
        elif what == "C":
            await websocket.send(str(await server.count(message[1:])))
        elif what == "W":
            tasks, seconds, room = message[1:].split("|")
            await websocket.send(f"{await self.publish_for(int(tasks), float(seconds), room):.1f}")

    async def publish_for(self, tasks: int, seconds: float, room: str) -> float:
        """Return how many messages of 256 bytes a second were published."""
        began = time.monotonic()
        if tasks:
            counts = await asyncio.gather(*(self._one_task(room, began + seconds) for _ in range(tasks)))
        else:
            counts = await asyncio.gather(
                *(asyncio.to_thread(self._one_thread, room, began + seconds) for _ in range(8))
            )
        return sum(counts) / (time.monotonic() - began)

    async def _one_task(self, room: str, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            sent = await self.z.comm.websocket.broadcast("a" * 256, to=room)
            if sent.failure is not None:
                raise sent.failure
            count += 1
        return count

    def _one_thread(self, room: str, end: float) -> int:
        count = 0
        free = threading.Semaphore(64)  # at most 64 messages of this thread are under way
        failures: list[Any] = []

        def done(future: Any) -> None:
            free.release()
            if future.result().failure is not None:
                failures.append(future.result().failure)

        while time.monotonic() < end:
            free.acquire()
            self.z.comm.websocket.publish("a" * 256, to=room).add_done_callback(done)
            count += 1
        for _ in range(64):
            free.acquire()
        if failures:
            raise failures[0]
        return count


async def serve(url: str) -> None:
    """Serve on a free port, and print it."""
    server = Server(url)
    websocket = server.z.comm.websocket
    serving = asyncio.create_task(websocket.serve("127.0.0.1", 0, server.handle))
    while not websocket.is_running:
        if serving.done():
            serving.result()
        await asyncio.sleep(0.005)
    assert websocket.url is not None
    print(urlsplit(websocket.url).port, flush=True)
    await serving
