"""zCLI's WebSocket server for the benchmark: a transport with the core's message dispatcher."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from zcli_core.websocket.contract import (
    Accept,
    Address,
    Closed,
    Compression,
    Connection,
    Endpoint,
    Limits,
    Listener,
    Message,
    PlainResponse,
    Receiver,
    Request,
    Transport,
)
from zcli_core.websocket.counters import Counters, size_of
from zcli_core.websocket.dispatcher import MessageDispatcher


class Client:
    """What a handler is given: the least that the facade's connection object has to do."""

    __slots__ = ("connection", "dispatcher", "server")

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        self.dispatcher = MessageDispatcher(connection, self, server.loop, server.counters)

    async def send(self, message: Message) -> None:
        """Send, waiting while the client is slow."""
        connection = self.connection
        connection.send(message)
        counters = self.server.counters
        counters.messages_sent += 1
        counters.bytes_sent += len(message) if type(message) is bytes or message.isascii() else size_of(message)
        if connection.write_paused:
            await connection.drain()

    async def run_on_connect(self) -> None:
        """No on_connect here."""

    def handle(self, message: Message) -> Awaitable[None]:
        """Run the handler."""
        return self.server.handler(self, message)

    def handler_failed(self, error: BaseException) -> None:
        """Say so."""
        logging.getLogger("bench").error("handler failed", exc_info=error)

    def closed(self, closed: Closed) -> None:
        """Forget the client."""
        self.server.clients.discard(self)

    async def run_on_disconnect(self) -> None:
        """No on_disconnect here."""

    def handler_abandoned(self) -> None:
        """No plain handlers here."""


class Server:
    """Admits all clients."""

    listener: Listener

    def __init__(self, is_broadcast: Callable[[Any], bool]) -> None:
        self.loop = asyncio.get_running_loop()
        self.clients: set[Client] = set()
        self.counters = Counters()
        self.is_broadcast = is_broadcast

    def upgrade(self, request: Request) -> Accept:
        """Let in."""
        return Accept(self.open)

    def http(self, request: Request) -> PlainResponse:
        """Nothing here."""
        return PlainResponse(426)

    def refused(self, cause: str, address: Address, request: Request | None = None) -> float:
        """Nobody is."""
        return 0.0

    def open(self, connection: Connection) -> Receiver:
        """Take in a client."""
        client = Client(self, connection)
        self.clients.add(client)
        return client.dispatcher

    async def handler(self, client: Client, message: Message) -> None:
        """Echo or broadcast."""
        if self.is_broadcast(message):
            prepared = self.listener.prepare(message)
            for other in self.clients:
                if other is not client:
                    other.connection.send_prepared(prepared)
        else:
            await client.send(message)


async def serve(
    sock: socket.socket,
    announce: Callable[[socket.socket], None],
    is_broadcast: Callable[[Any], bool],
    max_size: int,
    backlog: int,
    transport: Transport,
    compress: bool = False,
) -> None:
    """Serve on the address of that socket."""
    host, _port = sock.getsockname()
    sock.close()
    server = Server(is_broadcast)
    limits = Limits(max_size=max_size, compression=Compression() if compress else None)
    server.listener = await transport.listen(Endpoint(host, 0, backlog=backlog), server, limits)
    address = server.listener.addresses[0]
    assert address is not None
    print(address[1], flush=True)
    await asyncio.Event().wait()
