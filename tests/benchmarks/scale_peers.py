"""The servers that the benchmark of scale and the fault table compare, each in its own process.

``python scale_peers.py NAME URL`` serves on a free port of 127.0.0.1, uses the engine at that URL, and prints the port.
What clients send:

- ``J<room>`` joins a room, and is answered with ``joined``.
- ``B<room>|<text>`` is sent to all clients in the room, on all processes. The handler waits for that.
- ``T<room>|<text>`` the same in a task of its own, so that a slow publish does not delay the next one.
- ``L<room>|<bytes>`` the same with a text of that length.

python-socketio and channels run on uvicorn, without HTTP polling, with their default settings.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from websocket_peers import BACKLOG, accept_key, announce, listening_socket

MAX_SIZE = 64 * 1024 * 1024

_tasks: set[asyncio.Task[None]] = set()


def spawn(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a task of its own."""
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def room_and_text(message: str) -> tuple[str, str]:
    """Return the room that a message names, and what is sent there."""
    room, _, text = message[1:].partition("|")
    return room, "L" + "x" * int(text) if message[0] == "L" else message


async def obey(message: str, publish: Callable[[str, str], Coroutine[Any, Any, None]]) -> None:
    """Do what a message other than ``J`` asks for."""
    room, text = room_and_text(message)
    if message[0] == "B":
        await publish(room, text)
    else:
        spawn(publish(room, text))


async def floor(url: str) -> None:
    """The lower limit: redis-py's pub/sub reader, a frame made once, and writes to asyncio's transports."""
    from redis import asyncio as redis
    from websocket_load import header

    rooms: dict[str, set[asyncio.Transport]] = defaultdict(set)
    origin = os.urandom(8)
    client = redis.Redis.from_url(url)

    def deliver(room: str, payload: bytes) -> None:
        frame = header(0x81, len(payload), False) + payload
        for member in rooms[room]:
            member.write(frame)

    async def publish(room: str, text: str) -> None:
        payload = text.encode()
        deliver(room, payload)
        await client.publish(room, origin + payload)

    async def read() -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.psubscribe("*")
            async for message in pubsub.listen():
                if message["data"][:8] != origin:
                    deliver(message["channel"].decode(), message["data"][8:])

    class Floor(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)
            self.open, self.rest = False, b""

        def data_received(self, data: bytes) -> None:
            if not self.open:
                answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                self.transport.write(answer + b"Sec-WebSocket-Accept: " + accept_key(data) + b"\r\n\r\n")
                self.open = True
                return
            self.rest += data
            while message := self.next_message():
                if message[0] == "J":
                    rooms[message[1:]].add(self.transport)
                    self.transport.write(header(0x81, 6, False) + b"joined")
                else:
                    spawn(publish(*room_and_text(message)))

        def next_message(self) -> str | None:
            data = self.rest
            if len(data) < 6:
                return None
            length, at = data[1] & 0x7F, 2
            if length == 126:
                length, at = int.from_bytes(data[2:4], "big"), 4
            if len(data) < at + 4 + length:
                return None
            mask, payload = data[at : at + 4], data[at + 4 : at + 4 + length]
            self.rest = data[at + 4 + length :]
            repeated = (mask * (length // 4 + 1))[:length]
            plain = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
            return plain.to_bytes(length, "big").decode()

        def connection_lost(self, exc: Exception | None) -> None:
            for members in rooms.values():
                members.discard(self.transport)

    sock = listening_socket()
    server = await asyncio.get_running_loop().create_server(Floor, sock=sock, backlog=BACKLOG)
    announce(sock)
    await asyncio.gather(read(), server.serve_forever())


async def on_uvicorn(application: Any) -> None:
    """Serve an ASGI application."""
    import uvicorn

    config = uvicorn.Config(
        application, lifespan="off", log_config=None, access_log=False, ws_max_size=MAX_SIZE, ws_ping_interval=None,
        ws_per_message_deflate=False, backlog=BACKLOG,
    )  # fmt: skip
    sock = listening_socket()
    announce(sock)
    await uvicorn.Server(config).serve(sockets=[sock])


async def socketio_(url: str) -> None:
    """python-socketio with its AsyncRedisManager."""
    import socketio

    server = socketio.AsyncServer(
        async_mode="asgi", client_manager=socketio.AsyncRedisManager(url), transports=["websocket"],
        ping_interval=3600, max_http_buffer_size=MAX_SIZE,
    )  # fmt: skip

    async def publish(room: str, text: str) -> None:
        await server.emit("m", text, room=room)

    @server.on("m")  # type: ignore[untyped-decorator]
    async def message(client: str, text: str) -> None:
        if text[0] == "J":
            await server.enter_room(client, text[1:])
            await server.emit("m", "joined", to=client, ignore_queue=True)
        else:
            await obey(text, publish)

    await on_uvicorn(socketio.ASGIApp(server))


def channels_(backend: str) -> Callable[[str], Awaitable[None]]:
    """channels with one of the two layers of channels_redis."""

    async def serve(url: str) -> None:
        from django.conf import settings

        settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": backend, "CONFIG": {"hosts": [url]}}})
        from channels.generic.websocket import AsyncWebsocketConsumer
        from channels.layers import get_channel_layer

        layer = get_channel_layer()

        async def publish(room: str, text: str) -> None:
            await layer.group_send(room, {"type": "room.message", "text": text})

        class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
            async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
                assert text_data is not None
                if text_data[0] == "J":
                    await self.channel_layer.group_add(text_data[1:], self.channel_name)
                    await self.send("joined")
                else:
                    await obey(text_data, publish)

            async def room_message(self, event: dict[str, str]) -> None:
                await self.send(event["text"])

        await on_uvicorn(Consumer.as_asgi())

    return serve


async def zcli(url: str) -> None:
    """zCLI with the backplane that the URL names."""
    from scale_zcli import serve

    await serve(url)


PEERS: dict[str, Callable[[str], Awaitable[None]]] = {
    "floor": floor,
    "zcli": zcli,
    "python-socketio": socketio_,
    "channels_redis core": channels_("channels_redis.core.RedisChannelLayer"),
    "channels_redis pubsub": channels_("channels_redis.pubsub.RedisPubSubChannelLayer"),
}


def main() -> None:
    """Serve as the peer that the command line names."""
    name, url = sys.argv[1:]

    async def run() -> None:
        await PEERS[name](url)

    asyncio.run(run())


if __name__ == "__main__":
    main()
