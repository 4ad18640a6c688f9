"""How a settings section is declared; everything else about a setting is derived from the declaration.

Sections are plain classes rather than dataclasses: making a frozen dataclass costs 0.6 ms and every start-up would
pay for each section, and a base class can see to it that no ``repr`` ever shows a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import get_annotations
from types import MappingProxyType, UnionType
from typing import Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from zcli_core.redaction import redact_value

#: Names that the configuration itself has; no setting can begin with one.
RESERVED = frozenset({"deployments", "env", "explain", "get", "section", "settings"})


class Declaration:
    """What :func:`setting` says about one setting."""

    __slots__ = (
        "_name", "above", "check", "default", "help", "maximum", "minimum", "restricts", "secret", "security",
        "variables", "written",
    )  # fmt: skip

    def __init__(
        self,
        default: Any,
        help: str,  # noqa: A002 - the word every option library uses
        *,
        secret: bool,
        security: bool,
        restricts: bool,
        written: bool,
        minimum: float | None,
        maximum: float | None,
        above: float | None,
        variables: tuple[str, ...],
        check: Callable[[Any], str | None] | None,
    ) -> None:
        self.default = _read_only(default)
        self.help = help
        self.secret = secret
        self.security = security or secret
        self.restricts = restricts or self.security
        self.written = written
        self.minimum = minimum
        self.maximum = maximum
        self.above = above
        self.variables = variables
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, section: Any, owner: type) -> Any:
        """Called only for a value that a section does not have: one that cannot be used."""
        if section is None:
            return self
        from zcli_core.errors import ConfigError

        raise ConfigError(section.__dict__["_unusable"][self._name])


def _read_only(default: Any) -> Any:
    """Two ``zCLI`` objects share the default, so nobody may change it."""
    if isinstance(default, dict):
        return MappingProxyType(default)
    return tuple(default) if isinstance(default, list) else default


def setting(
    default: Any,
    help: str,  # noqa: A002
    *,
    secret: bool = False,
    security: bool = False,
    restricts: bool = False,
    written: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    variables: tuple[str, ...] = (),
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """Declare one setting of a section: its default, what it is for, and what it may be.

    ``secret`` values are shown nowhere: not in errors, logs, ``repr`` or ``zcli config``.
    ``security``: the setting decides who is admitted or trusted, so the console shows a warning about a misspelt name
    in every deployment. Every secret is one.
    ``restricts``: the setting limits what others may do. A name within two edits of its own, which would leave the
    default in force, is an error once the part that the setting belongs to starts. Every ``security`` setting does.
    ``written``: the path is one that zCLI writes to, so a relative one is below the working directory. Any other path
    is read: a relative one must be in a folder that is trusted (:mod:`zcli_core.system.trusted`).
    ``minimum`` and ``maximum`` are inclusive, ``above`` is not.
    ``variables`` are environment variables that an ecosystem already uses for it (``PGHOST``), read besides
    the derived ``ZCLI_<SECTION>_<KEY>``.
    ``check`` takes the converted value and returns what was expected instead, or None if it will do.
    """
    return Declaration(
        default,
        help,
        secret=secret,
        security=security,
        restricts=restricts,
        written=written,
        minimum=minimum,
        maximum=maximum,
        above=above,
        variables=variables,
        check=check,
    )


class Composite(NamedTuple):
    """An ecosystem's variable that sets several settings of a section at once: ``REDIS_URL``.

    ``sets`` names the attributes that it may set. ``parse`` takes its text and returns values by attribute; what it
    leaves out, or gives as None, is not set. It raises ValueError for a text that is not ``expected``, and
    :class:`Unusable` for one that is right and of no use here. Other software may have set the variable, so both are
    errors only when a script uses the first setting of ``sets`` and no other value replaces it. The text itself is
    never shown, because it may hold a password. Any variable of one setting alone wins over it in the same layer.
    """

    variable: str
    expected: str
    sets: tuple[str, ...]
    parse: Callable[[str], Mapping[str, Any]]


class Unusable(Exception):  # noqa: N818 - it becomes a warning, and an error when the setting is used
    """A composite variable's text is right but of no use here; the message says why, without showing the text."""


class UnusableValue:
    """Stands for a value that other software may have set: it is an error only if the setting is used.

    ``problem`` is that error, as a sentence.
    """

    __slots__ = ("problem",)

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __repr__(self) -> str:
        return "<cannot be used>"


