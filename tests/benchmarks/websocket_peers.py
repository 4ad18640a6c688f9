"""The servers that the WebSocket benchmark compares, each in its own process.

``python websocket_peers.py NAME`` serves on a free port of 127.0.0.1 and prints that port. Every server echoes;
a message that begins with ``B`` goes to all the other connections instead. Compression is off, except in the peers
whose names end in ``-deflate``.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import logging
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, cast

MAX_SIZE = 4 * 1024 * 1024
BACKLOG = 2048


def is_broadcast(message: Any) -> bool:
    """Return whether a message goes to all other clients."""
    return bool(message[:1] in ("B", b"B"))


def listening_socket() -> socket.socket:
    """Return a listening socket on a free port, and print the port."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def announce(sock: socket.socket) -> None:
    """Print the port of a server for the benchmark."""
    print(sock.getsockname()[1], flush=True)


def accept_key(request: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept of a raw request (RFC 6455, 4.2.2)."""
    key = request.lower().index(b"sec-websocket-key:")
    value = request[key + 18 : request.index(b"\r\n", key)].strip()
    return base64.b64encode(hashlib.sha1(value + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


async def floor(sock: socket.socket) -> None:
    """The lower limit: a bare Protocol that counts frames by their length and writes a ready response."""
    from websocket_load import header

    members: set[asyncio.Transport] = set()

    class Floor(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)
            self.open, self.have, self.need = False, 0, 0

        def data_received(self, data: bytes) -> None:
            if not self.open:
                answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                self.transport.write(answer + b"Sec-WebSocket-Accept: " + accept_key(data) + b"\r\n\r\n")
                self.open = True
                members.add(self.transport)
                return
            if not self.need:
                length = data[1] & 0x7F
                if length == 126:
                    length = int.from_bytes(data[2:4], "big")
                elif length == 127:
                    length = int.from_bytes(data[2:10], "big")
                self.need = len(header(0x81, length, True)) + 4 + length
                self.frame = header(data[0], length, False) + bytes(length)
                self.everyone = length == 256 and bytes([data[6 + 2] ^ data[4]]) == b"B"
            self.have += len(data)
            while self.have >= self.need:
                self.have -= self.need
                if self.everyone:
                    for member in members:
                        if member is not self.transport:
                            member.write(self.frame)
                else:
                    self.transport.write(self.frame)

        def connection_lost(self, exc: Exception | None) -> None:
            members.discard(self.transport)

    server = await asyncio.get_running_loop().create_server(Floor, sock=sock, backlog=BACKLOG)
    announce(sock)
    await server.serve_forever()


async def websockets_(sock: socket.socket, compression: str | None = None) -> None:
    """The package `websockets` with its asyncio server."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    members: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        members.add(connection)
        try:
            async for message in connection:
                if is_broadcast(message):
                    broadcast(members - {connection}, message)
                else:
                    await connection.send(message)
        finally:
            members.discard(connection)

    async with serve(handler, sock=sock, compression=compression, max_size=MAX_SIZE, backlog=BACKLOG) as server:
        announce(sock)
        await server.serve_forever()


async def aiohttp_(sock: socket.socket, compress: bool = False) -> None:
    """aiohttp's server with its C parts."""
    from aiohttp import web

    members: set[web.WebSocketResponse] = set()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=compress, max_msg_size=MAX_SIZE)
        await response.prepare(request)
        members.add(response)
        try:
            async for message in response:
                if is_broadcast(message.data):
                    for member in members - {response}:
                        await member.send_str(message.data)
                elif message.type is web.WSMsgType.TEXT:
                    await response.send_str(message.data)
                else:
                    await response.send_bytes(message.data)
        finally:
            members.discard(response)
        return response

    application = web.Application()
    application.router.add_get("/chat", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=BACKLOG).start()
    announce(sock)
    await asyncio.Event().wait()


