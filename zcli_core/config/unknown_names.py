"""Names that no plugin declares: warnings with a suggestion, and which of them were probably meant to restrict.

A setting restricts if it limits what others may do (``setting(restricts=True)``). Its default would stay in force if a
misspelt name were only ignored, so such a name is an error of the part that the setting belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from zcli_core.config.leaves import Leaf
from zcli_core.config.names import OVERLAYS, VARIABLE_PREFIX, SettingNames, is_service_variable
from zcli_core.config.resolution import Misspelt, Resolution
from zcli_core.config.settings import Setting
from zcli_core.security_warnings import SecurityWarning
from zcli_core.suggestions import edits, nearest

#: Minimum similarity (0 to 1) of an unknown variable and a suggestion. It is high because variables share many letters.
_LIKENESS = 0.85
#: Maximum number of edits between a misspelt name and the name that was meant.
_MAX_EDITS = 2
_DEPLOYMENTS = ("Development", "Testing", "Production")


class UnknownNames:
    """Adds warnings about unknown keys, variables and deployments to a resolution."""

    def __init__(self, names: SettingNames, result: Resolution) -> None:
        self._names = names
        self._restricting = RestrictingNames(names.settings)
        self._result = result

    def key(self, key: str, leaf: Leaf) -> None:
        """Handle a leaf whose key is not the key of a setting."""
        branches, settings = self._names.branches, self._names.settings
        if key and key in branches:
            names = ", ".join(sorted(branches[key]))
            problem = (
                f"{key} must be a mapping of settings ({names}), got a value that is not a mapping from {leaf.origin}"
            )
            self._result.problems.append(problem)
            return
        unknown = leaf.path
        while len(unknown) > 1 and ".".join(unknown[:-1]) not in branches:
            unknown = unknown[:-1]
        name, above = ".".join(unknown), ".".join(unknown[:-1])
        near = nearest(unknown[-1], branches.get(above, set()))
        match = ".".join((*unknown[:-1], near)) if near else nearest(name, settings)
        meant = match or above
        security = any(s.security for key, s in settings.items() if f"{key}.".startswith(f"{meant}."))
        misspelt = self._restricting.key_like(key)
        if misspelt and name == key:
            match = misspelt
        self._warn(
            f"unknown setting {name!r} ({leaf.origin}): no plugin in use declares it",
            match,
            leaf.layer,
            leaf.origin,
            misspelt,
            security=bool(security and meant),
        )

    def variable(self, name: str, value: str, layer: str, origin: str) -> None:
        """Handle a variable that sets nothing. Most variables are for other programs and are ignored silently."""
        names = self._names
        setting = names.settings.get(name)  # a setting's key, which is how other sources name it
        meant = name.upper() if setting is None else setting.variables[0]
        like = self._restricting.variable_like(meant)
        ours = meant.startswith(VARIABLE_PREFIX)
        match = like or (meant if meant in names.by_variable or meant in names.composites else None)
        if match is None and (ours or meant.startswith(tuple(names.prefixes))):
            match = nearest(meant, names.by_variable, _LIKENESS) or self._beginning(meant)
        if (ours or match) and not is_service_variable(name, value):
            setting = names.by_variable.get(match or "")
            security = setting is not None and setting.security
            misspelt = names.by_variable[like].key if like else None
            where = "environment" if origin == name else origin.removesuffix(f" ({name})")
            what = f"unknown variable {name!r} ({where}): no plugin in use declares it"
            self._warn(what, match, layer, origin, misspelt, security=security)

    def deployment(self, leaf: Leaf, in_force: str) -> None:
        """Handle a leaf of an overlay for another deployment than the one in force."""
        if leaf.path[1].casefold() in {name.casefold() for name in _DEPLOYMENTS}:
            return
        key = ".".join(leaf.path[2:])
        meant = edits(leaf.path[1].casefold(), in_force.casefold()) <= _MAX_EDITS
        restricts = meant and key in self._names.settings and self._names.settings[key].restricts
        match = in_force if meant else nearest(leaf.path[1], _DEPLOYMENTS)
        what = f"unknown deployment {leaf.path[1]!r} ({OVERLAYS}.{leaf.path[1]}, {leaf.origin})"
        self._warn(what, match, leaf.layer, leaf.origin, key if restricts else None, security=True)

    def _beginning(self, name: str) -> str | None:
        """Return the longest variable for security that a name begins with, as WEBSOCKET_TOKEN_FILE does, or None."""
        known = (variable for variable, setting in self._names.by_variable.items() if setting.security)
        return max((variable for variable in known if name.startswith(variable)), key=len, default=None)

    def _warn(
        self, what: str, match: str | None, layer: str, origin: str, misspelt: str | None, *, security: bool
    ) -> None:
        """Warn about a name that is ignored.

        Args:
            what: Beginning of the warning.
            match: Name to suggest, or None.
            layer: Name of the layer.
            origin: Where the name was set.
            misspelt: Key of the restricting setting that was probably meant, or None.
            security: Whether the name may have been meant to protect something.
        """
        hint = f"; did you mean {match!r}?" if match else ""
        if misspelt:
            self._result.misspelt.setdefault(misspelt, []).append(Misspelt(f"{what}{hint}", layer, origin))
            warning = f"{what}; this is an error in a script that uses {misspelt}{hint}"
        else:
            warning = f"{what}; it is ignored{hint}"
        self._result.warn(SecurityWarning(warning) if security or misspelt else warning)


class RestrictingNames:
    """The names of the settings that restrict, to find which one an unknown name was probably meant to be."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self._settings = settings

    def key_like(self, name: str) -> str | None:
        """Return the key that a name is nearly: within two edits, or one if its attribute has four letters or fewer."""
        candidates = [(key, setting) for key, setting in self._settings.items()]
        return _nearest_restricting(name, candidates, candidates)

    @cached_property
    def _beginnings(self) -> frozenset[frozenset[str]]:
        """The first letters of every variable that is compared."""
        prefixes = {s.section.variable_prefix for s in self._settings.values() if s.restricts} | {VARIABLE_PREFIX}
        return frozenset(frozenset(prefix[: len(VARIABLE_PREFIX)]) for prefix in prefixes if prefix)

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
        """Return the variable that a name is nearly. Called for every variable of the environment: it must be fast."""
        # Each edit takes one letter away at most, and moves the others by one place.
        head = frozenset(name[: len(VARIABLE_PREFIX) + _MAX_EDITS])
        if not any(len(beginning - head) <= _MAX_EDITS for beginning in self._beginnings):
            return None
        near = [entry for length in _lengths(name) for entry in self._by_length.get(length, ())]
        letters = frozenset(name) if near else frozenset()
        # Each edit takes away one letter at most, and adds one.
        candidates = [(each, setting) for each, setting, known in near if len(known ^ letters) <= 2 * _MAX_EDITS]
        if not candidates:
            return None
        others = ((each, setting) for setting in self._settings.values() for each in setting.variables)
        return _nearest_restricting(name, candidates, others)