class Section:
    """The base of a settings section; an instance of it holds the section's values, read only.

    >>> class Memcached(Section, name="services.memcached"):
    ...     '''Where memcached listens.'''
    ...     port: int = setting(11211, "TCP port", minimum=1, maximum=65535)
    >>> Memcached(port=11212).port
    11212

    ``name`` is the section's place in the configuration; a dot nests it. ``variable_prefix`` is a prefix for
    environment variables besides the derived ``ZCLI_<NAME>_``. ``composites`` are variables that set several settings.

    Settings may be bool, int, float, str, ``pathlib.Path``, ``tuple[str, ...]``, ``Mapping[str, str]``, a ``Literal``
    of strings, or one of these ``| None``.
    """

    section_name: ClassVar[str]
    variable_prefix: ClassVar[str | None]
    declarations: ClassVar[Mapping[str, Declaration]]
    composites: ClassVar[tuple[Composite, ...]]
    #: Attributes without a value, and the error that reading one raises.
    _unusable: Mapping[str, str]
    #: The attributes whose values are secrets because of where they come from, whatever their declarations say.
    _hidden: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(
        cls, *, name: str, variable_prefix: str | None = None, composites: tuple[Composite, ...] = ()
    ) -> None:
        super().__init_subclass__()
        cls.section_name = name
        cls.variable_prefix = variable_prefix
        # What a base section declares comes first, and may be declared anew.
        declared = (item for base in reversed(cls.__mro__) for item in vars(base).items())
        cls.declarations = {k: v for k, v in declared if isinstance(v, Declaration)}
        cls.composites = composites

    def __init__(self, **values: Any) -> None:
        """Take the values by name; what is not given has its default. Values are not converted."""
        unknown = values.keys() - self.declarations.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no settings {', '.join(sorted(unknown))}")
        self.__dict__["_unusable"] = {k: v.problem for k, v in values.items() if isinstance(v, UnusableValue)}
        for name, declaration in self.declarations.items():
            if name not in self._unusable:
                self.__dict__[name] = values.get(name, declaration.default)

    def __setattr__(self, name: str, value: Any) -> None:
        key = f"{self.section_name}.{name}".lstrip(".")
        raise AttributeError(f"settings are read only; set {key} in a configuration layer")

    def __repr__(self) -> str:
        shown = (
            f"{name}={redact_value(self.__dict__[name], declaration.secret or name in self._hidden)!r}"
            for name, declaration in self.declarations.items()
            if name not in self._unusable
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Setting:
    """One declared setting, as the rest of the configuration sees it."""

    __slots__ = ("attribute", "declaration", "key", "provider", "section")

    def __init__(self, section: type[Section], attribute: str, provider: str) -> None:
        self.section = section
        self.attribute = attribute
        self.declaration = section.declarations[attribute]
        self.provider = provider
        self.key = f"{section.section_name}.{attribute}" if section.section_name else attribute

    @property
    def default(self) -> Any:
        """The declared default."""
        return self.declaration.default

    @property
    def secret(self) -> bool:
        """Whether its value may never be shown."""
        return self.declaration.secret

    @property
    def security(self) -> bool:
        """Whether it decides who is admitted or trusted."""
        return self.declaration.security

    @property
    def restricts(self) -> bool:
        """Whether it limits what others may do."""
        return self.declaration.restricts

    @property
    def type(self) -> Any:
        """The declared type, resolved on first use: resolving is slow and most settings keep their default."""
        return _type_hints(self.section)[self.attribute]

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, the derived one first."""
        derived = "ZCLI_" + self.key.replace(".", "_").upper()
        prefix = self.section.variable_prefix
        own = (prefix + self.attribute.upper(),) if prefix else ()
        return (derived, *own, *self.declaration.variables)

    @property
    def composites(self) -> tuple[str, ...]:
        """The environment variables that set it together with others."""
        if not self.section.composites:
            return ()
        return tuple(each.variable for each in self.section.composites if self.attribute in each.sets)


_hints: dict[type[Section], dict[str, Any]] = {}


def _type_hints(section: type[Section]) -> dict[str, Any]:
    if section not in _hints:
        from pathlib import Path

        # Sections may import Path for type checkers only: at start-up nothing else needs it.
        _hints[section] = get_type_hints(section, localns={"Path": Path})
    return _hints[section]


def declared_settings(section: type[Section], provider: str) -> list[Setting]:
    """The settings a section declares, in its own order.

    Raises TypeError, with what is wrong, for a class that is no section.
    """
    if not (isinstance(section, type) and issubclass(section, Section) and hasattr(section, "section_name")):
        raise TypeError(f"{section!r} is no settings section: derive it from Section with a name")
    name = section.section_name
    if name and not all(part.isidentifier() and part == part.lower() for part in name.split(".")):
        raise TypeError(f"{section.__qualname__} is named {name!r}; a section's name is lower case, dots nest it")
    settings = [Setting(section, attribute, provider) for attribute in section.declarations]
    for item in settings:
        if item.key.partition(".")[0] in RESERVED:
            raise TypeError(f"the configuration keeps the name of {item.key} for itself")
    undeclared = [name for name in get_annotations(section) if name not in section.declarations]
    if undeclared:
        raise TypeError(f"{section.__qualname__}.{undeclared[0]} is not declared with setting()")
    return settings


def find_clash(declared: Iterable[Setting], others: Iterable[Setting]) -> str | None:
    """What in ``declared`` is taken by one of its own settings or of ``others``, as a sentence; None if nothing is.

    A key is also taken if it stands above or below another: a setting has no settings in it.
    """
    taken = _Taken()
    for setting in others:
        taken.add(setting)
    for setting in declared:
        clash = taken.clash_with(setting)
        if clash is not None:
            return clash
        taken.add(setting)
    return None


class _Taken:
    """Every name that settings lay claim to, by name: all that one start-up compares is compared here."""

    def __init__(self) -> None:
        self._sections: dict[str, Setting] = {}
        self._keys: dict[str, Setting] = {}
        self._above: dict[str, Setting] = {}
        self._variables: dict[str, Setting] = {}

    def add(self, setting: Setting) -> None:
        self._sections.setdefault(setting.section.section_name, setting)
        self._keys[setting.key] = setting
        for name in _names_above(setting.key):
            self._above.setdefault(name, setting)
        for name in (*setting.variables, *setting.composites):
            self._variables[name] = setting

    def clash_with(self, setting: Setting) -> str | None:
        key, section = setting.key, setting.section
        other = self._sections.get(section.section_name)
        if other is not None and other.section is not section:
            return f"the section {section.section_name!r} is already declared by {other.provider}"
        other = next(filter(None, map(self._keys.get, (key, *_names_above(key)))), None) or self._above.get(key)
        if other is not None:
            return f"{key} cannot be a setting beside {other.key} of {other.provider}"
        for name in (*setting.variables, *setting.composites):
            other = self._variables.get(name)
            # The settings of one section share their composite variables.
            if other is not None and not (other.section is section and name in setting.composites):
                return f"the variable {name} of {key} already belongs to {other.key} of {other.provider}"
        return None


def _names_above(key: str) -> list[str]:
    """``["a", "a.b"]`` of ``"a.b.c"``."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def verify_types(settings: list[Setting]) -> None:
    """Raise TypeError for a setting whose type no value can be converted to."""
    settings = [item for item in settings if not _is_plain(item)]
    if not settings:
        return
    from pathlib import Path

    supported = (bool, int, float, str, Path, tuple[str, ...], Mapping[str, str])
    for item in settings:
        try:
            declared = without_none(item.type)
        except Exception as error:
            raise TypeError(f"the type of {item.key} cannot be resolved: {error}") from error
        if declared not in supported and get_origin(declared) is not Literal:
            raise TypeError(f"{item.key} has a type that settings cannot have: {declared}")


#: Annotations that need no resolving to be known; ``Path`` is always the standard library's here.
_PLAIN = frozenset({"bool", "int", "float", "str", "Path", "tuple[str, ...]"})


def _is_plain(item: Setting) -> bool:
    """Whether the type can be told from how it is written, without the imports that resolving it takes."""
    for base in item.section.__mro__:
        written = get_annotations(base).get(item.attribute)
        if written is not None:
            return isinstance(written, str) and written.removesuffix(" | None") in _PLAIN
    return False


def without_none(declared: Any) -> Any:
    """``X`` of ``X | None``; any other type as it is."""
    if get_origin(declared) in (Union, UnionType):
        return next(item for item in get_args(declared) if item is not type(None))
    return declared
