"""The plugin host: discovery, blocking, fault isolation, and the choice of providers by name."""

from zcli_core.host.host import PluginHost
from zcli_core.host.loading import describe_error
from zcli_core.host.records import (
    AUTH_STRATEGY,
    HTTP_TRANSPORT,
    KINDS,
    SERVICE,
    WEBSOCKET_TRANSPORT,
    Kind,
    Offer,
    PluginRecord,
)

__all__ = [
    "AUTH_STRATEGY",
    "HTTP_TRANSPORT",
    "KINDS",
    "SERVICE",
    "WEBSOCKET_TRANSPORT",
    "Kind",
    "Offer",
    "PluginHost",
    "PluginRecord",
    "describe_error",
]
