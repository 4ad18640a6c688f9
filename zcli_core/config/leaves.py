"""From the entries of a layer to leaves: one raw value for the key of one setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.config.contract import Entry
from zcli_core.config.names import (
    OTHER_VARIABLES,
    OVERLAYS,
    OVERLAYS_VARIABLE,
    VARIABLE_PREFIX,
    SettingNames,
    is_service_link,
)
from zcli_core.config.settings import Composite, Section, Unusable, UnusableValue, is_document, without_none
from zcli_core.security_warnings import SecurityWarning

if TYPE_CHECKING:
    from zcli_core.config.reading import Reading
    from zcli_core.config.resolution import Resolution
    from zcli_core.config.unknown_names import UnknownNames

_DEEPEST = 20
#: A composite variable ranks below every variable of one setting.
_LOWEST_RANK = -1000


class Leaf(NamedTuple):
    """One raw value with the path of its key.

    Attributes:
        path: Parts of the key: ``("http", "timeout")``.
        value: Value as the layer found it.
        layer: Name of the layer.
        origin: Where the layer found it.
        text: The value as it is written there, if the layer knows it.
        secret: Whether the layer marks the value as a secret.
        foreign: Whether other software may have set it. An unusable value is then an error only when it is used.
        folder: Folder in which a relative path is looked up first, or None.
    """

    path: tuple[str, ...]
    value: Any
    layer: str
    origin: str
    text: str | None = None
    secret: bool = False
    foreign: bool = False
    folder: str | None = None


class LeafReader:
    """Turns readings into leaves. Variables, warnings and problems go into the resolution."""

    def __init__(self, names: SettingNames, unknown: UnknownNames, result: Resolution) -> None:
        self._names = names
        self._unknown = unknown
        self._result = result

    def leaves(self, reading: Reading) -> Iterator[Leaf]:
        """Yield the leaves of one layer."""
        layer = reading.layer.name
        for entry in sorted(reading.entries, key=self._rank):
            if entry.is_variable:
                yield from self._variable(entry, layer)
                continue
            path = tuple(entry.name.split("."))
            # None means "not set here", but in a document it is a value.
            if entry.value is not None or self._is_in_document(path):
                leaf = Leaf(path, entry.value, layer, entry.origin, entry.text, entry.secret, folder=entry.folder)
                yield from self._flatten(leaf)

    def _rank(self, entry: Entry) -> int:
        """Rank the variables of one setting in one layer: ``ZCLI_...`` wins, composite variables lose."""
        if entry.is_variable and entry.name in self._names.composites:
            return _LOWEST_RANK
        setting = self._names.by_variable.get(entry.name) if entry.is_variable else None
        return 0 if setting is None else -setting.variables.index(entry.name)

    def _variable(self, entry: Entry, layer: str) -> Iterator[Leaf]:
        name, value, names = entry.name, entry.value, self._names
        ours = name in names.by_variable or name in names.composites
        if value == "" and name in names.by_variable and names.by_variable[name].restricts:
            where = f"the variable {name}" if entry.origin == name else f"{name} in {entry.origin}"
            self._result.warn(SecurityWarning(f"{where} is empty, so it does not set {names.by_variable[name].key}"))
        # An empty variable of zCLI means "not set", so the value of a lower layer stays in force.
        if value is None or (value == "" and ours and name in self._result.variables):
            return
        self._result.variables[name] = value
        origin = entry.origin if entry.origin == name else f"{entry.origin} ({name})"
        # An empty variable is how shells and containers say "not set".
        if value != "":
            foreign = self._is_foreign(name, value, entry.origin == name)
            for leaf in self._leaves_of_variable(name, value, layer, origin):
                yield leaf._replace(secret=entry.secret, foreign=foreign, folder=entry.folder)
        if entry.export and names.is_for_others(name):
            self._result.exported.add(name)
        else:  # the value of a lower layer is not in force
            self._result.exported.discard(name)
        if name in OTHER_VARIABLES:
            if entry.origin != name:
                what = f"{origin} is ignored: {name} is read from the environment only"
                self._result.warn(what)
        elif not ours and name != OVERLAYS_VARIABLE:
            self._unknown.variable(name, value, layer, origin)

    def _leaves_of_variable(self, name: str, value: str, layer: str, origin: str) -> Iterator[Leaf]:
        if name == OVERLAYS_VARIABLE:
            yield from self._overlay_variable(value, layer, origin)
        elif name in self._names.by_variable:
            yield Leaf(tuple(self._names.by_variable[name].key.split(".")), value, layer, origin)
        elif name in self._names.composites:
            yield from self._composite(*self._names.composites[name], value, layer, origin)

    def _is_foreign(self, name: str, value: str, in_environment: bool) -> bool:
        """Return whether other software may have set a variable with another meaning."""
        if is_service_link(value):
            return True
        if name.startswith(VARIABLE_PREFIX):
            return False
        return in_environment or self._names.is_for_others(name)

    def _composite(
        self, section: type[Section], composite: Composite, value: str, layer: str, origin: str
    ) -> Iterator[Leaf]:
        path = tuple(section.section_name.split("."))
        try:
            found = composite.parse(value)
        except ValueError:
            problem = f"the value from {origin} must be {composite.expected}"
        except Unusable as reason:
            problem = f"the value from {origin} cannot be used: {reason}"
        else:
            for attribute, item in found.items():
                if item is not None:
                    yield Leaf((*path, attribute), item, layer, origin)
            return
        yield Leaf((*path, composite.sets[0]), UnusableValue(f"{section.section_name}: {problem}"), layer, origin)

    def _overlay_variable(self, value: str, layer: str, origin: str) -> Iterator[Leaf]:
        from json import loads

        try:
            yield from self._flatten(Leaf((OVERLAYS,), loads(value), layer, origin))
        except (ValueError, RecursionError) as error:
            self._result.problems.append(f"{OVERLAYS}: {origin} is not valid JSON: {error}")

    def _flatten(self, leaf: Leaf) -> Iterator[Leaf]:
        path, value = leaf.path, leaf.value
        # An empty mapping in a document is a value, too.
        if (
            not isinstance(value, Mapping)
            or ".".join(_without_overlay(path)) in self._names.settings
            or self._is_in_document(path)
        ):
            yield leaf
            return
        if len(path) > _DEEPEST:
            self._result.problems.append(
                f"{'.'.join(path[:3])}...: {leaf.origin} nests mappings more than {_DEEPEST} levels deep"
            )
            return
        for key, item in value.items():
            # A key with dots is a path, except in a mapping that is the value of a setting, where flattening stops.
            deeper = (*path, *str(key).split("."))
            if item is not None:
                yield from self._flatten(leaf._replace(path=deeper, value=item, text=None))

    def _is_in_document(self, path: tuple[str, ...]) -> bool:
        """Return whether a path leads into the value of a setting that is a document."""
        owner = self._names.setting_above(_without_overlay(path))
        return owner is not None and is_document(without_none(self._names.settings[".".join(owner)].type))


def _without_overlay(path: tuple[str, ...]) -> tuple[str, ...]:
    return path[2:] if path[0] == OVERLAYS else path
