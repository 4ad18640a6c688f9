"""Responses of plugins to plain HTTP requests on the WebSocket port: the hook ``zcli_websocket_http``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zcli_core.net.headers import check_header
from zcli_core.plugins.contract import Context
from zcli_core.plugins.host import PluginHost
from zcli_core.websocket.contract import PlainResponse, Request

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.websocket.facade import WebSocketServer

_HOOK = "zcli_websocket_http"
#: The transport adds these itself, from the body.
_OF_THE_TRANSPORT = frozenset({"connection", "content-length", "transfer-encoding"})

#: Takes a request, and whether the gate would admit its client; returns the response of a plugin, or None.
AskPlugins = Callable[[Request, Callable[[], bool]], "PlainResponse | None"]


def make_ask(config: Config, host: PluginHost, log: logging.Logger, server: WebSocketServer) -> AskPlugins | None:
    """Return a function that asks the plugins for a response; None if no plugin implements the hook."""
    ask = host.asker(_HOOK, check_response, log)
    if ask is None:
        return None
    context = Context(config, log)

    def ask_plugins(request: Request, admits: Callable[[], bool]) -> PlainResponse | None:
        response: PlainResponse | None = ask(request, admits, server, context)
        return response

    return ask_plugins


def check_response(response: Any) -> None:
    """Check that a response can be sent, so that the log names the plugin otherwise.

    Raises:
        TypeError: It is not a response.
        ValueError: The status, or a header, is not allowed.
    """
    if not isinstance(response, PlainResponse):
        raise TypeError(f"expected a PlainResponse or None, got {type(response).__name__}")
    if not isinstance(response.body, bytes):
        raise TypeError(f"the body must be bytes, got {type(response.body).__name__}")
    if type(response.status) is not int or not 200 <= response.status <= 599:
        raise ValueError(f"the status must be an integer from 200 to 599, got {response.status!r}")
    for name, value in response.headers:
        check_header(name, value)
        if name.lower() in _OF_THE_TRANSPORT:
            raise ValueError(f"zCLI sets the header {name} itself")
