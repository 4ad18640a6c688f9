"""The WebSocket transports that zCLI brings, held against the contract, on both event loops."""

from __future__ import annotations

import pytest
import zcli_picows
import zcli_wsproto

from zcli_core.testing.websocket import WebSocketTransportContract

uvloop = pytest.importorskip("uvloop") if False else None


class TestWsproto(WebSocketTransportContract):
    """The default."""

    transport = zcli_wsproto.zcli_websocket_transports()[0]


class TestPicows(WebSocketTransportContract):
    """The fast one."""

    transport = zcli_picows.zcli_websocket_transports()[0]
