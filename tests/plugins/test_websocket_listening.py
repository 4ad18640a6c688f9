"""A listener that stops while somebody is being accepted."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest
from websocket_transports import PROVIDERS, on_every_transport

from zcli_core.contracts.websocket import Endpoint, HttpAnswer, Limits, Request
from zcli_core.testing.contract import make_context


class _Refuses:
    def upgrade(self, request: Request) -> HttpAnswer:
        return HttpAnswer(403)

    def http(self, request: Request) -> HttpAnswer:
        return HttpAnswer(426)


@on_every_transport
@pytest.mark.parametrize("turns", range(6))
def test_a_client_that_is_accepted_as_the_listener_stops_is_closed(name: str, turns: int) -> None:
    """So many turns of the loop after it came; asyncio takes two of them to accept it."""

    async def run() -> bytes:
        transport = PROVIDERS[name].factory(make_context())
        listener = await transport.listen(Endpoint(port=0), cast("Any", _Refuses()), Limits())
        address = listener.addresses[0]
        assert address is not None
        with socket.create_connection(address[:2], timeout=10) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            listener.stop_accepting()
            await asyncio.sleep(0)
            with socket.create_server(address[:2], reuse_port=False):
                pass  # the port is free
            await listener.close()
            reading = asyncio.get_running_loop().run_in_executor(None, client.recv, 1)
            try:
                return await reading
            except ConnectionResetError:
                return b""

    assert asyncio.run(run()) == b""
