"""The WebSocket transports pass the contract suite.

The default transport runs all of it on asyncio, and on uvloop the parts in which an event loop may behave differently.
The scaffolded transport delegates to the default one, so only the parts that it stands between are run here;
``tests/scaffold`` runs the whole suite on it.
"""

from __future__ import annotations

from typing import Any

import pytest
from websocket_transports import PROVIDERS

from zcli_core.testing import WebSocketTransportContract
from zcli_core.testing.websocket_closing import ClosingTests
from zcli_core.testing.websocket_crowd import CrowdTests
from zcli_core.testing.websocket_deciding import DecidingTests
from zcli_core.testing.websocket_flow import FlowTests
from zcli_core.testing.websocket_opening import OpeningTests
from zcli_core.testing.websocket_places import PlaceTests


class TestWsproto(WebSocketTransportContract):
    """The default."""

    transport = PROVIDERS["wsproto"]


@pytest.mark.slow  # as tests/scaffold
class TestScaffolded(DecidingTests, FlowTests):
    """A plugin made with ``zcli new plugin``: decisions and messages pass through its limit."""

    transport = PROVIDERS["scaffolded"]


def run_on_uvloop(coroutine: Any) -> Any:
    """What runs a server."""
    return pytest.importorskip("uvloop", reason="uvloop is for other systems").run(coroutine)


class OnUvloop(OpeningTests, FlowTests, ClosingTests, PlaceTests, CrowdTests):
    """Sockets, buffers, TLS and their ends."""

    run_loop = staticmethod(run_on_uvloop)


class TestWsprotoOnUvloop(OnUvloop):
    """The default."""

    transport = PROVIDERS["wsproto"]
