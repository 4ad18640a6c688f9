"""The default WebSocket transport: asyncio, and a decoder in Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Transport

ZCLI_CONTRACT = 1


def _transport(context: Context) -> Transport:
    from zcli_wsproto.transport import WsprotoTransport

    return WsprotoTransport(context.log)


@hookimpl
def zcli_websocket_transports() -> Iterable[Provider[Transport]]:
    """Offer the transport ``wsproto``; asyncio is imported when it is selected."""
    return [Provider("wsproto", "pure Python, RFC 6455 and permessage-deflate", _transport)]
