"""The WebSocket transports that zCLI brings, held against the contract."""

from __future__ import annotations

import zcli_wsproto

from zcli_core.testing.websocket import WebSocketTransportContract


class TestWsproto(WebSocketTransportContract):
    """The default."""

    transport = zcli_wsproto.zcli_websocket_transports()[0]
