"""Merging the layers: higher layers win, every value keeps its origin, and all mistakes are reported at once.

The entries of each layer are matched with the declared settings and converted while their origin is still known. The
result is that of ``dict.update`` in the order of the layers, with the origin of each value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from zcli_core.config.contract import LayerContext
from zcli_core.config.conversion import ConversionError, convert, is_path
from zcli_core.config.leaves import Leaf, LeafReader
from zcli_core.config.names import OVERLAYS, SettingNames, is_service_link
from zcli_core.config.resolution import Resolution, Value
from zcli_core.config.settings import Setting, UnusableValue, is_document, without_none
from zcli_core.config.unknown_names import UnknownNames
from zcli_core.redaction import redact_value
from zcli_core.system.folders import PathError, expand_path
from zcli_core.system.trusted import UntrustedError, UntrustedProblem, check_below

if TYPE_CHECKING:
    from pathlib import Path

    from zcli_core.config.reading import Reading

#: The sections whose settings every start uses.
_ALWAYS_USED = ("", "plugins")


def resolve(readings: Iterable[Reading], settings: Mapping[str, Setting], context: LayerContext) -> Resolution:
    """Merge readings in the order of their layers.

    Args:
        readings: What the layers gave, in any order.
        settings: Declared settings by key. Names of other settings count as unknown.
        context: Gives the environment and the folders for relative paths.

    Returns:
        The values, and what is wrong with them.
    """
    ordered = sorted(readings, key=lambda reading: (reading.layer.order, reading.layer.name))
    return _Resolver(settings, context).resolve(ordered)


class _Resolver:
    def __init__(self, settings: Mapping[str, Setting], context: LayerContext) -> None:
        self._settings = settings
        self._context = context
        self._names = SettingNames(settings)
        self._result = Resolution("Development")
        self._unknown = UnknownNames(self._names, self._result)
        #: The settings with a value that cannot be used, in order.
        self._unusable: dict[str, None] = {}

    def resolve(self, readings: list[Reading]) -> Resolution:
        reader, result = LeafReader(self._names, self._unknown, self._result), self._result
        layers = [list(reader.leaves(reading)) for reading in readings]
        result.deployment = self._deployment(leaf for leaves in layers for leaf in leaves)
        for reading, leaves in zip(readings, layers, strict=True):
            if reading.problem:
                result.problems.append(reading.problem)
            base = [leaf for leaf in leaves if leaf.path[0] != OVERLAYS]
            for leaf in (*self._gather(base), *self._gather(self._overlay(leaves))):
                self._set(leaf)
        needing = [reading.layer for reading in readings if not getattr(reading.layer, "only_checks", False)]
        self._report_misspelt({key for layer in needing for key in getattr(layer, "needs", ())})
        for key in self._unusable:
            value = result.top(key, None)
            if isinstance(value, UnusableValue) and key not in result.misspelt:
                result.warnings.append(f"{value.problem}; this is an error in a script that uses {key}")
        return result

    def _report_misspelt(self, needed: set[str]) -> None:
        """Make misspelt names errors: now if every start uses the setting that was meant, else when it is used."""
        for key, misspelt in self._result.misspelt.items():
            problems = list(dict.fromkeys(each.problem for each in misspelt))
            if key in needed or self._settings[key].section.section_name in _ALWAYS_USED:
                self._result.problems += [each for each in problems if each not in self._result.problems]
            else:
                value = Value(UnusableValue("\n     ".join(problems)), misspelt[-1].layer, misspelt[-1].origin)
                self._result.values.setdefault(key, []).append(value)

    # --- overlays ---

    def _deployment(self, leaves: Iterable[Leaf]) -> str:
        setting = self._settings.get("deployment")
        name = "Development" if setting is None else setting.default
        for leaf in leaves:
            if leaf.path == ("deployment",) and setting is not None and leaf.value is not setting.default:
                with contextlib.suppress(ConversionError):  # reported when the leaf itself is set
                    name = convert(leaf.value, setting)
        return str(name)

    def _overlay(self, leaves: list[Leaf]) -> Iterator[Leaf]:
        """Yield what a layer sets for the deployment in force. It wins over what the layer sets for all deployments."""
        for leaf in leaves:
            if leaf.path[0] != OVERLAYS:
                continue
            shown = ".".join(leaf.path)
            if len(leaf.path) < 3:
                self._result.problems.append(f"{shown} must be a mapping of deployments to settings ({leaf.origin})")
            elif leaf.path[1].casefold() != self._result.deployment.casefold():
                self._unknown.deployment(leaf, self._result.deployment)
            elif leaf.path[2:] == ("deployment",):
                self._result.warnings.append(f"{shown} ({leaf.origin}) cannot change the deployment; it is ignored")
            else:
                yield leaf._replace(path=leaf.path[2:], origin=f"{leaf.origin}, {OVERLAYS}.{leaf.path[1]}")

    # --- from leaves to values ---

    def _gather(self, leaves: Iterable[Leaf]) -> list[Leaf]:
        """Return the leaves in their order, with the leaves below a setting put together as its value, a mapping."""
        found: list[Leaf] = []
        mappings: dict[tuple[str, ...], dict[str, Any]] = {}
        places: dict[tuple[str, ...], int] = {}
        for leaf in leaves:
            owner = self._names.setting_above(leaf.path)
            if owner is None:
                found.append(leaf)
                continue
            if owner not in mappings:
                mappings[owner] = {}
                places[owner] = len(found)
                found.append(leaf._replace(path=owner, value=mappings[owner], text=None))
            elif leaf.secret:  # one secret makes the whole value a secret
                found[places[owner]] = found[places[owner]]._replace(secret=True)
            self._put(mappings[owner], owner, leaf)
        return found

    def _put(self, value: dict[str, Any], owner: tuple[str, ...], leaf: Leaf) -> None:
        """Put a leaf into the value of its setting: at its path in a document, else under its whole name, as a text."""
        *above, name = leaf.path[len(owner) :]
        if not is_document(without_none(self._settings[".".join(owner)].type)):
            value[".".join((*above, name))] = leaf.value if leaf.text is None else leaf.text
            return
        for part in above:
            below = value.setdefault(part, {})
            value = below if isinstance(below, dict) else {}
        value[name] = deepcopy(leaf.value)  # a further leaf may go into it

    def _set(self, leaf: Leaf) -> None:
        key = ".".join(leaf.path)
        setting = self._settings.get(key)
        if setting is None:
            self._unknown.key(key, leaf)
            return
        if leaf.secret:
            self._result.secrets.add((key, leaf.layer))
        value = leaf.value
        try:
            if isinstance(value, UnusableValue):
                self._unusable[key] = None
            elif value is not setting.default:
                value = self._converted(setting, leaf)
        except (ConversionError, UntrustedError) as error:
            problem = self._complaint(setting, leaf, error)
            if not leaf.foreign:
                self._result.problems.append(problem)
                return
            value = UnusableValue(problem)
            self._unusable[key] = None
        self._result.values.setdefault(key, []).append(Value(value, leaf.layer, leaf.origin))

    def _converted(self, setting: Setting, leaf: Leaf) -> Any:
        value = convert(leaf.value, setting, text=leaf.text)
        if is_path(setting) and not isinstance(value, Mapping):
            return self._located(value, setting, leaf.folder)
        return value

    def _located(self, path: Path, setting: Setting, first: str | None) -> Path:
        """Return the absolute path of a file or folder.

        A relative path that zCLI writes to is below the working directory. A relative path that zCLI reads is looked
        up in several folders and must be trusted there. A file that does not exist may be made later, but only in a
        trusted place.

        Args:
            path: The path as it is set.
            setting: Its setting.
            first: Folder to look in first, or None.

        Raises:
            ConversionError: The path holds a variable or user that does not exist.
            UntrustedError: Another user owns the file or its folder, or may write it.
        """
        context = self._context
        try:
            path = type(path)(expand_path(str(path), context.environ))
        except PathError as problem:
            raise ConversionError(f"a path: {problem}") from None
        if setting.declaration.written or path.is_absolute():
            return type(path)(context.working_directory) / path
        usual = (context.working_directory, *context.base_directories, context.script_directory)
        places = [type(path)(place) for place in (first, *usual) if place is not None]
        for place in places:
            if _exists(place / path):
                check_below(place, path)
                return place / path
        error = None
        for place in dict.fromkeys(places[first is not None :]):
            try:
                check_below(place, path)
                return place / path
            except UntrustedError as untrusted:
                error = error or untrusted
        raise error or ConversionError("a path")

    def _complaint(self, setting: Setting, leaf: Leaf, error: Exception) -> str:
        hidden = setting.secret or leaf.secret
        shown = "an invalid value (not shown)" if hidden else _short(leaf.value if leaf.text is None else leaf.text)
        if isinstance(error, UntrustedError):
            return UntrustedProblem(
                f"{setting.key}: {'the path' if hidden else shown} from {leaf.origin} is not read, because {error}"
                + error.advice(f"set {setting.key} to an absolute path")
            )
        message = f"{setting.key} must be {error}, got {shown} from {leaf.origin}"
        below = self._result.values.get(setting.key)
        if below:
            value, layer, origin = below[-1]
            secret = self._result.is_secret(setting, layer)
            message += f"; without it, {_short(redact_value(value, secret))} from {layer}"
            message += f" ({origin}) applies" if origin != layer else " applies"
        if is_service_link(leaf.value):
            message += (
                "; Kubernetes sets this variable for a Service of that name, "
                "unless the pod has enableServiceLinks: false"
            )
        if isinstance(error, ConversionError) and not hidden:
            message += error.suggestion
        return message


def _short(value: Any) -> str:
    from reprlib import Repr  # limits the length, also of nested values and of objects whose repr fails

    shown = Repr()
    shown.maxstring = shown.maxother = 60
    shown.maxlevel = 3
    text = shown.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