def _nearest_restricting(
    name: str, candidates: Iterable[tuple[str, Setting]], others: Iterable[tuple[str, Setting]]
) -> str | None:
    """Return the name of the nearest setting that restricts, unless a setting that does not restrict is nearer."""
    found = _nearest_of(name, ((each, setting) for each, setting in candidates if setting.restricts))
    if found is None:
        return None
    other = _nearest_of(name, ((each, setting) for each, setting in others if not setting.restricts))
    return found[1] if other is None or found[0] <= other[0] else None


def _lengths(name: str) -> range:
    return range(len(name) - _MAX_EDITS, len(name) + _MAX_EDITS + 1)


def _nearest_of(name: str, candidates: Iterable[tuple[str, Setting]]) -> tuple[int, str] | None:
    """Return the nearest of some names, as (edits, name); None if each takes too many edits.

    In a name of four letters, two edits make any other word: WEBSOCKET_PATH out of WEBSOCKET_AUTH.
    """
    found: tuple[int, str] | None = None
    for candidate, setting in candidates:
        if len(candidate) in _lengths(name):
            count = edits(name, candidate)
            allowed = _MAX_EDITS if len(setting.attribute) > 4 else 1
            if count <= allowed and (found is None or count < found[0]):
                found = count, candidate
    return found
