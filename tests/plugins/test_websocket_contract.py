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
from zcli_core.testing.websocket.closing import ClosingTests
from zcli_core.testing.websocket.decisions import DecisionTests
from zcli_core.testing.websocket.flow_control import FlowControlTests
from zcli_core.testing.websocket.handshake import HandshakeTests
from zcli_core.testing.websocket.listening import ListeningTests
from zcli_core.testing.websocket.pending import PendingConnectionTests


class TestWsproto(WebSocketTransportContract):
    """The default transport."""

    transport = PROVIDERS["wsproto"]


@pytest.mark.slow  # as tests/scaffold
class TestScaffolded(DecisionTests, FlowControlTests):
    """A plugin made with ``zcli new plugin``, whose limit decisions and messages pass through."""

    transport = PROVIDERS["scaffolded"]


def run_on_uvloop(coroutine: Any) -> Any:
    """Run a server on uvloop."""
    return pytest.importorskip("uvloop", reason="uvloop is for other systems").run(coroutine)


class OnUvloop(HandshakeTests, FlowControlTests, ClosingTests, ListeningTests, PendingConnectionTests):
    """Sockets, buffers, TLS and the ends of connections."""

    run_loop = staticmethod(run_on_uvloop)


class TestWsprotoOnUvloop(OnUvloop):
    """The default transport on uvloop."""

    transport = PROVIDERS["wsproto"]
