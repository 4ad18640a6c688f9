"""The two responses of the console: the page, and the state of the server behind the gate."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from zcli_console.page import make_page
from zcli_console.state import state_of
from zcli_core.net.origins import parse_origin
from zcli_core.websocket.contract import PlainResponse, Request
from zcli_core.websocket.parts.addresses import parse_ip

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.websocket.facade import WebSocketServer

_STATE = "/console/state"


def respond(
    request: Request, admits: Callable[[], bool], server: WebSocketServer, config: Config
) -> PlainResponse | None:
    """Return the page or the state; None for every other request."""
    if request.path == _STATE:
        if not _names_this_server(request, config) or not admits():
            text = "the server would not admit a WebSocket client with this address and credential"
            return _json(403, {"error": text})
        return _json(200, state_of(server, names=config.deployment == "Development"))
    if request.path == "/" and "text/html" in request.headers.get("accept", ""):
        return make_page(request, config)
    return None


def _names_this_server(request: Request, config: Config) -> bool:
    """Whether the page that sends the request is one of this server, as far as the ``Host`` header can show it.

    A browser sends no ``Origin`` with a GET of a page's own host, so the gate cannot check it. A site can make its own
    name resolve to this server (DNS rebinding) and then read the state. With ``require_auth`` it has no credential. A
    site cannot have an address as its name, and over TLS it has no certificate for this server.
    """
    if config.websocket.require_auth or request.tls:
        return True
    host = parse_origin(f"http://{request.headers.get('host', '')}")
    if host is None:
        return False
    name = host.host
    machine = socket.gethostname().lower()
    own = {"localhost", machine, f"{machine}.local", config.websocket.host.lower()}
    return name in own or name.endswith(".localhost") or parse_ip(name.strip("[]")) is not None


def _json(status: int, content: object) -> PlainResponse:
    headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    return PlainResponse(status, json.dumps(content).encode() + b"\n", headers)
