"""The console: a page on the WebSocket port that shows what the server does, in Development or if it is turned on.

The page itself has no secrets, so every client can get it. What it shows comes over a WebSocket of its own and from
``/console/state``, which is behind the server's gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl

if TYPE_CHECKING:
    from zcli_core.config.settings import Section
    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.contract import PlainResponse, Request
    from zcli_core.websocket.facade import WebSocketServer

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings() -> Iterable[type[Section]]:
    """Declare the section ``console``."""
    from zcli_console.settings import Console

    return [Console]


@hookimpl
def zcli_websocket_http(
    request: Request, admits: Callable[[], bool], server: WebSocketServer, context: Context
) -> PlainResponse | None:
    """Respond with the page at ``/``, and with the server's state at ``/console/state``."""
    from zcli_console.settings import is_on

    if not is_on(context.config):
        return None
    from zcli_console.responses import respond

    return respond(request, admits, server, context.config)
