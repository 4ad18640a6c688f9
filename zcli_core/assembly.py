"""From installed plugins and their layers to one configuration."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.config.config import Config
from zcli_core.config.contract import LayerContext
from zcli_core.config.conversion import ConversionError, convert
from zcli_core.config.layering import Resolution, resolve
from zcli_core.config.reading import needs_of, read_layers
from zcli_core.config.sections import CORE_SECTIONS
from zcli_core.config.settings import Setting, UnusableValue, declared_settings, find_clash, verify_types
from zcli_core.errors import ConfigError
from zcli_core.security_warnings import SecurityWarning
from zcli_core.suggestions import suggestion
from zcli_core.system.trusted import script_file

if TYPE_CHECKING:
    from zcli_core.config.contract import ConfigLayer, Entry
    from zcli_core.plugins.host import PluginHost

_CORE = "zcli-core"
_DISABLE = "plugins.disable"


class Assembly(NamedTuple):
    """A configuration, what is wrong with it, one sentence each, and what to warn of.

    With ``problems`` it is good for looking into, and for nothing else: what cannot be used is not in it.
    """

    config: Config
    problems: list[str]
    warnings: list[str]
    #: What the layers gave, as they gave it.
    entries: list[Entry]


def configure(host: PluginHost, zspark: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """Load the plugins and lay the layers over each other: the configuration, and what to warn of.

    :raises ConfigError: every mistake of every layer at once.
    """
    found = assemble(host, zspark)
    if found.problems:
        raise ConfigError(found.problems)
    if not found.config.misspelt_in("http"):  # an error once the script uses HTTP
        _check_http_files(found.config)
    return found.config, found.warnings


def assemble(host: PluginHost, zspark: Mapping[str, Any]) -> Assembly:
    """As :func:`configure`, for whoever wants to see a configuration that cannot be used.

    The plugins that ask to be first are loaded before the others, for their layers can say which of the others are
    not to be imported.
    """
    settings = core_settings()
    files: dict[str, bytes] = {}
    host.load(_disabled_at_first(settings[_DISABLE], zspark), first_only=True)
    blocked = _read(host, settings, zspark, files).top(_DISABLE, ())
    blocked = blocked if isinstance(blocked, tuple) else ()  # a value that cannot be used is reported below
    host.load(blocked)
    for name in blocked:
        if name in host.records and host.records[name].state == "loaded":
            host.drop(name, "disabled")
    add_plugins_settings(host, settings)
    host.collect_providers()
    resolution = _read(host, settings, zspark, files)
    config = Config(settings, resolution)
    problems = resolution.problems + _disabled_too_late(config, blocked)
    warnings = [*host.warnings, *resolution.warnings, *_unknown_names(host, blocked)]
    warnings += _sections_of_missing_plugins(host, settings, zspark)
    _check_choices(host, config, problems, warnings)
    if not problems:
        warnings += _export(resolution)
    return Assembly(config, problems, warnings, resolution.entries)


def _check_http_files(config: Config) -> None:
    """Raise ConfigError for an invalid certificate file at the start, instead of at the first HTTP call."""
    if config.http.ca_file or config.http.client_cert or config.http.client_key:
        from zcli_core.net.tls_files import check_tls_files

        check_tls_files(config, "http")


def core_settings() -> dict[str, Setting]:
    """The settings that the core itself declares, by key."""
    return {s.key: s for section in CORE_SECTIONS for s in declared_settings(section, _CORE)}


def _disabled_at_first(setting: Setting, zspark: Mapping[str, Any]) -> tuple[str, ...]:
    """What is known to be disabled before any layer can be read. A mistake in it is reported when layers are."""
    section = zspark.get("plugins")
    said = section.get("disable") if isinstance(section, Mapping) else None
    for value in (said, zspark.get(_DISABLE), os.environ.get(setting.variables[0])):
        if value not in (None, ""):
            with contextlib.suppress(ConversionError):
                names: tuple[str, ...] = convert(value, setting)
                return names
    return ()


def _read(
    host: PluginHost, settings: Mapping[str, Setting], zspark: Mapping[str, Any], files: dict[str, bytes]
) -> Resolution:
    context = _context(settings, zspark, files)
    working = {name for name, record in host.records.items() if record.state == "loaded"}
    layers = [layer for _, layer in host.collect("zcli_config_layers", check_layer)]
    readings = read_layers(layers, settings, context)
    resolution = resolve(readings, settings, context)
    resolution.entries = [entry for reading in readings for entry in reading.entries]
    resolution.env_file = context.env_file_in_use
    resolution.warnings += context.warnings
    resolution.problems += _circles(layers, resolution)
    if all(map(needs_of, layers)):  # one that has to be told where to read is told by nobody
        what = "no plugin in use gives configuration layers, so nothing that is configured would be in force"
        resolution.problems.append(_missing_layers(host, what))
    elif zspark and not context.zspark_was_read:
        what = "no plugin in use reads zSpark, so nothing that the script sets would be in force"
        resolution.problems.append(_missing_layers(host, what))
    for record in host.records.values():
        # A plugin of the group zcli.first that is broken would most likely have given some.
        if record.state == "broken" and (record.name in working or record.entry_point.first):
            what = "what its configuration layers set is not in force"
            resolution.warnings.append(SecurityWarning(f"the plugin {record} is broken, so {what}"))
    return resolution


def _context(settings: Mapping[str, Setting], zspark: Mapping[str, Any], files: dict[str, bytes]) -> LayerContext:
    script = script_file()
    return LayerContext(
        zspark=zspark,
        environ=dict(os.environ),
        working_directory=_working_directory(),
        script_directory=os.path.dirname(script) if script else None,
        settings=settings,
        files=files,
    )


def _missing_layers(host: PluginHost, what: str) -> str:
    from zcli_core.system.installation import OURS, install_again

    lines = [what]
    disabled = [str(record) for record in host.records.values() if record.state == "disabled"]
    lines += [f"the plugin {record} is disabled by plugins.disable" for record in disabled] + host.problems()
    lines.append(f"zcli-core brings the plugin zcli_layers: {install_again(OURS)}")
    return "\n     ".join(lines)


def _circles(layers: list[ConfigLayer], resolution: Resolution) -> list[str]:
    """What a layer sets that says where the layer itself is read: it comes too late."""
    return [
        f"{key}: {value.origin} cannot set it, because it says where the layer {layer.name!r} is read; set it in "
        "another layer"
        for layer in layers
        for key in needs_of(layer)
        for value in resolution.values.get(key, ())
        if value.layer == layer.name
    ]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted under the script
        return os.sep


def check_layer(item: Any) -> None:
    """Raise TypeError, saying what is wrong, for what a hook gave and is no configuration layer."""
    if not (isinstance(getattr(item, "name", None), str) and isinstance(getattr(item, "order", None), (int, float))):
        raise TypeError(f"a configuration layer needs a name and an order, got {item!r}")
    if not callable(getattr(item, "read", None)):
        raise TypeError(f"the configuration layer {item.name!r} has no method read(context)")
    needs = getattr(item, "needs", ())
    if not isinstance(needs, (tuple, list)) or not all(isinstance(key, str) for key in needs):
        raise TypeError(f"the configuration layer {item.name!r} needs settings by key, as a tuple, not {needs!r}")


def add_plugins_settings(host: PluginHost, settings: dict[str, Setting]) -> None:
    """Add the sections that plugins declare. One that clashes with what is there costs its plugin its place."""
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
    """A layer of a plugin that is not loaded first cannot say what is not to be loaded: to ignore it would load it."""
    late = [name for name in config.plugins.disable if name not in blocked]
    if not late:
        return []
    found = config.explain(_DISABLE)
    return [
        f"{_DISABLE} ({found.origin}): the layer {found.layer!r} is read when plugins are loaded already; "
        "set it in another layer"
    ]


def _check_choices(host: PluginHost, config: Config, problems: list[str], warnings: list[str]) -> None:
    """Add what somebody chose and cannot be used. A default that is missing matters only once it is used.

    So does a variable that other software may have set.
    """
    from zcli_core.plugins.records import KINDS

    for kind in KINDS:
        if kind.setting is None:
            continue
        found = config.explain(kind.setting)
        if found.layer != "defaults" and not isinstance(found.value, UnusableValue):  # that is warned of already
            from zcli_core.plugins.choice import impossible_choices

            shared = found.origin in config.settings[kind.setting].variables[1:]
            (warnings if shared else problems).extend(impossible_choices(host, kind, config))


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
    """Warn of what the script sets and no plugin declares, if a plugin is disabled or broken: it may protect something.

    The environment can disable a plugin, such as one with a layer of secrets, although zSpark is the higher layer.
    """
    missing = [f"{record} ({record.state})" for record in host.records.values() if record.state != "loaded"]
    if not missing:
        return []
    known = {key.partition(".")[0] for key in settings} | {"deployments"}
    unread = [
        repr(str(name)) for name, value in zspark.items() if isinstance(value, Mapping) and str(name) not in known
    ]
    what = "zSpark sets {}, which no plugin in use declares; it may be for a plugin that is not in use: {}"
    return [SecurityWarning(what.format(name, ", ".join(missing))) for name in unread]


def _export(resolution: Resolution) -> list[str]:
    """Give other libraries the variables that are theirs, and say which ones had another value.

    Otherwise a library that reads the environment would use another value than zCLI says is in force.
    """
    if not resolution.foreign:
        return []
    from zcli_core.config.steering import steers

    steering = sorted(filter(steers, resolution.foreign))
    replaced = []
    for name in sorted(resolution.foreign.difference(steering)):
        value = resolution.variables[name]
        if os.environ.get(name, value) != value:
            replaced.append(name)
        os.environ[name] = value
    warnings = []
    if replaced:
        warnings.append(f"the .zEnv replaces what the environment of this process said for {', '.join(replaced)}")
    if steering:
        warnings.append(
            f"the .zEnv sets {', '.join(steering)}; this does not reach the environment of this process, because it "
            "would decide what other programs load, run or trust. Set it before the program starts"
        )
    return warnings
