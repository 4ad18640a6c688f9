"""Selects providers by name, calls their factories, and describes why a provider cannot be used.

This module is imported when the first provider is selected.
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
    from zcli_core.plugins.records import Kind, PluginRecord, RegisteredProvider


def selected_names(kind: Kind, config: Config) -> tuple[str, ...]:
    """Return the names that the configuration selects, each once, in its order.

    Raises:
        ValueError: No setting selects providers of this kind.
    """
    if kind.setting is None:
        raise ValueError(f"no setting selects a {kind.label}; give its name")
    selected = config.get(kind.setting)
    return (selected,) if isinstance(selected, str) else tuple(dict.fromkeys(selected))


def choose(host: PluginHost, kind: Kind, name: str, config: Config) -> RegisteredProvider:
    """Return the provider of that name.

    Raises:
        ConfigError: No plugin provides it, several plugins do and ``plugins.prefer`` names none of them, or the plugin
            that ``plugins.prefer`` names does not provide it.
    """
    providers = host.providers(kind)
    candidates = providers.get(name, [])
    if not candidates:
        raise ConfigError(_not_provided_error(host, kind, name, config, providers))
    preferred = config.plugins.prefer.get(name)
    if preferred is not None and not _is_of_another_kind(host, kind, name, preferred):
        candidates = [each for each in candidates if each.record.name == preferred]
        if not candidates:
            raise ConfigError(_preferred_plugin_error(host, kind, name, config, providers[name]))
    if len(candidates) > 1:
        raise ConfigError(_ambiguous_error(kind, name, config, candidates))
    return candidates[0]


def _is_of_another_kind(host: PluginHost, kind: Kind, name: str, plugin: str) -> bool:
    """Return whether a plugin provides a name only as another kind: a service and a transport may share a name."""
    record = host.records.get(plugin)
    kinds = () if record is None else [each for each, found in record.providers.items() if name in names_of(found)]
    return bool(kinds) and kind not in kinds


def require_installed(host: PluginHost, kind: Kind, name: str, config: Config) -> RegisteredProvider:
    """Return the provider of that name if the modules that it needs are installed. Nothing is imported.

    Raises:
        ConfigError: As for :func:`choose`, or a module that the provider needs is not installed.
    """
    chosen = choose(host, kind, name, config)
    missing = chosen.provider.missing()
    if missing:
        raise ConfigError(_not_installed_error(kind, chosen, config, missing))
    return chosen


def make(host: PluginHost, kind: Kind, name: str, context: Context) -> tuple[PluginRecord, Any]:
    """Call the factory of the provider of that name.

    Returns:
        The plugin and what the factory returned.

    Raises:
        ConfigError: As for :func:`require_installed`, a name is misspelt in the sections of the plugin, or the factory
            failed.
    """
    chosen = require_installed(host, kind, name, context.config)
    settings = context.config.settings.values()
    context.config.refuse_misspelt(*{s.section.section_name for s in settings if s.provider == chosen.record.name})
    try:
        return chosen.record, chosen.provider.factory(context)
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if raised_by_signal(error):
            raise
        raise ConfigError(
            f"{_subject(kind, chosen, context.config)} cannot be created: {_cause(chosen.record, error)}"
        ) from error


def unusable_choices(host: PluginHost, kind: Kind, config: Config) -> list[str]:
    """Return a problem for each name that the configuration selects and that cannot be used. Nothing is imported."""
    problems: list[str] = []
    for name in selected_names(kind, config):
        try:
            require_installed(host, kind, name, config)
        except ConfigError as error:
            problems += error.problems
    return problems


def pip_command(provider: Provider[Any]) -> str | None:
    """Return the command that installs what a provider needs; None if the provider does not name it."""
    return f"pip install '{provider.install}'" if provider.install else None


def installed_and_installable(providers: Mapping[str, list[RegisteredProvider]]) -> tuple[list[str], list[str]]:
    """Return the names that can be used now, and those that need an installation, with the command."""
    installed: list[str] = []
    installable: list[str] = []
    # Without aliases, which would look like further providers.
    by_name = {each.provider.name: each.provider for candidates in providers.values() for each in candidates}
    for name, provider in sorted(by_name.items()):
        missing = provider.missing()
        if missing:
            installable.append(f"{name} ({pip_command(provider) or 'it needs ' + ' and '.join(missing)})")
        else:
            installed.append(name)
    return installed, installable


# --- error messages ---


def _asked_by(kind: Kind, config: Config) -> str:
    if kind.setting is None:
        return ""
    found = config.explain(kind.setting)
    if found.layer == "defaults":
        return f", which is the default of {kind.setting},"
    return f", which {kind.setting} ({found.origin}) selects,"


def _subject(kind: Kind, chosen: RegisteredProvider, config: Config) -> str:
    return f"the {kind.label} {chosen.provider.name!r} of the plugin {chosen.record}{_asked_by(kind, config)}"


def _not_provided_error(
    host: PluginHost, kind: Kind, name: str, config: Config, providers: Mapping[str, list[RegisteredProvider]]
) -> str:
    installed, installable = installed_and_installable(providers)
    asked_by = _asked_by(kind, config).removesuffix(",")
    message = f"no plugin provides the {kind.label} {name!r}{asked_by}{suggestion(name, providers)}"
    message += f"\n     installed: {', '.join(installed) or 'none'}"
    if installable:
        message += f"\n     installable: {', '.join(installable)}"
    for record in host.records.values():  # one of these may provide it
        if record.state == "broken":
            message += f"\n     the plugin {record} is broken: {record.cause}"
        elif record.state == "disabled":
            message += f"\n     the plugin {record} is disabled by plugins.disable"
    return message


def _ambiguous_error(kind: Kind, name: str, config: Config, candidates: list[RegisteredProvider]) -> str:
    *others, last = [str(each.record) for each in candidates]
    first = candidates[0].record.name
    count = "two" if len(candidates) == 2 else str(len(candidates))
    return (
        f"the {kind.label} {name!r}{_asked_by(kind, config)} is provided by {count} "
        f"plugins: {', '.join(others)} and {last}; choose one with plugins.prefer, such as {{{name}: {first}}} or "
        f"ZCLI_PLUGINS_PREFER={name}={first}, or disable the other with plugins.disable"
    )


def _preferred_plugin_error(
    host: PluginHost, kind: Kind, name: str, config: Config, candidates: list[RegisteredProvider]
) -> str:
    preferred = config.plugins.prefer[name]
    origin = config.explain("plugins.prefer").origin
    record = host.records.get(preferred)
    if record is None:
        why = f"which is not installed{suggestion(preferred, [each.record.name for each in candidates])}"
    elif record.state == "broken":
        why = f"which is broken: {record.cause}"
    elif record.state == "disabled":
        why = "which plugins.disable disables"
    else:
        why = "which does not provide it"
    there = " and ".join(str(each.record) for each in candidates)
    return (
        f"plugins.prefer ({origin}) wants the {kind.label} {name!r} from the plugin {preferred}, {why}; {there} "
        f"{'does' if len(candidates) == 1 else 'do'}"
    )


def _not_installed_error(kind: Kind, chosen: RegisteredProvider, config: Config, missing: list[str]) -> str:
    several = len(missing) > 1
    command = pip_command(chosen.provider)
    return (
        f"{_subject(kind, chosen, config)} needs the module{'s' if several else ''} {' and '.join(missing)}, which "
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
        f"it imports the module {error.name}, which is not installed, and its Provider does not name what installs it "
        f"(needs and install); ask the authors of {record.entry_point.distribution}"
    )
