"""A WebSocket transport that runs under uvicorn and can serve an ASGI application too. It needs the extra ``asgi``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.config.settings import Section
    from zcli_core.websocket.contract import Transport

ZCLI_CONTRACT = 1


def _transport(context: Context) -> Transport:
    from zcli_asgi.transport import make_transport

    return make_transport(context)


@hookimpl
def zcli_settings() -> Iterable[type[Section]]:
    """Declare the section ``asgi``."""
    from zcli_asgi.settings import Asgi

    return [Asgi]


@hookimpl
def zcli_websocket_transports() -> Iterable[Provider[Transport]]:
    """Offer the transport ``uvicorn``; uvicorn is imported when it is selected."""
    return [
        Provider(
            "uvicorn", "uvicorn, which serves an ASGI application on the same port", _transport,
            needs=("uvicorn", "websockets"), install="uvicorn[standard]>=0.54",
        )
    ]  # fmt: skip
