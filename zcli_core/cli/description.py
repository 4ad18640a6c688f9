"""Descriptions of the installed plugins, for ``zcli plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.loading import names_of
from zcli_core.plugins.records import KINDS, PluginRecord
from zcli_core.plugins.selection import pip_command, selected_names

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.contract import Provider
    from zcli_core.plugins.records import Kind

_PROVIDER_HOOKS = frozenset(kind.hook for kind in KINDS)


class PluginDescription(NamedTuple):
    """One installed plugin.

    Attributes:
        state: ``"active"``; ``"available"`` (loaded, but none of its providers is selected); ``"installable"`` (none is
            selected, and all of them need a module that is not installed); ``"disabled"``; or ``"broken"``.
        provides: For each provider ``kind``, ``name``, ``summary``, ``missing`` (modules that are not installed) and
            ``install`` (the command that installs them, or None).
        cause: Why the plugin is broken, or None.
    """

    name: str
    state: str
    distribution: str
    version: str
    provides: list[dict[str, Any]]
    hooks: tuple[str, ...]
    cause: str | None


def describe_plugins(host: PluginHost, config: Config | None) -> list[PluginDescription]:
    """Describe every installed plugin. Without a configuration, no plugin is active."""
    return [
        PluginDescription(
            record.name,
            _state(record, config),
            record.entry_point.distribution,
            record.entry_point.version,
            [
                _describe_provider(kind, provider)
                for kind, providers in record.providers.items()
                for provider in providers
            ],
            record.hooks,
            record.cause,
        )
        for record in host.records.values()
    ]


def _describe_provider(kind: Kind, provider: Provider[Any]) -> dict[str, Any]:
    return {
        "kind": kind.label,
        "name": provider.name,
        "summary": provider.summary,
        "missing": provider.missing(),
        "install": pip_command(provider),
    }


def _state(record: PluginRecord, config: Config | None) -> str:
    if record.state != "loaded":
        return record.state
    if config is not None and (_has_other_hooks(record) or _is_selected(record, config)):
        return "active"
    offered = [provider for providers in record.providers.values() for provider in providers]
    return "installable" if offered and all(provider.missing() for provider in offered) else "available"


def _has_other_hooks(record: PluginRecord) -> bool:
    # The settings of a provider have no effect until it is selected.
    passive = {*_PROVIDER_HOOKS, "zcli_settings"} if record.providers else _PROVIDER_HOOKS
    return not passive.issuperset(record.hooks)


def _is_selected(record: PluginRecord, config: Config) -> bool:
    return any(
        kind.setting is None or not names_of(providers).isdisjoint(selected_names(kind, config))
        for kind, providers in record.providers.items()
        if providers
    )
