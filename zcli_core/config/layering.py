"""Laying layer over layer: every value keeps its origin, every mistake is reported at once.

A layer gives raw entries (:mod:`zcli_core.config.contract`). Here they are matched with the declared settings,
converted one by one while it is still known where each came from, and laid over each other. A plain ``dict.update``
in the order of the layers is the model; what is added is provenance.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.config.contract import Entry, LayerContext
from zcli_core.config.conversion import ConversionError, convert, is_path
from zcli_core.config.explanation import Value
from zcli_core.config.settings import Composite, Section, Setting, Unusable, UnusableValue
from zcli_core.errors import ConfigError
from zcli_core.redaction import redact_value
from zcli_core.security_warnings import SecurityWarning
from zcli_core.suggestions import edits, nearest
from zcli_core.system.folders import PathError, expand_path
from zcli_core.system.trusted import UntrustedError, UntrustedProblem, check_below

if TYPE_CHECKING:
    from pathlib import Path

    from zcli_core.config.contract import ConfigLayer
    from zcli_core.config.reading import Reading

OVERLAYS = "deployments"
#: Variables of ours that are no settings, and what they do. They are needed before any file is read.
OTHER_VARIABLES = MappingProxyType(
    {
        "ZCLI_CONFIG_DIR": "the folder of zConfig.machine.yaml, instead of the system's and the user's",
        "ZCLI_TRACE_HOOKS": "1 logs every call of a plugin's hook, with its arguments, result and duration",
    }
)
_VARIABLE_PREFIX = "ZCLI_"
_OVERLAYS_VARIABLE = _VARIABLE_PREFIX + OVERLAYS.upper()
_LIKENESS = 0.85
_DEEPEST = 20
#: A name that is this near to one that restricts is taken for a mistake.
_EDITS = 2
#: The sections whose settings are used by every start.
_NO_PARTS = ("", "plugins")
# What Kubernetes sets in every container for each Service of its namespace, whatever the Service is called.
# https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_SERVICE_LINK = r"(tcp|udp|sctp)://[^/]+:\d+"
_SERVICE_VARIABLE = r".+_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"


class Leaf(NamedTuple):
    """One raw value with the key that it is for.

    ``foreign``: other software may have set it, so a value that cannot be used is an error only when it is used.
    ``folder`` is where a relative path is looked up first.
    """

    path: tuple[str, ...]
    value: Any
    origin: str
    text: str | None = None
    secret: bool = False
    foreign: bool = False
    folder: str | None = None


class Misspelt(NamedTuple):
    """A name that sets nothing and is nearly that of a setting that restricts: what is wrong, and where it was set."""

    problem: str
    layer: str
    origin: str


class Resolution:
    """All layers, laid over each other.

    ``values`` holds, for every setting that any layer sets, its values, the lowest layer first.
    ``variables`` holds every environment-style name that a layer gave, ours or not, from the highest layer.
    ``foreign`` names those of ``variables`` that other libraries may read and that their layer has exported.
    ``misspelt`` holds, by the key of the setting that was meant, what is wrong with names like its own.
    ``secrets`` holds (key, layer) of every value that its layer has called a secret, whatever its setting is.
    ``entries`` holds what the layers gave, as they gave it.
    """

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.values: dict[str, list[Value]] = {}
        self.variables: dict[str, str] = {}
        self.foreign: set[str] = set()
        self.secrets: set[tuple[str, str]] = set()
        self.misspelt: dict[str, list[Misspelt]] = {}
        self.warnings: list[str] = []
        self.problems: list[str] = []
        self.entries: list[Entry] = []
        #: The ``.zEnv`` that was read.
        self.env_file: str | None = None

    def top(self, key: str, default: Any) -> Any:
        """The value in force, which may be an UnusableValue, or ``default`` if no layer sets it."""
        values = self.values.get(key)
        return values[-1].value if values else default

    def usable(self, key: str, default: Any) -> Any:
        """The value in force, or ``default`` if no layer sets it.

        :raises ConfigError: the value cannot be used.
        """
        value = self.top(key, default)
        if isinstance(value, UnusableValue):
            raise ConfigError(value.problem)
        return value

    def is_secret(self, setting: Setting, layer: str) -> bool:
        """Whether a layer's value of a setting may not be shown."""
        return setting.secret or (setting.key, layer) in self.secrets


