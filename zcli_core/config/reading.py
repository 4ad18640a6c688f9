"""Reading the layers, each on its own: one that fails gives a problem and no entries.

A layer may need the value of a setting to know where to read. It is read after the layers that need nothing, and again
if another layer that needs a setting then says something else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.config.contract import ConfigLayer, Entry, LayerContext, LayerProblem, UntrustedSource
from zcli_core.config.explanation import Value
from zcli_core.redaction import describe_place
from zcli_core.system.trusted import UntrustedProblem

if TYPE_CHECKING:
    from zcli_core.config.settings import Setting

#: What decides which overlay applies, to whatever setting.
_ALWAYS = ("deployment", "deployments")


class Reading(NamedTuple):
    """What one layer gave, or the problem it had."""

    layer: ConfigLayer
    entries: list[Entry]
    problem: str | None = None
    #: The folders that it has added to ``context.base_directories``.
    directories: Sequence[str | os.PathLike[str]] = ()


def read_layers(layers: Iterable[ConfigLayer], settings: Mapping[str, Setting], context: LayerContext) -> list[Reading]:
    """Read all layers, those that need settings after the others.

    A layer is told what all other layers say, whatever their order. It is read again until that no longer changes.
    """
    independent: list[ConfigLayer] = []
    dependent: list[ConfigLayer] = []
    for layer in layers:
        (dependent if needs_of(layer) else independent).append(layer)
    readings = [read_layer(layer, context) for layer in independent]
    dependent.sort(key=lambda layer: layer.order, reverse=True)
    concerning = _Concerning({key for layer in dependent for key in needs_of(layer)}, settings)
    # What layers say of the settings that are needed, which is nearly always nothing.
    said = [concerning.part_of(reading) for reading in readings] if dependent else []
    told: dict[int, dict[str, Value]] = {}
    last: dict[int, Reading] = {}
    parts: dict[int, Reading] = {}
    for _ in range(len(dependent) + 1):
        again = False
        for index, layer in enumerate(dependent):
            others = said + [part for other, part in parts.items() if other != index]
            context.base_directories = _directories(others)
            values = concerning.values(needs_of(layer), others, context)
            if told.get(index) == values:
                continue
            told[index] = context.found = values
            before, last[index] = parts.get(index), read_layer(layer, context)
            part = parts[index] = concerning.part_of(last[index])
            # Those before this one have not been told of it.
            again |= index > 0 and any(each and (each.entries or each.directories) for each in (before, part))
        if not again:
            break
    else:
        names = " and ".join(repr(layer.name) for layer in dependent)
        last[0] = last[0]._replace(problem=f"the configuration layers {names} each set where the other is read")
    readings += last.values()
    context.base_directories = _directories(readings)
    return readings


def _directories(readings: Iterable[Reading]) -> list[str | os.PathLike[str]]:
    return [directory for reading in readings for directory in reading.directories]


def needs_of(layer: ConfigLayer) -> tuple[str, ...]:
    """The settings that a layer needs to know where to read."""
    return tuple(getattr(layer, "needs", ()))


def read_layer(layer: ConfigLayer, context: LayerContext) -> Reading:
    """Read one layer."""
    directories: list[str | os.PathLike[str]] = []
    context.base_directories = directories
    try:
        entries = list(layer.read(context))
        for entry in entries:
            _check_entry(entry, layer)
        return Reading(layer, entries, None, directories)
    except UntrustedSource as problem:
        return Reading(layer, [], UntrustedProblem(problem))
    except LayerProblem as problem:
        return Reading(layer, [], str(problem))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a layer is a plugin's, which may exit or panic: say whose fault it is
        return Reading(layer, [], f"the configuration layer {layer.name!r} failed: {describe_place(error)}")


def _check_entry(entry: Any, layer: ConfigLayer) -> None:
    if not (isinstance(entry, Entry) and isinstance(entry.name, str)):
        raise LayerProblem(f"the configuration layer {layer.name!r} gives something that is no Entry with a name")
    if entry.is_variable and not (entry.value is None or isinstance(entry.value, str)):
        raise LayerProblem(f"the configuration layer {layer.name!r} gives the variable {entry.name} without a text")


class _Concerning:
    """What concerns some settings, among all that layers say: which values these settings have."""

    def __init__(self, keys: Iterable[str], settings: Mapping[str, Setting]) -> None:
        self._settings = {key: settings[key] for key in (*keys, "deployment") if key in settings}
        declared = self._settings.values()
        self._variables = {name for setting in declared for name in (*setting.variables, *setting.composites)}
        self._variables.add("ZCLI_DEPLOYMENTS")
        self._tops = {key.partition(".")[0] for key in (*self._settings, *_ALWAYS)}

    def part_of(self, reading: Reading) -> Reading:
        """The reading with the entries alone that are about these settings."""
        entries = [
            entry
            for entry in reading.entries
            if (entry.name in self._variables if entry.is_variable else entry.name.partition(".")[0] in self._tops)
        ]
        return reading._replace(entries=entries)

    def values(self, keys: Iterable[str], parts: list[Reading], context: LayerContext) -> dict[str, Value]:
        """The values in force of settings, as far as they are declared and these layers set them.

        Mistakes are left to be reported when all layers are laid over each other.
        """
        from zcli_core.config.layering import resolve

        found = resolve(parts, self._settings, context).values
        return {key: found[key][-1] for key in keys if found.get(key)}
