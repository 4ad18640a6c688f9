"""Telling people what is installed: one description per plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zcli_core.host import KINDS, PluginHost, PluginRecord

if TYPE_CHECKING:
    from zcli_core.config import Config

_PROVIDER_HOOKS = frozenset(kind.hook for kind in KINDS)


class PluginDescription(NamedTuple):
    """One installed plugin, for people.

    ``state`` is ``"active"``, ``"available"`` (loaded, but nothing that it provides is selected), ``"disabled"`` or
    ``"broken"``; ``cause`` says why it is broken. ``provides`` holds ``{"kind", "name", "summary"}`` of each offer.
    """

    name: str
    state: str
    distribution: str
    version: str
    provides: list[dict[str, str]]
    hooks: tuple[str, ...]
    cause: str | None


def describe_plugins(host: PluginHost, config: Config | None) -> list[PluginDescription]:
    """Every installed plugin. Without a configuration nothing is active."""
    return [
        PluginDescription(
            record.name,
            _state(record, config),
            record.entry_point.distribution,
            record.entry_point.version,
            [
                {"kind": kind.label, "name": provider.name, "summary": provider.summary}
                for kind, providers in record.offers.items()
                for provider in providers
            ],
            record.hooks,
            record.cause,
        )
        for record in host.records.values()
    ]


def _state(record: PluginRecord, config: Config | None) -> str:
    if record.state != "loaded":
        return record.state
    if config is not None and (_does_more_than_provide(record) or _is_selected(record, config)):
        return "active"
    return "available"


def _does_more_than_provide(record: PluginRecord) -> bool:
    return not _PROVIDER_HOOKS.issuperset(record.hooks)


def _is_selected(record: PluginRecord, config: Config) -> bool:
    return any(
        kind.setting is None or not {provider.name, *provider.aliases}.isdisjoint(_selected(config.get(kind.setting)))
        for kind, providers in record.offers.items()
        for provider in providers
    )


def _selected(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
