"""Why this plugin: which name is selected, by whom, which plugin provides it, and what else there would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zcli_core.errors import ConfigError
from zcli_core.plugins.choice import choose, choose_complete, pip_command, selected_names
from zcli_core.plugins.records import KINDS, SERVICE, Kind, Offer
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from zcli_core.config import Config, Explanation
    from zcli_core.plugins.host import PluginHost

_SERVICES = "services."


class Candidate(NamedTuple):
    """Something that could be chosen.

    ``missing`` are modules that it needs and that are not installed, ``install`` the command that brings them, if the
    plugin tells.
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
    """Why things are chosen as they are.

    ``key`` is the setting that selects by name, or the service; ``setting`` says who set it (None for a service, which
    no setting selects), and ``preference`` who set ``plugins.prefer``, where that decides. ``chosen`` is what is in
    use, ``others`` what else could be. ``problems`` says in sentences why something that is selected cannot be used.
    """

    key: str
    kind: str
    setting: Explanation | None
    preference: Explanation | None
    chosen: tuple[Candidate, ...]
    others: tuple[Candidate, ...]
    problems: tuple[str, ...]


def explain_choice(host: PluginHost, config: Config, key: str) -> ChoiceExplanation:
    """Explain a setting that selects plugins (``"websocket.transport"``) or a service (``"redis"``).

    :raises ValueError: ``key`` is neither; the message says what it is, or may have been meant.
    """
    kind = next((kind for kind in KINDS if kind.setting == key), None)
    if kind is not None:
        names, setting = selected_names(kind, config), config.explain(key)
        candidates = _distinct(host, kind)
    else:
        kind, setting = SERVICE, None
        names = (_service_name(host, config, key),)
        candidates = host.providers(SERVICE)[names[0]]
        key = _SERVICES + names[0]
    chosen: list[Offer] = []
    problems: list[str] = []
    for name in names:
        try:
            chosen.append(choose(host, kind, name, config))
            choose_complete(host, kind, name, config)
        except ConfigError as error:
            problems += error.problems
    decided = any(name in config.plugins.prefer for name in names)
    others = [offer for offer in candidates if offer not in chosen]
    return ChoiceExplanation(
        key,
        kind.label,
        setting,
        config.explain("plugins.prefer") if decided else None,
        tuple(map(_candidate, chosen)),
        tuple(map(_candidate, others)),
        tuple(problems),
    )


def _distinct(host: PluginHost, kind: Kind) -> list[Offer]:
    found = [offer for offers in host.providers(kind).values() for offer in offers]
    return sorted(dict.fromkeys(found), key=lambda offer: (offer.provider.name, offer.record.name))


def _candidate(offer: Offer) -> Candidate:
    record, provider = offer
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


def _service_name(host: PluginHost, config: Config, key: str) -> str:
    services = host.providers(SERVICE)
    name = key.removeprefix(_SERVICES)
    if name in services:
        return name
    if key in config.settings:
        raise ValueError(f"{key} selects no plugin; `zcli config {key}` tells which value it has, and who set it")
    for kind in KINDS:
        if kind.setting is not None and key in host.providers(kind):
            raise ValueError(f"{key!r} is the name of a {kind.label}; ask for {kind.setting}, which selects one")
    settings = [kind.setting for kind in KINDS if kind.setting is not None]
    known = [*settings, *services, *(_SERVICES + service for service in services)]
    message = f"{key!r} is neither a setting that selects plugins nor a service{suggestion(key, known)}"
    message += f"\n     settings: {', '.join(settings)}\n     services: {', '.join(sorted(services)) or 'none'}"
    raise ValueError("\n     ".join([message, *host.problems()]))
