"""Explains which provider is selected, where it was set and what the alternatives are; describes installed plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.errors import ConfigError
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.loading import names_of
from zcli_core.plugins.records import KINDS, SERVICE, SUBSYSTEM, Kind, PluginRecord, RegisteredProvider
from zcli_core.plugins.selection import choose, pip_command, require_installed, selected_names
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from zcli_core.config import Config, Explanation
    from zcli_core.plugins.contract import Provider

_SERVICES = "services."


class Candidate(NamedTuple):
    """A provider that can be selected.

    Attributes:
        name: Name of the provider.
        aliases: Other names of it.
        summary: What it is, in a few words.
        plugin: Name of the plugin.
        distribution: Distribution that the plugin is from.
        version: Version of the distribution.
        missing: Modules that it needs and that are not installed.
        install: Command that installs them, or None if the plugin does not name it.
    """

    name: str
    aliases: tuple[str, ...]
    summary: str
    plugin: str
    distribution: str
    version: str
    missing: tuple[str, ...]
    install: str | None


class ChoiceExplanation(NamedTuple):
    """Which providers a setting selects, and why.

    Attributes:
        key: Key of the setting that selects by name, or of the service, such as ``"services.redis"``.
        kind: Label of the kind, such as ``"HTTP transport"``.
        setting: Explanation of the setting; None for a service, which no setting selects.
        preference: Explanation of ``plugins.prefer`` if that decides, or None.
        chosen: Providers in use.
        others: Other providers of the same kind.
        problems: Why selected providers cannot be used, as sentences.
    """

    key: str
    kind: str
    setting: Explanation | None
    preference: Explanation | None
    chosen: tuple[Candidate, ...]
    others: tuple[Candidate, ...]
    problems: tuple[str, ...]


def explain_choice(host: PluginHost, config: Config, key: str) -> ChoiceExplanation:
    """Explain a setting that selects plugins (``"websocket.transport"``), a service (``"redis"``) or a subsystem.

    Raises:
        ValueError: ``key`` is something else; the message suggests a similar key.
    """
    kind = next((kind for kind in KINDS if kind.setting == key), None)
    if kind is not None:
        names, setting = selected_names(kind, config), config.explain(key)
        candidates = _distinct(host, kind)
    else:
        setting = None
        kind, name = _kind_and_name(host, config, key)
        names, candidates = (name,), host.providers(kind)[name]
        key = _SERVICES + name if kind == SERVICE else name
    chosen: list[RegisteredProvider] = []
    problems: list[str] = []
    for name in names:
        try:
            chosen.append(choose(host, kind, name, config))
            require_installed(host, kind, name, config)
        except ConfigError as error:
            problems += error.problems
    decided = any(name in config.plugins.prefer for name in names)
    others = [each for each in candidates if each not in chosen]
    return ChoiceExplanation(
        key,
        kind.label,
        setting,
        config.explain("plugins.prefer") if decided else None,
        tuple(map(_candidate, chosen)),
        tuple(map(_candidate, others)),
        tuple(problems),
    )


def _distinct(host: PluginHost, kind: Kind) -> list[RegisteredProvider]:
    found = [each for candidates in host.providers(kind).values() for each in candidates]
    return sorted(dict.fromkeys(found), key=lambda each: (each.provider.name, each.record.name))


def _candidate(registered: RegisteredProvider) -> Candidate:
    record, provider = registered
    point = record.entry_point
    return Candidate(
        provider.name,
        provider.aliases,
        provider.summary,
        record.name,
        point.distribution,
        point.version,
        tuple(provider.missing()),
        pip_command(provider),
    )


def _kind_and_name(host: PluginHost, config: Config, key: str) -> tuple[Kind, str]:
    """Return the kind and the name of a service or a subsystem."""
    services, subsystems = host.providers(SERVICE), host.providers(SUBSYSTEM)
    name = key.removeprefix(_SERVICES)
    if name in services:
        return SERVICE, name
    if key in subsystems:
        return SUBSYSTEM, key
    if key in config.settings:
        raise ValueError(
            f"the setting {key} does not select a plugin; `zcli config {key}` shows its value and where it was set"
        )
    for kind in KINDS:
        if kind.setting is not None and key in host.providers(kind):
            raise ValueError(f"{key!r} is the name of a {kind.label}; use the key {kind.setting}, which selects it")
    settings = [kind.setting for kind in KINDS if kind.setting is not None]
    known = [*settings, *services, *(_SERVICES + service for service in services), *subsystems]
    message = f"{key!r} is not a setting that selects plugins, a service or a subsystem{suggestion(key, known)}"
    message += f"\n     settings: {', '.join(settings)}\n     services: {', '.join(sorted(services)) or 'none'}"
    message += f"\n     subsystems: {', '.join(sorted(subsystems)) or 'none'}"
    raise ValueError("\n     ".join([message, *host.problems()]))


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
