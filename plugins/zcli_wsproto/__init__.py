"""The default WebSocket transport: an asyncio protocol, h11 for the upgrade, wsproto under guard for the frames."""

from zcli_core import hookimpl
from zcli_core.contracts.provider import Provider

ZCLI_CONTRACT = 1


def _make(context):  # type: ignore[no-untyped-def]
    from zcli_wsproto.transport import WsprotoTransport

    return WsprotoTransport(context.log)


@hookimpl
def zcli_websocket_transports():  # type: ignore[no-untyped-def]
    """Give the transport ``wsproto``; asyncio, h11 and wsproto are imported when it is selected."""
    return [Provider("wsproto", "pure Python, RFC 6455 and permessage-deflate", _make)]
