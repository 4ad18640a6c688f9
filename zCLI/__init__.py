"""zCLI: one configured, logged, connected object for a script.

>>> from zCLI import zCLI
>>> z = zCLI({"title": "my-script"})

``__all__`` lists the public names: what scripts and plugins call, catch and annotate. A name other than ``zCLI`` is
imported when it is first used, because most scripts need no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zcli_core import __version__
from zcli_core.app import zCLI
from zcli_core.printable import print_line

if TYPE_CHECKING:
    from zcli_core.auth.contract import Identified, Rejected
    from zcli_core.backplane.contract import Member
    from zcli_core.comm import Comm
    from zcli_core.config.config import Config
    from zcli_core.config.resolution import Explanation
    from zcli_core.config.settings import Section, setting
    from zcli_core.errors import (
        BackplaneFailure,
        ConfigError,
        ConnectionClosed,
        EventError,
        ListenError,
        WorkerError,
        ZCLIError,
    )
    from zcli_core.http.contract import Headers, HttpFailure, HttpRequest, HttpResponse, HttpStatusError
    from zcli_core.plugins.contract import Context, Provider
    from zcli_core.plugins.hookspecs import hookimpl
    from zcli_core.services.failures import ServiceFailure
    from zcli_core.types import (
        BackplaneMetrics,
        ClientInfo,
        ConnectionInfo,
        Histogram,
        HttpMetrics,
        ServerMetrics,
        ServerStatus,
        ServiceState,
        ServiceStatus,
        WebSocketMetrics,
        WorkerStatus,
    )
    from zcli_core.websocket.blocking import BlockingConnection
    from zcli_core.websocket.callbacks import ConnectionCallback, Handler
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import Message, Request
    from zcli_core.websocket.facade import WebSocketServer
    from zcli_core.websocket.recipients import Delivery
    from zcli_core.websocket.running_server import RunningServer
    from zcli_core.websocket.server_run import BackgroundServer
    from zcli_core.zspark import ZSpark

__all__ = [
    "BackgroundServer",
    "BackplaneFailure",
    "BackplaneMetrics",
    "BlockingConnection",
    "ClientInfo",
    "Comm",
    "Config",
    "ConfigError",
    "ConnectionCallback",
    "ConnectionClosed",
    "ConnectionInfo",
    "Context",
    "Delivery",
    "EventError",
    "Explanation",
    "Handler",
    "Headers",
    "Histogram",
    "HttpFailure",
    "HttpMetrics",
    "HttpRequest",
    "HttpResponse",
    "HttpStatusError",
    "Identified",
    "ListenError",
    "Member",
    "Message",
    "Provider",
    "Rejected",
    "Request",
    "RunningServer",
    "Section",
    "ServerConnection",
    "ServerMetrics",
    "ServerStatus",
    "ServiceFailure",
    "ServiceState",
    "ServiceStatus",
    "WebSocketMetrics",
    "WebSocketServer",
    "WorkerError",
    "WorkerStatus",
    "ZCLIError",
    "ZSpark",
    "__version__",
    "hookimpl",
    "print_line",
    "setting",
    "zCLI",
]

#: The modules of the names that are imported when they are first used.
_MODULES = {
    "zcli_core.auth.contract": ("Identified", "Rejected"),
    "zcli_core.backplane.contract": ("Member",),
    "zcli_core.comm": ("Comm",),
    "zcli_core.config.config": ("Config",),
    "zcli_core.config.resolution": ("Explanation",),
    "zcli_core.config.settings": ("Section", "setting"),
    "zcli_core.errors": (
        "BackplaneFailure",
        "ConfigError",
        "ConnectionClosed",
        "EventError",
        "ListenError",
        "WorkerError",
        "ZCLIError",
    ),
    "zcli_core.http.contract": ("Headers", "HttpFailure", "HttpRequest", "HttpResponse", "HttpStatusError"),
    "zcli_core.plugins.contract": ("Context", "Provider"),
    "zcli_core.plugins.hookspecs": ("hookimpl",),
    "zcli_core.services.failures": ("ServiceFailure",),
    "zcli_core.types": (
        "BackplaneMetrics",
        "ClientInfo",
        "ConnectionInfo",
        "Histogram",
        "HttpMetrics",
        "ServerMetrics",
        "ServerStatus",
        "ServiceState",
        "ServiceStatus",
        "WebSocketMetrics",
        "WorkerStatus",
    ),
    "zcli_core.websocket.server_run": ("BackgroundServer",),
    "zcli_core.websocket.blocking": ("BlockingConnection",),
    "zcli_core.websocket.callbacks": ("ConnectionCallback", "Handler"),
    "zcli_core.websocket.connection": ("ServerConnection",),
    "zcli_core.websocket.contract": ("Message", "Request"),
    "zcli_core.websocket.facade": ("WebSocketServer",),
    "zcli_core.websocket.recipients": ("Delivery",),
    "zcli_core.websocket.running_server": ("RunningServer",),
    "zcli_core.zspark": ("ZSpark",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
