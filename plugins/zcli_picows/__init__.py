"""A WebSocket transport over picows, whose parser is in C: the extra ``fast``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.contracts.provider import Context, Provider

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Transport

ZCLI_CONTRACT = 1


def _transport(context: Context) -> Transport:
    from zcli_picows.transport import PicowsTransport

    return PicowsTransport(context.log)


@hookimpl
def zcli_websocket_transports() -> Iterable[Provider[Transport]]:
    """Offer the transport ``picows``."""
    return [
        Provider(
            "picows", "RFC 6455 over picows, a parser in C", _transport, needs=("picows",), install="zcli-core[fast]"
        )
    ]