async def picows_(sock: socket.socket) -> None:
    """picows by default: frames, no reassembly and no UTF-8 check."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

    members: set[WSTransport] = set()

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: WSTransport) -> None:
            members.add(transport)

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            members.discard(transport)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type is WSMsgType.TEXT:
                message = frame.get_payload_as_utf8_text()
                if is_broadcast(message):
                    for member in members - {transport}:
                        member.send(WSMsgType.TEXT, message.encode())
                else:
                    transport.send(WSMsgType.TEXT, message.encode())
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())

    def factory(_request: WSUpgradeRequest) -> WSListener:
        return Listener()

    server = await ws_create_server(factory, sock=sock, max_frame_size=MAX_SIZE, backlog=BACKLOG)
    announce(sock)
    await server.serve_forever()


def bare_application() -> Any:
    """A bare ASGI application."""
    members: set[Any] = set()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        members.add(send)
        try:
            while (event := await receive())["type"] == "websocket.receive":
                text = event.get("text")
                message = event["bytes"] if text is None else text
                answer = {"type": "websocket.send", "text" if text is not None else "bytes": message}
                if is_broadcast(message):
                    for member in members - {send}:
                        await member(answer)
                else:
                    await send(answer)
        finally:
            members.discard(send)

    return application


async def echo(websocket: Any, message: str | bytes) -> None:
    """A handler for a whole zCLI object."""
    await websocket.send(message)


def zcli_object(**websocket: Any) -> Any:
    """A whole zCLI object, which logs errors only."""
    from zCLI import zCLI

    return zCLI(
        {"deployment": "Production", "logger": "PROD", "logger_path": tempfile.mkdtemp(), "websocket": websocket}
    )


def zcli_application() -> Any:
    """zCLI as an ASGI application, with all that a zCLI object does for a message."""
    return zcli_object().comm.websocket.asgi(handler=echo)


async def zcli_on_uvicorn(sock: socket.socket) -> None:
    """zCLI with the transport ``uvicorn``."""
    sock.close()
    z = zcli_object(transport="uvicorn")
    serving = asyncio.ensure_future(z.comm.websocket.serve(port=0, handler=echo))
    while not z.comm.websocket.url:
        await asyncio.sleep(0.01)
    print(z.comm.websocket.url.rpartition(":")[2].strip("/"), flush=True)
    await serving


def uvicorn_(
    implementation: str, make: Callable[[], Any] = bare_application
) -> Callable[[socket.socket], Awaitable[None]]:
    """uvicorn with one of its WebSocket implementations and an ASGI application."""

    async def serve(sock: socket.socket) -> None:
        import uvicorn

        config = uvicorn.Config(
            make(), ws=implementation, lifespan="off", log_config=None, access_log=False,  # type: ignore[arg-type]
            ws_max_size=MAX_SIZE, ws_per_message_deflate=False, backlog=BACKLOG,
        )  # fmt: skip
        announce(sock)
        await uvicorn.Server(config).serve(sockets=[sock])

    return serve


async def zcli(sock: socket.socket, compress: bool = False) -> None:
    """zCLI: the default transport with the core's dispatcher."""
    from websocket_zcli import serve
    from zcli_wsproto.transport import WsprotoTransport

    transport = WsprotoTransport(logging.getLogger("bench"))
    await serve(sock, announce, is_broadcast, MAX_SIZE, BACKLOG, transport, compress)


async def zcli_pure(sock: socket.socket) -> None:
    """zCLI without the C routine of `websockets`, which unmasks longer frames."""
    sys.modules["websockets.speedups"] = None  # type: ignore[assignment]  # makes its import fail
    await zcli(sock)


async def product(sock: socket.socket, room: str | None = None) -> None:
    """``z.comm.websocket.broadcast()`` to all, or to a room that every client has joined."""
    from zcli_core.app import zCLI

    host, _ = sock.getsockname()
    sock.close()
    z = zCLI({"logger": "PROD", "deployment": "Production", "websocket": {"max_connections": 10_000}})
    websocket = z.comm.websocket

    async def join(client: Any) -> None:
        await client.join(room)

    async def handler(client: Any, message: Any) -> None:
        if not is_broadcast(message):
            await client.send(message)
        elif room is None:
            await websocket.broadcast(message, exclude=client)
        else:
            await websocket.broadcast(message, exclude=client, to=room)

    serving = asyncio.ensure_future(websocket.serve(host, 0, handler, on_connect=None if room is None else join))
    while websocket.url is None:
        await asyncio.sleep(0.01)
    print(websocket.url.rpartition(":")[2], flush=True)
    await serving


async def bifrost(sock: socket.socket) -> None:
    """zBifrost with a model in SQLite."""
    from zCLI import zCLI

    sock.close()
    everybody = {action: ["*"] for action in ("read", "create", "update", "delete")}
    fields = {
        "id": {"type": "int", "pk": True},
        "title": {"type": "text", "max_length": 200},
        "points": {"type": "int"},
    }
    z = zCLI({
        "deployment": "Production", "logger": "PROD", "logger_path": tempfile.mkdtemp(), "zMode": "zBifrost",
        "websocket": {"max_connections": 10_000, "ping_interval": 3600},
        "bifrost": {"models": {"tasks": {"fields": fields, "access": everybody}}},
    })  # fmt: skip
    print((await asyncio.to_thread(z.bifrost.start_background, port=0)).port, flush=True)
    await asyncio.Event().wait()


PEERS: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
    "floor": floor,
    "zcli": zcli,
    "zcli+idle": zcli,
    "zcli-pure": zcli_pure,
    "product": product,
    "product-room": functools.partial(product, room="news"),
    "bifrost": bifrost,
    "websockets": websockets_,
    "aiohttp": aiohttp_,
    "picows": picows_,
    "zcli-deflate": functools.partial(zcli, compress=True),
    "websockets-deflate": functools.partial(websockets_, compression="deflate"),
    "aiohttp-deflate": functools.partial(aiohttp_, compress=True),
    "uvicorn+wsproto": uvicorn_("wsproto"),
    "uvicorn+websockets": uvicorn_("websockets-sansio"),
    "uvicorn+wsproto+zcli": uvicorn_("wsproto", zcli_application),
    "uvicorn+websockets+zcli": uvicorn_("websockets-sansio", zcli_application),
    "zcli-on-uvicorn": zcli_on_uvicorn,
}


def main() -> None:
    """Serve as the server that the command line names, on uvloop if it says so: ``NAME[@uvloop]``."""
    name, _, loop = sys.argv[1].partition("@")
    peer = PEERS[name]

    async def run() -> None:
        await peer(listening_socket())

    if loop == "uvloop":
        import uvloop

        uvloop.run(run())
    else:
        asyncio.run(run())


if __name__ == "__main__":
    main()
