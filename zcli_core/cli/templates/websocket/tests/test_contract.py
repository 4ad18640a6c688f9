"""zCLI's contract suite for WebSocket transports, faults included."""

from typing import ClassVar

from zcli_core.testing import WebSocketTransportContract

from zcli_skeleton import zcli_websocket_transports


class TestSkeleton(WebSocketTransportContract):
    """Tests the provider that the hook returns, with a limit that no test reaches."""

    transport = zcli_websocket_transports()[0]
    settings: ClassVar = {"skeleton": {"messages_per_second": 1e9}}
