"""The kinds of providers, and the record of each installed plugin."""

from __future__ import annotations

from keyword import iskeyword
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from zcli_core.plugins.contract import Provider
    from zcli_core.plugins.discovery import EntryPoint


class Kind(NamedTuple):
    """A kind of provider.

    Attributes:
        label: Name of the kind in messages, such as ``"HTTP transport"``.
        hook: Hook that declares providers of this kind.
        setting: Key of the setting that selects providers by name; None if all providers are in use.
        contract: Path of the class that describes what a factory must return.
        suite: Path of the contract suite that tests it.
        taken: For a kind whose names become attributes: the names that are attributes already; otherwise None.
    """

    label: str
    hook: str
    setting: str | None
    contract: str
    suite: str
    taken: frozenset[str] | None = None

    @property
    def plural(self) -> str:
        """The label for several providers."""
        return f"{self.label[:-1]}ies" if self.label.endswith("y") else f"{self.label}s"

    def name_error(self, name: str) -> str | None:
        """Return why a provider of this kind cannot have a name, as a sentence; None if it can."""
        if self.taken is None:
            return None
        if name in self.taken:
            return f"it provides a {self.label} with the name {name!r}, but z.{name} is an attribute of zCLI already"
        if not name.isidentifier() or iskeyword(name) or name.startswith("_"):
            return (
                f"it provides a {self.label} with the name {name!r}, which cannot be the name of an attribute; use a "
                "letter, then letters, digits and _"
            )
        return None


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
BACKPLANE = Kind(
    "backplane",
    "zcli_backplanes",
    "websocket.backplane",
    "zcli_core.backplane.contract.Backplane",
    "zcli_core.testing.BackplaneContract",
)
SUBSYSTEM = Kind(
    "subsystem",
    "zcli_subsystems",
    None,
    "zcli_core.subsystems.contract.Subsystem",
    "zcli_core.testing.SubsystemContract",
    taken=frozenset({"close", "comm", "config", "log", "log_file", "logger", "plugins", "shutdown", "subsystem"}),
)
KINDS = (HTTP_TRANSPORT, WEBSOCKET_TRANSPORT, AUTH_STRATEGY, SERVICE, BACKPLANE, SUBSYSTEM)


class PluginRecord:
    """The state of one installed plugin.

    Attributes:
        entry_point: Where the plugin is.
        state: ``"found"`` (not loaded yet), ``"loaded"``, ``"disabled"`` or ``"broken"``.
        cause: Why it is broken, as a sentence, or None.
        plugin: The plugin itself, if it is loaded.
        hooks: Names of the hooks that it implements.
        providers: Its providers by kind.
    """

    def __init__(self, entry_point: EntryPoint) -> None:
        self.entry_point = entry_point
        self.state = "found"
        self.cause: str | None = None
        self.plugin: Any = None
        self.hooks: tuple[str, ...] = ()
        self.providers: dict[Kind, list[Provider[Any]]] = {}

    @property
    def name(self) -> str:
        """Name of the plugin and of its entry point."""
        return self.entry_point.name

    @property
    def origin(self) -> str:
        """Distribution and version, as in ``"zcli-core 0.1.0"``."""
        return f"{self.entry_point.distribution} {self.entry_point.version}".rstrip()

    def __str__(self) -> str:
        """Return plugin, distribution and version."""
        return f"{self.name} ({self.origin})"


class RegisteredProvider(NamedTuple):
    """A provider and the plugin that provides it."""

    record: PluginRecord
    provider: Provider[Any]
