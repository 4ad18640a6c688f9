"""Reading the configuration layers. If a layer fails, its problem is reported and the other layers are still read.

A layer may need the value of a setting to know what to read: the layer of secret files needs ``secrets_dir.folder``.
Such a layer is read after all layers that need no setting. If another such layer then changes the value that it needs,
it is read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from zcli_core.config.contract import ConfigLayer, Entry, LayerContext, LayerProblem, UntrustedSource
from zcli_core.config.layering import resolve
from zcli_core.config.names import OVERLAYS, OVERLAYS_VARIABLE
from zcli_core.config.resolution import Value
from zcli_core.config.settings import UnusableValue
from zcli_core.redaction import describe_place
from zcli_core.system.trusted import UntrustedProblem

#: The values of the settings that a layer needs; None for a setting that no plugin declares.
Needed = dict[str, Value | None]


class Reading(NamedTuple):
    """The result of reading one layer.

    Attributes:
        layer: The layer.
        entries: Its entries.
        problem: Why the layer cannot be used, as a sentence; None if it can.
        directories: The folders that it added to ``context.base_directories``, where relative paths are looked up.
        env_file: The path of the ``.zEnv`` that it read, or None.
        read_zspark: Whether it accessed ``context.zspark``.
        settings_seen: The number of declared settings when it accessed ``context.settings``; None if it did not.
        warnings: The warnings of the layer.
    """

    layer: ConfigLayer
    entries: list[Entry]
    problem: str | None = None
    directories: Sequence[str | os.PathLike[str]] = ()
    env_file: str | None = None
    read_zspark: bool = False
    settings_seen: int | None = None
    warnings: Sequence[str] = ()


class LayerReader:
    """Reads layers for one start. A layer is read again only if something that it accessed has changed."""

    def __init__(self, context: LayerContext) -> None:
        self._context = context
        # By the id of the layer, which need not be hashable.
        self._readings: dict[int, Reading] = {}
        self._needed: dict[int, Needed] = {}

    def read(self, layers: Iterable[ConfigLayer]) -> list[Reading]:
        """Read all layers; those that need settings are read last.

        A layer gets the settings that it needs from all other layers, even from those with a higher order.
        """
        layers = list(layers)
        needing = sorted(filter(needs_of, layers), key=lambda layer: layer.order, reverse=True)
        readings = [self._read(layer, {}) for layer in layers if not needs_of(layer)]
        if needing:
            readings += self._read_needing(needing, readings)
        self._context.base_directories = _directories(readings)
        return readings

    def _read_needing(self, layers: list[ConfigLayer], independent: list[Reading]) -> list[Reading]:
        relevant = _RelevantEntries({key for layer in layers for key in needs_of(layer)}, self._context)
        # Only entries that set a needed setting matter here; most layers have none.
        said = [relevant.part_of(reading) for reading in independent]
        parts: dict[int, Reading] = {}
        for _ in range(len(layers) + 1):
            again = False
            changed = []
            for index, layer in enumerate(layers):
                others = said + [part for other, part in parts.items() if other != index]
                self._context.base_directories = _directories(others)
                before = parts.get(index)
                parts[index] = relevant.part_of(self._read(layer, relevant.values(needs_of(layer), others)))
                if parts[index] != before and any(map(_has_effect, (before, parts[index]))):
                    changed.append(layer)
                    again |= index > 0  # the layers before this one do not have its values yet
            if not again:
                return [self._readings[id(layer)] for layer in layers]
        names = " and ".join(repr(layer.name) for layer in changed)
        first, *others = [self._readings[id(layer)] for layer in layers]
        return [
            first._replace(problem=f"the configuration layers {names} each set the place from which the other is read"),
            *others,
        ]

    def context_for(self, layer: ConfigLayer) -> LayerContext:
        """Return the context with the settings that the layer got when it was last read."""
        self._context.needed = self._needed[id(layer)]
        return self._context

    def _read(self, layer: ConfigLayer, needed: Needed) -> Reading:
        """Return the last reading of a layer if it is still valid; otherwise read the layer."""
        last = self._readings.get(id(layer))
        if (
            last is None
            or self._needed[id(layer)] != needed
            or last.settings_seen not in (None, len(self._context.settings))
        ):
            self._needed[id(layer)] = self._context.needed = needed
            last = self._readings[id(layer)] = read_layer(layer, self._context)
        return last


def _has_effect(reading: Reading | None) -> bool:
    return reading is not None and bool(reading.entries or reading.directories)


def _directories(readings: Iterable[Reading]) -> list[str | os.PathLike[str]]:
    return [directory for reading in readings for directory in reading.directories]


def needs_of(layer: ConfigLayer) -> tuple[str, ...]:
    """Return the keys of the settings that a layer needs to know where to read."""
    return tuple(getattr(layer, "needs", ()))


def read_layer(layer: ConfigLayer, context: LayerContext) -> Reading:
    """Read one layer."""
    context.begin_reading()
    entries: list[Entry] = []
    problem: str | None = None
    try:
        entries = list(layer.read(context))
        for entry in entries:
            _check_entry(entry, layer)
    except UntrustedSource as error:
        problem = UntrustedProblem(error)
    except LayerProblem as error:
        problem = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise SystemExit, or a panic of an extension module
        problem = f"the configuration layer {layer.name!r} failed: {describe_place(error)}"
    return Reading(
        layer,
        [] if problem else entries,
        problem,
        () if problem else context.base_directories,
        context.env_file_in_use,
        context.zspark_was_read,
        len(context.settings) if context.settings_were_read else None,
        context.warnings,
    )


def _check_entry(entry: Any, layer: ConfigLayer) -> None:
    if not (isinstance(entry, Entry) and isinstance(entry.name, str)):
        raise LayerProblem(f"the configuration layer {layer.name!r} must yield Entry objects with a name")
    if entry.is_variable and not (entry.value is None or isinstance(entry.value, str)):
        raise LayerProblem(
            f"the configuration layer {layer.name!r}: the value of the variable {entry.name} must be a string"
        )


def value_in_force(key: str, readings: Iterable[Reading], context: LayerContext) -> Any:
    """Return the value of a declared setting from these readings; the default if it is not set or cannot be used."""
    relevant = _RelevantEntries([key], context)
    found = relevant.values([key], [relevant.part_of(reading) for reading in readings])[key]
    return context.settings[key].default if found is None or isinstance(found.value, UnusableValue) else found.value


class _RelevantEntries:
    """Selects the entries that set some settings, and finds the values of these settings."""

    def __init__(self, keys: Iterable[str], context: LayerContext) -> None:
        self._context = context
        declared = context.settings
        self._settings = {key: declared[key] for key in (*keys, "deployment") if key in declared}
        settings = self._settings.values()
        self._variables = {name for each in settings for name in (*each.variables, *each.composites)}
        self._variables.add(OVERLAYS_VARIABLE)
        self._tops = {key.partition(".")[0] for key in (*self._settings, "deployment", OVERLAYS)}

    def part_of(self, reading: Reading) -> Reading:
        """Return the reading with only the entries that may set these settings."""
        entries = [
            entry
            for entry in reading.entries
            if (entry.name in self._variables if entry.is_variable else self._may_set(entry.name))
        ]
        return reading._replace(entries=entries)

    def _may_set(self, name: str) -> bool:
        """Return whether an entry of this name may set one of the settings, alone or as a mapping of several."""
        top, dot, _ = name.partition(".")
        if not dot or top == OVERLAYS:
            return top in self._tops
        return any(name == key or key.startswith(f"{name}.") or name.startswith(f"{key}.") for key in self._settings)

    def values(self, keys: Iterable[str], parts: list[Reading]) -> Needed:
        """Return the values in force of these settings. Mistakes are reported later, by the merge of all layers."""
        found = resolve(parts, self._settings, self._context).values
        return {key: self._value(key, found.get(key)) for key in keys}

    def _value(self, key: str, values: list[Value] | None) -> Value | None:
        if values:
            return values[-1]
        setting = self._settings.get(key)
        return None if setting is None else Value(setting.default, "defaults", setting.provider)
