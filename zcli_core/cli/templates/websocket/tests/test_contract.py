"""What zCLI asks of every WebSocket transport, under fault too, held against this one."""

from typing import ClassVar

from zcli_core.testing import WebSocketTransportContract

from zcli_skeleton import zcli_websocket_transports


class TestSkeleton(WebSocketTransportContract):
    """The provider is the one that the hook offers."""

    transport = zcli_websocket_transports()[0]


class TestSkeletonWithALimit(WebSocketTransportContract):
    """The same with a limit that nobody reaches."""

    transport = zcli_websocket_transports()[0]
    settings: ClassVar = {"skeleton": {"messages_per_second": 1e9}}