def resolve(readings: Iterable[Reading], settings: Mapping[str, Setting], context: LayerContext) -> Resolution:
    """Lay the readings over each other in their layers' order."""
    ordered = sorted(readings, key=lambda reading: (reading.layer.order, reading.layer.name))
    return _Resolver(settings, context).resolve(ordered)


class _Resolver:
    def __init__(self, settings: Mapping[str, Setting], context: LayerContext) -> None:
        self.settings = settings
        self.by_variable = {name: s for s in settings.values() for name in s.variables}
        sections = {s.section for s in settings.values()}
        self.composites = {each.variable: (section, each) for section in sections for each in section.composites}
        self.prefixes = {s.section.variable_prefix for s in settings.values()} - {None}
        self.branches = _branches(settings)
        self.restricting = _Restricting(settings)
        self.context = context
        self.result = Resolution("Development")
        #: The settings of which a layer's value cannot be used, in order.
        self.unusable: dict[str, None] = {}
        #: The name of the layer that is looked at.
        self.layer = ""

    def resolve(self, readings: list[Reading]) -> Resolution:
        leaves = [(reading.layer, list(self._leaves(reading))) for reading in readings]
        self.result.deployment = self._deployment(leaf for _, found in leaves for leaf in found)
        for reading, (layer, found) in zip(readings, leaves, strict=True):
            self.layer = layer.name
            if reading.problem:
                self.result.problems.append(reading.problem)
            base = [leaf for leaf in found if leaf.path[0] != OVERLAYS]
            for leaf in (*self._gather(base), *self._gather(self._overlay(found))):
                self._set(layer, leaf)
        needed = {key for reading in readings for key in getattr(reading.layer, "needs", ())}
        for key, misspelt in self.result.misspelt.items():
            problems = list(dict.fromkeys(each.problem for each in misspelt))
            if key in needed or self.settings[key].section.section_name in _NO_PARTS:
                self.result.problems += [problem for problem in problems if problem not in self.result.problems]
            else:
                value = UnusableValue("\n     ".join(problems))
                self.result.values.setdefault(key, []).append(Value(value, misspelt[-1].layer, misspelt[-1].origin))
        for key in self.unusable:
            value = self.result.top(key, None)
            if isinstance(value, UnusableValue) and key not in self.result.misspelt:
                self.result.warnings.append(f"{value.problem}; a script that uses {key} ends with this error")
        return self.result

    # --- from entries to leaves ---

    def _leaves(self, reading: Reading) -> Iterator[Leaf]:
        self.layer = reading.layer.name
        for entry in sorted(reading.entries, key=self._rank):
            if entry.is_variable:
                yield from self._variable(entry)
            elif entry.value is not None:
                leaf = Leaf(tuple(entry.name.split(".")), entry.value, entry.origin, entry.text, entry.secret)
                yield from self._flatten(leaf._replace(folder=entry.folder))

    def _rank(self, entry: Entry) -> int:
        """Where one layer has several variables of one setting, ``ZCLI_...`` wins, in whatever order they stand.

        One that sets several settings comes below all that set one alone.
        """
        if entry.is_variable and entry.name in self.composites:
            return -1000
        setting = self.by_variable.get(entry.name) if entry.is_variable else None
        return 0 if setting is None else -setting.variables.index(entry.name)

    def _variable(self, entry: Entry) -> Iterator[Leaf]:
        name, value = entry.name, entry.value
        ours = name in self.by_variable or name in self.composites
        if value == "" and name in self.by_variable and self.by_variable[name].restricts:
            key = self.by_variable[name].key
            self._warn_once(SecurityWarning(f"{_variable_in(name, entry.origin)} is empty, so it does not set {key}"))
        # An empty variable of ours is "not set", so what a lower layer says stays in force for everybody.
        if value is None or (value == "" and ours and name in self.result.variables):
            return
        self.result.variables[name] = value
        origin = entry.origin if entry.origin == name else f"{entry.origin} ({name})"
        # An empty variable is how shells and containers say "not set".
        if value != "":
            for leaf in self._leaves_of_variable(name, value, origin):
                foreign = self._is_foreign(name, value, entry.origin == name)
                yield leaf._replace(secret=entry.secret, foreign=foreign, folder=entry.folder)
        if entry.export and self._is_for_others(name):
            self.result.foreign.add(name)
        else:  # the value of a lower layer is not in force
            self.result.foreign.discard(name)
        if name in OTHER_VARIABLES:
            if entry.origin != name:
                self._warn(
                    f"{origin} sets nothing there: {name} is read from the environment alone",
                    None,
                    origin,
                    None,
                    security=False,
                )
        elif not ours and name != _OVERLAYS_VARIABLE:
            self._warn_of_variable(name, value, origin)

    def _leaves_of_variable(self, name: str, value: str, origin: str) -> Iterator[Leaf]:
        if name == _OVERLAYS_VARIABLE:
            yield from self._overlay_variable(value, origin)
        elif name in self.by_variable:
            yield Leaf(tuple(self.by_variable[name].key.split(".")), value, origin)
        elif name in self.composites:
            yield from self._composite(*self.composites[name], value, origin)

    def _is_for_others(self, name: str) -> bool:
        """Whether other libraries may read a variable: one that is not ours, or an ecosystem's as much as ours."""
        if name.startswith(_VARIABLE_PREFIX):
            return False
        setting = self.by_variable.get(name)
        return setting is None or name in setting.declaration.variables

    def _is_foreign(self, name: str, value: str, in_environment: bool) -> bool:
        """Whether other software may have set a variable, and may have meant something else by it."""
        if _is_service_link(value):
            return True
        if name.startswith(_VARIABLE_PREFIX):
            return False
        return in_environment or self._is_for_others(name)

    def _composite(self, section: type[Section], composite: Composite, value: str, origin: str) -> Iterator[Leaf]:
        path = tuple(section.section_name.split("."))
        try:
            found = composite.parse(value)
        except ValueError:
            problem = f"the value from {origin} cannot be used; expected {composite.expected}"
        except Unusable as reason:
            problem = f"the value from {origin} cannot be used: {reason}"
        else:
            for attribute, item in found.items():
                if item is not None:
                    yield Leaf((*path, attribute), item, origin)
            return
        yield Leaf((*path, composite.sets[0]), UnusableValue(f"{section.section_name}: {problem}"), origin)

    def _overlay_variable(self, value: str, origin: str) -> Iterator[Leaf]:
        from json import loads

        try:
            yield from self._flatten(Leaf((OVERLAYS,), loads(value), origin))
        except (ValueError, RecursionError) as error:
            self.result.problems.append(f"{OVERLAYS}: {origin} is not JSON: {error}")

    def _flatten(self, leaf: Leaf) -> Iterator[Leaf]:
        path, value = leaf.path, leaf.value
        if not isinstance(value, Mapping) or ".".join(_without_overlay(path)) in self.settings:
            yield leaf
            return
        if len(path) > _DEEPEST:
            self.result.problems.append(
                f"{'.'.join(path[:3])}...: {leaf.origin} nests mappings more than {_DEEPEST} deep"
            )
            return
        for key, item in value.items():
            # A key with dots is a path, except inside a mapping of names, which stops above.
            deeper = (*path, *str(key).split("."))
            if item is not None:
                yield from self._flatten(leaf._replace(path=deeper, value=item, text=None))

    # --- overlays ---

    def _deployment(self, leaves: Iterable[Leaf]) -> str:
        setting = self.settings.get("deployment")
        name = "Development" if setting is None else setting.default
        for leaf in leaves:
            if leaf.path == ("deployment",) and setting is not None and leaf.value is not setting.default:
                with contextlib.suppress(ConversionError):  # reported when the leaf itself is set
                    name = convert(leaf.value, setting)
        return str(name)

    def _overlay(self, leaves: list[Leaf]) -> Iterator[Leaf]:
        """What a layer sets for the deployment in force, on top of what it sets for all."""
        for leaf in leaves:
            if leaf.path[0] != OVERLAYS:
                continue
            if len(leaf.path) < 3:
                self.result.problems.append(
                    f"{'.'.join(leaf.path)}: expected a mapping of deployments to settings, from {leaf.origin}"
                )
            elif leaf.path[1].casefold() == self.result.deployment.casefold():
                inner = leaf.path[2:]
                if inner == ("deployment",):
                    self.result.warnings.append(
                        f"{'.'.join(leaf.path)} ({leaf.origin}) cannot change the deployment; it is ignored"
                    )
                else:
                    yield leaf._replace(path=inner, origin=f"{leaf.origin}, {OVERLAYS}.{leaf.path[1]}")
            else:
                self._warn_of_deployment(leaf)

    # --- from leaves to values ---

    def _gather(self, leaves: Iterable[Leaf]) -> list[Leaf]:
        """The leaves in their order; what stands below a setting is put together as a mapping, that setting's value."""
        found: list[Leaf] = []
        mappings: dict[tuple[str, ...], dict[str, Any]] = {}
        places: dict[tuple[str, ...], int] = {}
        for leaf in leaves:
            owner = self._setting_above(leaf.path)
            if owner is None:
                found.append(leaf)
                continue
            if owner not in mappings:
                mappings[owner] = {}
                places[owner] = len(found)
                found.append(leaf._replace(path=owner, value=mappings[owner], text=None))
            elif leaf.secret:  # one secret makes all of it one
                found[places[owner]] = found[places[owner]]._replace(secret=True)
            mappings[owner][".".join(leaf.path[len(owner) :])] = leaf.value if leaf.text is None else leaf.text
        return found

    def _setting_above(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        for length in range(1, len(path)):
            if ".".join(path[:length]) in self.settings:
                return path[:length]
        return None

    def _set(self, layer: ConfigLayer, leaf: Leaf) -> None:
        key = ".".join(leaf.path)
        setting = self.settings.get(key)
        if setting is None:
            self._unknown_key(key, leaf)
            return
        values = self.result.values.get(key, [])
        if leaf.secret:
            self.result.secrets.add((key, layer.name))
        try:
            value = leaf.value
            if isinstance(value, UnusableValue):
                self.unusable[key] = None
            elif value is not setting.default:
                value = self._converted(setting, leaf)
        except (ConversionError, UntrustedError) as error:
            problem = self._complaint(setting, leaf, error, values)
            if not leaf.foreign:
                self.result.problems.append(problem)
                return
            value = UnusableValue(problem)
            self.unusable[key] = None
        self.result.values.setdefault(key, []).append(Value(value, layer.name, leaf.origin))

    def _converted(self, setting: Setting, leaf: Leaf) -> Any:
        value = convert(leaf.value, setting, text=leaf.text)
        return self._located(value, setting, leaf.folder) if is_path(setting) else value

    def _located(self, path: Path, setting: Setting, first: str | None) -> Path:
        """The absolute path that is meant.

        A relative path that is written is below the working directory. One that is read is where the file is, of the
        places to look; it must be trusted there. A file that is nowhere may be made later: only in a trusted place.

        :raises UntrustedError: another user owns the file or its folder, or may write it.
        """
        try:
            path = type(path)(expand_path(str(path), self.context.environ))
        except PathError as problem:
            raise ConversionError(f"a path: {problem}") from None
        context = self.context
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

    # --- complaints ---

    def _complaint(self, setting: Setting, leaf: Leaf, error: Exception, below: list[Value]) -> str:
        hidden = setting.secret or leaf.secret
        shown = "the value" if hidden else _short(leaf.value if leaf.text is None else leaf.text)
        if isinstance(error, UntrustedError):
            return UntrustedProblem(
                f"{setting.key}: {shown} from {leaf.origin} is not read, because {error}"
                + error.advice(f"set {setting.key} to an absolute path")
            )
        message = f"{setting.key}: {shown} from {leaf.origin} cannot be used; expected {error}"
        if below:
            value, layer, origin = below[-1]
            message += f"; it shadows {_short(redact_value(value, self.result.is_secret(setting, layer)))} from {layer}"
            message += f" ({origin})" if origin != layer else ""
        if _is_service_link(leaf.value):
            message += "; Kubernetes sets it for a Service of that name, unless the pod has enableServiceLinks: false"
        return message

    def _unknown_key(self, key: str, leaf: Leaf) -> None:
        if key and key in self.branches:
            names = ", ".join(sorted(self.branches[key]))
            self.result.problems.append(
                f"{key}: {leaf.origin} has no mapping there; expected settings by name ({names})"
            )
            return
        unknown = leaf.path
        while len(unknown) > 1 and ".".join(unknown[:-1]) not in self.branches:
            unknown = unknown[:-1]
        name = ".".join(unknown)
        siblings = self.branches.get(".".join(unknown[:-1]), set())
        near = nearest(unknown[-1], siblings)
        match = ".".join((*unknown[:-1], near)) if near else nearest(name, self.settings)
        meant = match or ".".join(unknown[:-1])
        security = any(s.security for key, s in self.settings.items() if f"{key}.".startswith(f"{meant}."))
        misspelt = self.restricting.key_like(key)
        if misspelt and name == key:
            match = misspelt
        what = f"unknown setting {name!r} ({leaf.origin}): no plugin in use declares it"
        self._warn(what, match, leaf.origin, misspelt, security=bool(security and meant))

    def _warn_of_variable(self, name: str, value: str, origin: str) -> None:
        setting = self.settings.get(name)  # a setting's key, which is how other sources name it
        meant = name.upper() if setting is None else setting.variables[0]
        like = self.restricting.variable_like(meant)
        ours = meant.startswith(_VARIABLE_PREFIX)
        match = like or (meant if meant in self.by_variable or meant in self.composites else None)
        if match is None and (ours or any(meant.startswith(prefix) for prefix in self.prefixes if prefix)):
            match = nearest(meant, self.by_variable, _LIKENESS) or self._beginning(meant)
        if (ours or match) and not (re.fullmatch(_SERVICE_VARIABLE, name) or _is_service_link(value)):
            setting = self.by_variable.get(match or "")
            security = setting is not None and setting.security
            what = f"{_variable_in(name, origin)} sets nothing that any plugin in use declares"
            self._warn(what, match, origin, self.by_variable[like].key if like else None, security=security)

    def _beginning(self, name: str) -> str | None:
        """The longest variable for security that a name begins with: WEBSOCKET_TOKEN_FILE, say."""
        known = (variable for variable, setting in self.by_variable.items() if setting.security)
        return max((variable for variable in known if name.startswith(variable)), key=len, default=None)

    def _warn_of_deployment(self, leaf: Leaf) -> None:
        known = ("Development", "Testing", "Production")
        if leaf.path[1].casefold() not in {name.casefold() for name in known}:
            key = ".".join(leaf.path[2:])
            meant = edits(leaf.path[1].casefold(), self.result.deployment.casefold()) <= _EDITS
            restricts = meant and key in self.settings and self.settings[key].restricts
            match = self.result.deployment if meant else nearest(leaf.path[1], known)
            what = f"unknown deployment {leaf.path[1]!r} ({OVERLAYS}.{leaf.path[1]}, {leaf.origin})"
            self._warn(what, match, leaf.origin, key if restricts else None, security=True)

    def _warn(self, what: str, match: str | None, origin: str, misspelt: str | None, *, security: bool) -> None:
        """Warn of something that is ignored; ``security``: it may have been meant to protect.

        ``misspelt`` is the key of a setting that restricts, if the name is nearly that.
        """
        hint = f"; did you mean {match!r}?" if match else ""
        if misspelt:
            found = self.result.misspelt.setdefault(misspelt, [])
            found.append(Misspelt(f"{what}{hint}", self.layer, origin))
            warning = f"{what}; what uses {misspelt} ends with this error{hint}"
        else:
            warning = f"{what}; it is ignored{hint}"
        self._warn_once(SecurityWarning(warning) if security or misspelt else warning)

    def _warn_once(self, warning: str) -> None:
        if warning not in self.result.warnings:
            self.result.warnings.append(warning)


def _variable_in(name: str, origin: str) -> str:
    """A variable and where it stands: ``"the variable X"`` of the environment, ``"X in .zEnv:3"``."""
    return f"the variable {name}" if origin == name else f"{name} in {origin.removesuffix(f' ({name})')}"


class _Restricting:
    """The settings that restrict, and which unknown names are nearly theirs."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self._settings = settings

    def key_like(self, name: str) -> str | None:
        """The key that a name is nearly: within two edits, one for attributes of four letters or fewer."""
        restricting = {key: setting for key, setting in self._settings.items() if setting.restricts}
        found = _nearest_of(name, restricting.items())
        if found is None:
            return None
        others = {key: setting for key, setting in self._settings.items() if not setting.restricts}
        other = _nearest_of(name, others.items())
        return found[1] if other is None or found[0] <= other[0] else None

    @cached_property
    def _beginnings(self) -> frozenset[frozenset[str]]:
        """The first letters of every variable that is compared."""
        prefixes = {s.section.variable_prefix for s in self._settings.values() if s.restricts} | {_VARIABLE_PREFIX}
        return frozenset(frozenset(prefix[: len(_VARIABLE_PREFIX)]) for prefix in prefixes if prefix)

    @cached_property
    def _by_length(self) -> dict[int, list[tuple[str, Setting, frozenset[str]]]]:
        """The variables that are ours alone, by their lengths, with the letters of each."""
        found: dict[int, list[tuple[str, Setting, frozenset[str]]]] = {}
        for setting in self._settings.values():
            if setting.restricts:
                for name in setting.variables[: -len(setting.declaration.variables) or None]:
                    found.setdefault(len(name), []).append((name, setting, frozenset(name)))
        return found

    def variable_like(self, name: str) -> str | None:
        """The variable that a name is nearly. Every variable of the environment is compared, so it has to be fast."""
        # Each edit takes one letter away at most, and moves the others by one place.
        head = frozenset(name[: len(_VARIABLE_PREFIX) + _EDITS])
        for beginning in self._beginnings:
            if len(beginning - head) <= _EDITS:
                break
        else:
            return None
        near = [entry for length in _lengths(name) for entry in self._by_length.get(length, ())]
        letters = frozenset(name) if near else frozenset()
        # Each edit takes away one letter at most, and adds one.
        near = [entry for entry in near if len(entry[2] ^ letters) <= 2 * _EDITS]
        found = _nearest_of(name, ((variable, setting) for variable, setting, _ in near))
        if found is None:
            return None
        others = ((each, s) for s in self._settings.values() if not s.restricts for each in s.variables)
        other = _nearest_of(name, others)
        return found[1] if other is None or found[0] <= other[0] else None


def _lengths(name: str) -> range:
    return range(len(name) - _EDITS, len(name) + _EDITS + 1)


def _nearest_of(name: str, candidates: Iterable[tuple[str, Setting]]) -> tuple[int, str] | None:
    """The nearest of some names, as (edits, name); None if each takes too many edits.

    In a name of four letters, two edits make any other word: WEBSOCKET_PATH out of WEBSOCKET_AUTH.
    """
    found: tuple[int, str] | None = None
    for candidate, setting in candidates:
        if len(candidate) in _lengths(name):
            count = edits(name, candidate)
            if count <= (_EDITS if len(setting.attribute) > 4 else 1) and (found is None or count < found[0]):
                found = count, candidate
    return found


def _is_service_link(value: Any) -> bool:
    return isinstance(value, str) and "://" in value and re.fullmatch(_SERVICE_LINK, value) is not None


def _short(value: Any) -> str:
    from reprlib import Repr  # bounded, for values that are nested or refuse to be shown

    shown = Repr()
    shown.maxstring = shown.maxother = 60
    shown.maxlevel = 3
    text = shown.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _branches(settings: Iterable[str]) -> dict[str, set[str]]:
    """The names below each section, by the section's key; "" is the top."""
    branches: dict[str, set[str]] = {"": {OVERLAYS}, OVERLAYS: set()}
    for key in settings:
        parts = key.split(".")
        for length in range(len(parts)):
            branches.setdefault(".".join(parts[:length]), set()).add(parts[length])
    return branches


def _without_overlay(path: tuple[str, ...]) -> tuple[str, ...]:
    return path[2:] if path[0] == OVERLAYS else path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
