"""Declares sections of settings. Everything else about a setting is derived from its declaration.

Sections are not dataclasses: making a frozen dataclass takes 0.6 ms, for each section at every start. The base class
also makes sure that no ``repr`` shows a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import get_annotations
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from zcli_core.errors import ConfigError
from zcli_core.redaction import redact_value

#: Names of attributes of the configuration. No key of a setting may begin with one.
RESERVED = frozenset({"deployments", "env", "explain", "get", "log_file", "section", "settings"})


class Declaration(NamedTuple):
    """The declaration of one setting, as :func:`setting` makes it."""

    default: Any
    help: str
    secret: bool
    security: bool
    restricts: bool
    written: bool
    minimum: float | None
    maximum: float | None
    above: float | None
    variables: tuple[str, ...]
    check: Callable[[Any], str | None] | None
    only_with: tuple[str, str] | None
    exact: bool


def _read_only(default: Any) -> Any:
    """Return an immutable copy of a default, because all ``zCLI`` objects share it."""
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
    only_with: tuple[str, str] | None = None,
    exact: bool = False,
) -> Any:
    """Declare one setting of a section.

    Args:
        default: Value if no layer sets one.
        help: What the setting is, in a phrase that stands alone: ``"deadline of a whole HTTP call, in seconds"``.
        secret: Whether the value is never shown: not in errors, logs, ``repr`` or ``zcli config``.
        security: Whether the setting decides who is admitted or trusted. The console then shows a warning about a
            misspelt name in every deployment. True for every secret.
        restricts: Whether the setting limits what others may do. A name within two edits of its name is then an error
            when the part that the setting belongs to starts, because the default would stay in force. True for every
            ``security`` setting.
        written: Whether zCLI writes to the path. A relative path is then below the working directory. A relative path
            that is read must be in a trusted folder (:mod:`zcli_core.system.trusted`).
        minimum: Lowest valid number.
        maximum: Highest valid number.
        above: Number that a valid number must exceed.
        variables: Environment variables that other software uses for the same (``PGHOST``), read besides
            ``ZCLI_<SECTION>_<KEY>``.
        check: Takes the converted value and returns what it must be (``"a URL"``), or None if it is valid.
        only_with: Key and value of another setting without which this one has no effect
            (``("websocket.transport", "uvicorn")``). A script that sets this one without it gets a warning at its
            start.
        exact: Whether a choice (``Literal``) must be written as it is declared; otherwise case does not matter.

    Returns:
        The declaration, typed as the value of the setting.
    """
    security = security or secret
    restricts = restricts or security
    default = _read_only(default)
    return Declaration(
        default, help, secret, security, restricts, written, minimum, maximum, above, variables, check, only_with, exact
    )


class Composite(NamedTuple):
    """A variable of other software that sets several settings of a section at once: ``REDIS_URL``.

    Its text is never shown, because it may hold a password. In the same layer, a variable of one setting wins over it.

    Attributes:
        variable: Name of the variable.
        expected: What its text must be: ``"a URL such as redis://127.0.0.1:6379/0"``.
        sets: Attributes that it may set.
        parse: Takes the text and returns values by attribute. An attribute that is missing or None is not set. It
            raises ValueError if the text is invalid, and :class:`Unusable` if the text is valid but cannot be used.
            Other software may have set the variable, so both are errors only when a script uses the first setting of
            ``sets`` and no other layer sets it.
    """

    variable: str
    expected: str
    sets: tuple[str, ...]
    parse: Callable[[str], Mapping[str, Any]]


class Unusable(Exception):  # noqa: N818 - it becomes a warning, and an error when the setting is used
    """The text of a composite variable is valid but cannot be used. The message says why, without the text."""


class UnusableValue:
    """Replaces an invalid value that other software may have set. It is an error only if the setting is used.

    Attributes:
        problem: The error, as a sentence.
    """

    __slots__ = ("problem",)

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __repr__(self) -> str:
        return "<cannot be used>"


class Section:
    """Base class of settings sections. An instance holds the values of a section, read only.

    >>> class Memcached(Section, name="services.memcached"):
    ...     '''Where memcached listens.'''
    ...     port: int = setting(11211, "TCP port", minimum=1, maximum=65535)
    >>> Memcached(port=11212).port
    11212

    The class arguments are ``name``, the key of the section, in which a dot nests it; ``variable_prefix``, a prefix of
    environment variables besides ``ZCLI_<NAME>_``; and ``composites``, variables that set several settings.

    The type of a setting is bool, int, float, str, ``pathlib.Path``, ``tuple[str, ...]``, ``Mapping[str, str]``, a
    ``Literal`` of strings, ``Path | Mapping[str, Any]`` for a document that is in a file or in the configuration
    itself, one of these ``| None``, or several of them, of which the first that fits is taken
    (``int | Literal["auto"]``).
    """

    section_name: ClassVar[str]
    variable_prefix: ClassVar[str | None]
    declarations: ClassVar[Mapping[str, Declaration]]
    composites: ClassVar[tuple[Composite, ...]]
    #: Attributes without a usable value, with the error that reading them raises.
    _unusable: Mapping[str, str]
    #: Attributes whose values are secret because their layer says so.
    _hidden: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(
        cls, *, name: str, variable_prefix: str | None = None, composites: tuple[Composite, ...] = ()
    ) -> None:
        super().__init_subclass__()
        cls.section_name = name
        cls.variable_prefix = variable_prefix
        # The settings of a base class come first. A section may declare them again.
        cls.declarations = {name: item for base in reversed(cls.__mro__) for name, item in _declared_in(base).items()}
        cls.composites = composites

    def __init__(self, **values: Any) -> None:
        """Take values by name, without converting them. Other settings have their defaults."""
        unknown = values.keys() - self.declarations.keys()
        if unknown:
            raise TypeError(f"unknown settings of {type(self).__name__}: {', '.join(sorted(unknown))}")
        self.__dict__["_unusable"] = {k: v.problem for k, v in values.items() if isinstance(v, UnusableValue)}
        for name, declaration in self.declarations.items():
            if name not in self._unusable:
                self.__dict__[name] = values.get(name, declaration.default)

    if not TYPE_CHECKING:  # type checkers know the attributes

        def __getattr__(self, name: str) -> Any:
            """Raise ConfigError for a setting whose value cannot be used."""
            problem = self.__dict__.get("_unusable", {}).get(name)
            if problem is not None:
                raise ConfigError(problem)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

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


def _declared_in(base: type) -> Mapping[str, Declaration]:
    """Return the declarations of a section or of another base class of sections, and take them off the class.

    An attribute without a usable value must not be found on the class, so that reading it reaches ``__getattr__``.
    """
    own = {name: item for name, item in vars(base).items() if isinstance(item, Declaration)}
    for name in own:
        delattr(base, name)
    if own:
        base.declarations = own  # type: ignore[attr-defined]
    found: Mapping[str, Declaration] = vars(base).get("declarations", {})
    return found


class Setting:
    """One declared setting.

    Attributes:
        section, attribute: The section and the name in it.
        provider: Name of the plugin that declares it.
        key: Key of the setting, such as ``"http.timeout"``.
        declaration: What :func:`setting` declares.
        default: The declared default.
        secret: Whether the value must not be shown.
        security: Whether the setting decides who is admitted or trusted.
        restricts: Whether the setting limits what others may do.
    """

    def __init__(self, section: type[Section], attribute: str, provider: str) -> None:
        self.section = section
        self.attribute = attribute
        self.provider = provider
        self.key = f"{section.section_name}.{attribute}" if section.section_name else attribute
        self.declaration = declaration = section.declarations[attribute]
        self.default = declaration.default
        self.secret, self.security, self.restricts = declaration.secret, declaration.security, declaration.restricts

    @property
    def type(self) -> Any:
        """The declared type. It is resolved on first use, because that is slow and most settings keep their default."""
        return _type_hints(self.section)[self.attribute]

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, ``ZCLI_<KEY>`` first."""
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

        # Sections import Path for type checkers only, because importing it takes time at every start.
        _hints[section] = get_type_hints(section, localns={"Path": Path})
    return _hints[section]


