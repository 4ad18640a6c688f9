"""What zCLI asks of every WebSocket transport, under fault too, held against this one."""

from typing import ClassVar

from zcli_core.testing import WebSocketTransportContract

from zcli_skeleton import zcli_websocket_transports


class TestSkeleton(WebSocketTransportContract):
    """The provider is the one that the hook offers; the limit is in place and nobody reaches it."""

    transport = zcli_websocket_transports()[0]
    settings: ClassVar = {"skeleton": {"messages_per_second": 1e9}}
