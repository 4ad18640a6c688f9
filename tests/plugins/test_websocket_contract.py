"""The WebSocket transports that zCLI brings, held against the contract: all of it on asyncio, and on uvloop what a loop
may do in another way.
"""

from __future__ import annotations

from typing import Any

import pytest
from websocket_transports import PROVIDERS

from zcli_core.testing import WebSocketTransportContract
from zcli_core.testing.websocket_closing import ClosingTests
from zcli_core.testing.websocket_flow import FlowTests
from zcli_core.testing.websocket_opening import OpeningTests
from zcli_core.testing.websocket_places import PlaceTests


class TestWsproto(WebSocketTransportContract):
    """The default."""

    transport = PROVIDERS["wsproto"]


class TestPicows(WebSocketTransportContract):
    """The extra ``fast``."""

    transport = PROVIDERS["picows"]


def run_on_uvloop(coroutine: Any) -> Any:
    """What runs a server."""
    return pytest.importorskip("uvloop", reason="uvloop is for other systems").run(coroutine)


class OnUvloop(OpeningTests, FlowTests, ClosingTests, PlaceTests):
    """Sockets, buffers, TLS and their ends."""

    run_loop = staticmethod(run_on_uvloop)


class TestWsprotoOnUvloop(OnUvloop):
    """The default."""

    transport = PROVIDERS["wsproto"]


class TestPicowsOnUvloop(OnUvloop):
    """The extra ``fast``."""

    transport = PROVIDERS["picows"]
