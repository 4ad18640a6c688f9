"""Choosing what to use by its name, having it made, and saying what is wrong where that cannot be.

Imported when something is chosen for the first time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zcli_core.errors import ConfigError, raised_by_signal
from zcli_core.plugins.loading import describe_error, names_of
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zcli_core.config import Config
    from zcli_core.plugins.contract import Context, Provider
    from zcli_core.plugins.host import PluginHost
    from zcli_core.plugins.records import Kind, Offer, PluginRecord


def selected_names(kind: Kind, config: Config) -> tuple[str, ...]:
    """The names that the configuration selects, each once, in its order."""
    if kind.setting is None:
        raise ValueError(f"no setting selects a {kind.label}: name it")
    selected = config.get(kind.setting)
    return (selected,) if isinstance(selected, str) else tuple(dict.fromkeys(selected))


def choose(host: PluginHost, kind: Kind, name: str, config: Config) -> Offer:
    """The offer of that name.

    :raises ConfigError: nobody provides it, several do and ``plugins.prefer`` does not decide between them, or the
        plugin that it names does not.
    """
    offers = host.providers(kind)
    candidates = offers.get(name, [])
    if not candidates:
        raise ConfigError(_absence(host, kind, name, config, offers))
    preferred = config.plugins.prefer.get(name)
    if preferred is not None and not _is_of_another_kind(host, kind, name, preferred):
        candidates = [offer for offer in candidates if offer.record.name == preferred]
        if not candidates:
            raise ConfigError(_vain_preference(host, kind, name, config, offers[name]))
    if len(candidates) > 1:
        raise ConfigError(_ambiguity(kind, name, config, candidates))
    return candidates[0]


def _is_of_another_kind(host: PluginHost, kind: Kind, name: str, plugin: str) -> bool:
    """Whether the preference of a plugin for a name is about something else: a service and a backplane of one name."""
    record = host.records.get(plugin)
    kinds = () if record is None else [of for of, providers in record.offers.items() if name in names_of(providers)]
    return bool(kinds) and kind not in kinds


def choose_complete(host: PluginHost, kind: Kind, name: str, config: Config) -> Offer:
    """As :func:`choose`, and what it needs is installed; nothing of it is imported.

    :raises ConfigError: as :func:`choose` does, or something that the provider needs is not installed.
    """
    offer = choose(host, kind, name, config)
    missing = offer.provider.missing()
    if missing:
        raise ConfigError(_incompleteness(kind, offer, config, missing))
    return offer


def make(host: PluginHost, kind: Kind, name: str, context: Context) -> tuple[PluginRecord, Any]:
    """What the provider of that name makes, and its plugin.

    :raises ConfigError: as :func:`choose_complete` does, or the factory failed.
    """
    offer = choose_complete(host, kind, name, context.config)
    settings = context.config.settings.values()
    context.config.refuse_misspelt(*{s.section.section_name for s in settings if s.provider == offer.record.name})
    try:
        return offer.record, offer.provider.factory(context)
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if raised_by_signal(error):
            raise
        raise ConfigError(
            f"{_subject(kind, offer, context.config)} cannot be made: {_cause(offer.record, error)}"
        ) from error


def impossible_choices(host: PluginHost, kind: Kind, config: Config) -> list[str]:
    """One problem for each name that the configuration selects and that cannot be used. Nothing is imported."""
    problems: list[str] = []
    for name in selected_names(kind, config):
        try:
            choose_complete(host, kind, name, config)
        except ConfigError as error:
            problems += error.problems
    return problems


def pip_command(provider: Provider[Any]) -> str | None:
    """What installs what a provider needs; None where it does not say."""
    return f"pip install '{provider.install}'" if provider.install else None


def installed_and_installable(offers: Mapping[str, list[Offer]]) -> tuple[list[str], list[str]]:
    """The names that can be chosen now, and those that can once something is installed, with the command for it."""
    installed: list[str] = []
    installable: list[str] = []
    # By their own names: an alias would look like one more.
    by_name = {offer.provider.name: offer.provider for candidates in offers.values() for offer in candidates}
    for name, provider in sorted(by_name.items()):
        missing = provider.missing()
        if missing:
            installable.append(f"{name} ({pip_command(provider) or 'it needs ' + ' and '.join(missing)})")
        else:
            installed.append(name)
    return installed, installable


# --- what is wrong, as sentences ---


def _asked_by(kind: Kind, config: Config) -> str:
    if kind.setting is None:
        return ""
    found = config.explain(kind.setting)
    if found.layer == "defaults":
        return f", which is the default of {kind.setting},"
    return f", which {kind.setting} ({found.origin}) asks for,"


def _subject(kind: Kind, offer: Offer, config: Config) -> str:
    return f"the {kind.label} {offer.provider.name!r} of the plugin {offer.record}{_asked_by(kind, config)}"


def _absence(host: PluginHost, kind: Kind, name: str, config: Config, offers: Mapping[str, list[Offer]]) -> str:
    installed, installable = installed_and_installable(offers)
    asked_by = _asked_by(kind, config).removesuffix(",")
    message = f"no plugin provides the {kind.label} {name!r}{asked_by}{suggestion(name, offers)}"
    message += f"\n     installed: {', '.join(installed) or 'none'}"
    if installable:
        message += f"\n     installable: {', '.join(installable)}"
    for record in host.records.values():  # it may have been one of these
        if record.state == "broken":
            message += f"\n     the plugin {record} is broken: {record.cause}"
        elif record.state == "disabled":
            message += f"\n     the plugin {record} is disabled by plugins.disable"
    return message


def _ambiguity(kind: Kind, name: str, config: Config, candidates: list[Offer]) -> str:
    *others, last = [str(offer.record) for offer in candidates]
    first = candidates[0].record.name
    count = "two" if len(candidates) == 2 else str(len(candidates))
    return (
        f"the {kind.label} {name!r}{_asked_by(kind, config)} is provided by {count} "
        f"plugins: {', '.join(others)} and {last}; say which one with plugins.prefer, as in {{{name}: {first}}} or "
        f"ZCLI_PLUGINS_PREFER={name}={first}, or disable the other with plugins.disable"
    )


def _vain_preference(host: PluginHost, kind: Kind, name: str, config: Config, candidates: list[Offer]) -> str:
    preferred = config.plugins.prefer[name]
    origin = config.explain("plugins.prefer").origin
    record = host.records.get(preferred)
    if record is None:
        why = f"which is not installed{suggestion(preferred, [offer.record.name for offer in candidates])}"
    elif record.state == "broken":
        why = f"which is broken: {record.cause}"
    elif record.state == "disabled":
        why = "which plugins.disable disables"
    else:
        why = "which does not provide it"
    there = " and ".join(str(offer.record) for offer in candidates)
    return (
        f"plugins.prefer ({origin}) wants the {kind.label} {name!r} from the plugin {preferred}, {why}; {there} "
        f"{'does' if len(candidates) == 1 else 'do'}"
    )


def _incompleteness(kind: Kind, offer: Offer, config: Config, missing: list[str]) -> str:
    several = len(missing) > 1
    command = pip_command(offer.provider)
    return (
        f"{_subject(kind, offer, config)} needs the module{'s' if several else ''} {' and '.join(missing)}, which "
        f"{'are' if several else 'is'} not installed" + (f": {command}" if command else "")
    )


def _cause(record: PluginRecord, error: BaseException) -> str:
    if not (isinstance(error, ModuleNotFoundError) and error.name):
        return describe_error(error)
    own = record.entry_point.value.partition(":")[0].partition(".")[0]
    if error.name.partition(".")[0] == own:
        distribution = record.entry_point.distribution
        from zcli_core.system.installation import install_again

        return f"its own module {error.name} is missing: {install_again(distribution)}"
    return (
        f"it imports the module {error.name}, which is not installed, and the plugin does not say what installs it "
        f"(its Provider's needs and install); ask the authors of {record.entry_point.distribution}"
    )
