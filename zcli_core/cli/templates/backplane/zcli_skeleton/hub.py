"""A stand-in for the real engine. Delete it when the plugin connects to the real one."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections import defaultdict

from zcli_skeleton.protocol import COUNT, HEADER, MESSAGE, PUBLISH, SUBSCRIBE, frame, read_frame

#: Bytes that may wait for one client until it is cut.
SLOW_LIMIT = 4 * 1024 * 1024


class Hub:
    """Passes messages between its clients."""

    def __init__(self) -> None:
        self._clients: defaultdict[str, set[asyncio.StreamWriter]] = defaultdict(set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it disconnects or sends something invalid."""
        with contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                header = await reader.readexactly(HEADER.size)
                rest = await reader.readexactly(HEADER.unpack(header)[0] - HEADER.size)
                kind, channel, data = read_frame(header + rest, 0)[0]
                clients = self._clients[channel]
                if kind == PUBLISH:
                    for client in list(clients):
                        self._send(client, frame(MESSAGE, channel, data))
                else:
                    (clients.add if kind == SUBSCRIBE else clients.discard)(writer)
                self._send(writer, frame(COUNT, data=len(clients).to_bytes(4, "big")))
                await asyncio.sleep(0)
        self._forget(writer)
        writer.close()

    def _send(self, client: asyncio.StreamWriter, data: bytes) -> None:
        client.write(data)
        if client.transport.get_write_buffer_size() > SLOW_LIMIT:
            self._forget(client)
            client.transport.abort()

    def _forget(self, client: asyncio.StreamWriter) -> None:
        for channel, clients in list(self._clients.items()):
            clients.discard(client)
            if not clients:
                del self._clients[channel]


async def _serve(host: str, port: int) -> None:
    server = await asyncio.start_server(Hub().serve, host, port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.host, options.port))


if __name__ == "__main__":
    main()
