"""Builds the configuration: loads the plugins, reads their layers once and merges them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.config.config import Config
from zcli_core.config.contract import Entry, LayerContext
from zcli_core.config.layering import resolve
from zcli_core.config.names import OVERLAYS, OVERLAYS_VARIABLE
from zcli_core.config.reading import LayerReader, Reading, needs_of, value_in_force
from zcli_core.config.sections import CORE_SECTIONS
from zcli_core.config.settings import Setting, UnusableValue, declared_settings, find_clash, verify_types
from zcli_core.errors import ConfigError
from zcli_core.net.tls_settings import check_tls_files
from zcli_core.security_warnings import SecurityWarning
from zcli_core.suggestions import suggestion
from zcli_core.system.trusted import script_file

if TYPE_CHECKING:
    from zcli_core.config.contract import ConfigLayer
    from zcli_core.config.resolution import Resolution
    from zcli_core.plugins.host import PluginHost

_CORE = "zcli-core"
_DISABLE = "plugins.disable"


class Assembly(NamedTuple):
    """A configuration with its problems and warnings, one sentence each.

    A configuration with problems can be shown, but not used: values that cannot be used are missing from it.

    Attributes:
        config: The configuration.
        problems: What makes the configuration unusable.
        warnings: What to log after the log is opened.
        entries: The entries of all layers, not converted.
    """

    config: Config
    problems: list[str]
    warnings: list[str]
    entries: list[Entry]


def configure(host: PluginHost, zspark: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """Load the plugins, merge the configuration layers and return the configuration and the warnings.

    Raises:
        ConfigError: The configuration has mistakes. The error holds all mistakes of all layers.
    """
    found = assemble(host, zspark)
    if found.problems:
        raise ConfigError(found.problems)
    if not found.config.misspelt_in("http"):  # an error once the script uses HTTP
        check_tls_files(found.config, "http")  # at the start, instead of at the first HTTP call
    return found.config, found.warnings


def assemble(host: PluginHost, zspark: Mapping[str, Any]) -> Assembly:
    """Load the plugins and merge the configuration layers, even if the configuration cannot be used.

    The plugins of the group ``zcli.first`` are loaded before the others, because their layers may set
    ``plugins.disable``, and a disabled plugin is not imported.
    """
    settings = core_settings()
    context = _context(settings, zspark)
    reader = LayerReader(context)
    host.load(_disabled_at_first(context), first_only=True)
    layers = host.collect("zcli_config_layers", check_layer)
    disabled: tuple[str, ...] = value_in_force(_DISABLE, reader.read(layer for _, layer in layers), context)
    first = _loaded(host)
    host.load(disabled)
    for name in first.intersection(disabled):
        host.drop(name, "disabled")
    loaded = _loaded(host)
    add_plugins_settings(host, settings)
    host.collect_providers()
    layers += host.collect("zcli_config_layers", check_layer, skip=first)
    in_use = _loaded(host)
    resolution = _merge(host, reader, [layer for name, layer in layers if name in in_use], context)
    config = Config(settings, resolution)
    problems = resolution.problems + _disabled_too_late(config, disabled)
    warnings = [*host.warnings, *resolution.warnings, *_missing_layers_of(host, loaded)]
    warnings += _unknown_names(host, disabled) + _sections_of_missing_plugins(host, settings, zspark)
    warnings += _without_effect(config)
    _check_choices(host, config, problems, warnings)
    if not problems:
        warnings += _export(resolution)
    return Assembly(config, problems, warnings, resolution.entries)


def _loaded(host: PluginHost) -> set[str]:
    return {name for name, record in host.records.items() if record.state == "loaded"}


def core_settings() -> dict[str, Setting]:
    """Return the settings of the core by key."""
    return {s.key: s for section in CORE_SECTIONS for s in declared_settings(section, _CORE)}


def _context(settings: Mapping[str, Setting], zspark: Mapping[str, Any]) -> LayerContext:
    script = script_file()
    return LayerContext(
        zspark=zspark,
        environ=dict(os.environ),
        working_directory=_working_directory(),
        script_directory=os.path.dirname(script) if script else None,
        settings=settings,
    )


def _disabled_at_first(context: LayerContext) -> tuple[str, ...]:
    """Return ``plugins.disable`` as the environment and zSpark set it, which need no plugin to be read.

    Overlays are left out, because a layer that is not read yet may set the deployment.
    """
    entries = [Entry(name, value, name, is_variable=True) for name, value in context.environ.items()]
    entries += [Entry(str(name), value, "zSpark") for name, value in context.zspark.items()]
    entries = [entry for entry in entries if entry.name.partition(".")[0] not in (OVERLAYS, OVERLAYS_VARIABLE)]
    disabled: tuple[str, ...] = value_in_force(_DISABLE, [Reading(_Start(), entries)], context)
    return disabled


class _Start(NamedTuple):
    """Stands for the layers before any plugin is loaded."""

    name: str = "start"
    order: int = 0

    def read(self, context: LayerContext) -> tuple[Entry, ...]:
        return ()


def _merge(host: PluginHost, reader: LayerReader, layers: list[ConfigLayer], context: LayerContext) -> Resolution:
    readings = reader.read(layers)
    resolution = resolve(readings, context.settings, context)
    resolution.entries = [entry for reading in readings for entry in reading.entries]
    resolution.env_file = next((reading.env_file for reading in readings if reading.env_file), None)
    for warning in (each for reading in readings for each in reading.warnings):
        resolution.warn(warning)
    resolution.problems += _circles(layers, resolution)
    if all(map(needs_of, layers)):  # every layer needs a setting, and no layer can set one
        what = "no plugin in use provides configuration layers, so no configuration is in force"
        resolution.problems.append(_missing_layers(host, what))
    elif context.zspark and not any(reading.read_zspark for reading in readings):
        what = "no plugin in use reads zSpark, so nothing that the script sets is in force"
        resolution.problems.append(_missing_layers(host, what))
    return resolution


def _missing_layers_of(host: PluginHost, loaded: Collection[str]) -> list[str]:
    """Warn of broken plugins that may have given layers: those that were loaded, or that belong to ``zcli.first``."""
    what = "the plugin {} is broken, so the settings of its configuration layers are not in force"
    broken = [record for record in host.records.values() if record.state == "broken"]
    return [SecurityWarning(what.format(each)) for each in broken if each.name in loaded or each.entry_point.first]


def _missing_layers(host: PluginHost, what: str) -> str:
    from zcli_core.system.installation import OURS, install_again

    lines = [what]
    disabled = [str(record) for record in host.records.values() if record.state == "disabled"]
    lines += [f"the plugin {record} is disabled by plugins.disable" for record in disabled] + host.problems()
    lines.append(f"the plugin zcli_layers of zcli-core provides the usual layers: {install_again(OURS)}")
    return "\n     ".join(lines)


def _circles(layers: list[ConfigLayer], resolution: Resolution) -> list[str]:
    """Return a problem for each layer that sets the place from which it is itself read."""
    return [
        f"{key}: {value.origin} cannot set this, because it decides from where the layer {layer.name!r} is read; "
        "set it in another layer"
        for layer in layers
        for key in needs_of(layer)
        for value in resolution.values.get(key, ())
        if value.layer == layer.name
    ]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted while the script runs
        return os.sep


def check_layer(item: Any) -> None:
    """Check an item that the hook ``zcli_config_layers`` gave.

    Raises:
        TypeError: The item is not a configuration layer; the message says what is wrong.
    """
    if not (isinstance(getattr(item, "name", None), str) and isinstance(getattr(item, "order", None), (int, float))):
        raise TypeError(f"a configuration layer needs a name and an order, got {item!r}")
    if not callable(getattr(item, "read", None)):
        raise TypeError(f"the configuration layer {item.name!r} has no method read(context)")
    needs = getattr(item, "needs", ())
    if not isinstance(needs, (tuple, list)) or not all(isinstance(key, str) for key in needs):
        raise TypeError(
            f"the attribute needs of the configuration layer {item.name!r} must be a tuple of keys, got {needs!r}"
        )


def add_plugins_settings(host: PluginHost, settings: dict[str, Setting]) -> None:
    """Add the settings that plugins declare. A plugin whose settings clash with others is disabled as broken."""
    by_plugin: dict[str, list[Setting]] = {}
    for plugin, section in host.collect("zcli_settings", lambda item: verify_types(declared_settings(item, ""))):
        by_plugin.setdefault(plugin, []).extend(declared_settings(section, plugin))
    for plugin, declared in sorted(by_plugin.items()):
        clash = find_clash(declared, settings.values())
        if clash is None:
            settings.update((s.key, s) for s in declared)
        else:
            host.drop(plugin, "broken", f"its settings cannot be used: {clash}")


def _disabled_too_late(config: Config, blocked: Iterable[str]) -> list[str]:
    """Return a problem if a layer sets ``plugins.disable`` that is read only after all plugins are loaded."""
    late = [name for name in config.plugins.disable if name not in blocked]
    if not late:
        return []
    found = config.explain(_DISABLE)
    return [
        f"{_DISABLE} ({found.origin}): the layer {found.layer!r} is read after the plugins are loaded; set it in "
        "another layer"
    ]


def _check_choices(host: PluginHost, config: Config, problems: list[str], warnings: list[str]) -> None:
    """Add a problem for each selected provider that cannot be used.

    A default that cannot be used is an error only when it is used. For a variable that other software may have set,
    the problem is a warning until then.
    """
    from zcli_core.plugins.records import KINDS

    for kind in KINDS:
        if kind.setting is None:
            continue
        found = config.explain(kind.setting)
        if found.layer != "defaults" and not isinstance(found.value, UnusableValue):  # there is a warning already
            from zcli_core.plugins.selection import unusable_choices

            shared = found.origin in config.settings[kind.setting].variables[1:]
            (warnings if shared else problems).extend(unusable_choices(host, kind, config))


def _without_effect(config: Config) -> list[str]:
    """Return a warning for each setting that is set although the setting that it needs has another value."""
    found = []
    for key, setting in config.settings.items():
        other, wanted = setting.declaration.only_with or ("", "")
        if other not in config.settings or config.explain(key).value == setting.default:
            continue
        there = config.explain(other)
        if there.value != wanted and not isinstance(there.value, UnusableValue):
            origin = "the default" if there.layer == "defaults" else there.origin
            found.append(
                f"{key} ({config.explain(key).origin}) has no effect, because {other} is {there.value!r} ({origin}); "
                f"set {other} to {wanted!r}, or remove {key}"
            )
    return found


def _unknown_names(host: PluginHost, disabled: Iterable[str]) -> list[str]:
    return [
        SecurityWarning(
            f"plugins.disable names {name!r}, but no such plugin is installed{suggestion(name, host.records)}"
        )
        for name in disabled
        if name not in host.records
    ]


def _sections_of_missing_plugins(
    host: PluginHost, settings: Mapping[str, Setting], zspark: Mapping[str, Any]
) -> list[str]:
    """Warn of sections in zSpark that no plugin declares, if a plugin is not in use that may have declared them.

    The environment can disable a plugin that protects something, although zSpark is the higher layer.
    """
    missing = [f"{record} ({record.state})" for record in host.records.values() if record.state != "loaded"]
    if not missing:
        return []
    known = {key.partition(".")[0] for key in settings} | {"deployments"}
    unread = [
        repr(str(name)) for name, value in zspark.items() if isinstance(value, Mapping) and str(name) not in known
    ]
    what = "zSpark sets {}, which no plugin in use declares; it may belong to a plugin that is not in use: {}"
    return [SecurityWarning(what.format(name, ", ".join(missing))) for name in unread]


def _export(resolution: Resolution) -> list[str]:
    """Put the variables that other libraries read into the process's environment; return warnings.

    Otherwise a library that reads the environment would use another value than the one in force.
    """
    if not resolution.exported:
        return []
    from zcli_core.config.steering import steers

    steering = sorted(filter(steers, resolution.exported))
    replaced = []
    for name in sorted(resolution.exported.difference(steering)):
        value = resolution.variables[name]
        if os.environ.get(name, value) != value:
            replaced.append(name)
        os.environ[name] = value
    warnings = []
    if replaced:
        warnings.append(f"the .zEnv replaces the values of {', '.join(replaced)} in the environment of this process")
    if steering:
        warnings.append(
            f"the .zEnv sets {', '.join(steering)}, which is not put into the environment of this process, because it "
            "would decide what other programs load, run or trust; set it before the program starts"
        )
    return warnings
