"""What the host knows: the kinds of things that plugins provide, and a record of each installed plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from zcli_core.plugins.contract import Provider
    from zcli_core.plugins.discovery import EntryPoint


class Kind(NamedTuple):
    """A kind of provider: its name for people, the hook that declares it and the setting that selects one, or some.

    ``setting`` is None for a kind of which all are in use, each by its name. ``contract`` is the class that what is
    made has to be like, ``suite`` the contract suite that tells whether it is.
    """

    label: str
    hook: str
    setting: str | None
    contract: str
    suite: str

    @property
    def plural(self) -> str:
        """Several of them, for people."""
        return f"{self.label[:-1]}ies" if self.label.endswith("y") else f"{self.label}s"


HTTP_TRANSPORT = Kind(
    "HTTP transport",
    "zcli_http_transports",
    "http.transport",
    "zcli_core.http.contract.HttpTransport",
    "zcli_core.testing.HttpTransportContract",
)
WEBSOCKET_TRANSPORT = Kind(
    "WebSocket transport",
    "zcli_websocket_transports",
    "websocket.transport",
    "zcli_core.websocket.contract.Transport",
    "zcli_core.testing.WebSocketTransportContract",
)
AUTH_STRATEGY = Kind(
    "auth strategy",
    "zcli_auth_strategies",
    "websocket.auth",
    "zcli_core.auth.contract.AuthStrategy",
    "zcli_core.testing.AuthStrategyContract",
)
SERVICE = Kind(
    "service",
    "zcli_service_backends",
    None,
    "zcli_core.services.contract.ServiceBackend",
    "zcli_core.testing.ServiceBackendContract",
)
KINDS = (HTTP_TRANSPORT, WEBSOCKET_TRANSPORT, AUTH_STRATEGY, SERVICE)


class PluginRecord:
    """What the host knows of one installed plugin.

    ``state`` is ``"found"`` (not loaded yet), ``"loaded"``, ``"disabled"`` or ``"broken"``; then ``cause`` says why.
    ``offers`` holds what it provides, by kind; ``hooks`` the names of the hooks it implements.
    """

    def __init__(self, entry_point: EntryPoint) -> None:
        self.entry_point = entry_point
        self.state = "found"
        self.cause: str | None = None
        self.plugin: Any = None
        self.hooks: tuple[str, ...] = ()
        self.offers: dict[Kind, list[Provider[Any]]] = {}

    @property
    def name(self) -> str:
        """The plugin's name: that of its entry point."""
        return self.entry_point.name

    @property
    def origin(self) -> str:
        """The distribution and version it was installed with."""
        return f"{self.entry_point.distribution} {self.entry_point.version}".rstrip()

    def __str__(self) -> str:
        """Plugin, distribution and version, as messages name it."""
        return f"{self.name} ({self.origin})"


class Offer(NamedTuple):
    """Something that a plugin provides, and that plugin."""

    record: PluginRecord
    provider: Provider[Any]