def declared_settings(section: type[Section], provider: str) -> list[Setting]:
    """Return the settings that a section declares, in its order.

    Args:
        section: The section.
        provider: Name of the plugin that declares it.

    Raises:
        TypeError: The class is not a valid section; the message says what is wrong.
    """
    if not (isinstance(section, type) and issubclass(section, Section) and hasattr(section, "section_name")):
        raise TypeError(f"{section!r} is not a settings section; derive it from Section and give it a name")
    name = section.section_name
    if name and not all(part.isidentifier() and part == part.lower() for part in name.split(".")):
        raise TypeError(f"the name of {section.__qualname__} must be lower case, with dots to nest it, got {name!r}")
    settings = [Setting(section, attribute, provider) for attribute in section.declarations]
    for item in settings:
        if item.key.partition(".")[0] in RESERVED:
            raise TypeError(f"the name of the setting {item.key} is reserved for an attribute of the configuration")
    undeclared = [name for name in get_annotations(section) if name not in section.declarations]
    if undeclared:
        raise TypeError(f"{section.__qualname__}.{undeclared[0]} must be declared with setting()")
    return settings


def find_clash(declared: Iterable[Setting], others: Iterable[Setting]) -> str | None:
    """Return a sentence if a name of ``declared`` is already in use by ``others`` or by each other, else None.

    A key clashes also with a key above or below it, because a setting cannot hold other settings.
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
    """Every name that settings use, by name, so that comparing all settings of a start is fast."""

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
            return f"the setting {key} clashes with {other.key} of {other.provider}"
        for name in (*setting.variables, *setting.composites):
            other = self._variables.get(name)
            # The settings of one section share their composite variables.
            if other is not None and not (other.section is section and name in setting.composites):
                return f"the variable {name} of {key} already belongs to {other.key} of {other.provider}"
        return None


def _names_above(key: str) -> list[str]:
    """Return ``["a", "a.b"]`` for ``"a.b.c"``."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def verify_types(settings: list[Setting]) -> None:
    """Check that values can be converted to the types of these settings.

    Raises:
        TypeError: A setting has another type.
    """
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
        types = alternatives(declared)
        if not all(one in supported or get_origin(one) is Literal or is_document(one) for one in types):
            raise TypeError(f"the type of the setting {item.key} is not supported: {declared}")


#: Annotations whose type is known without resolving them. ``Path`` is always that of pathlib.
_PLAIN = frozenset({"bool", "int", "float", "str", "Path", "tuple[str, ...]", "Path | Mapping[str, Any]"})


def _is_plain(item: Setting) -> bool:
    """Return whether the type is known from its text, without the imports that resolving it needs."""
    for base in item.section.__mro__:
        written = get_annotations(base).get(item.attribute)
        if written is not None:
            return isinstance(written, str) and written.removesuffix(" | None") in _PLAIN
    return False


def without_none(declared: Any) -> Any:
    """Return ``X`` for ``X | None``, and any other type as it is."""
    found = alternatives(declared)
    return found[0] if len(found) == 1 else declared


def alternatives(declared: Any) -> tuple[Any, ...]:
    """Return ``(X, Y)`` for ``X | Y | None``, and ``(X,)`` for another type. A document is one type."""
    if get_origin(declared) in (Union, UnionType) and not is_document(declared):
        return tuple(item for item in get_args(declared) if item is not type(None))
    return (declared,)


def is_document(declared: Any) -> bool:
    """Return whether a type is that of a document: the path of a file, or a nested mapping."""
    if get_origin(declared) not in (Union, UnionType):
        return False
    from pathlib import Path

    return set(get_args(declared)) - {type(None)} == {Path, Mapping[str, Any]}
