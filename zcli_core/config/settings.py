"""How a settings section is declared; everything else about a setting is derived from the declaration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, get_type_hints

_DECLARATION = "zcli.setting"


@dataclass(frozen=True)
class Declaration:
    """What :func:`setting` says about one field."""

    help: str
    secret: bool = False
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    variables: tuple[str, ...] = ()
    check: Callable[[Any], str | None] | None = None


def setting(
    default: Any,
    help: str,  # noqa: A002 - the word every option library uses
    *,
    secret: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    variables: tuple[str, ...] = (),
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """Declare one setting of a section: its default, what it is for, and what it may be.

    ``secret`` values are shown nowhere: not in errors, logs, ``repr`` or ``zcli config``.
    ``minimum`` and ``maximum`` are inclusive, ``above`` is not.
    ``variables`` are environment variables that an ecosystem already uses for it (``PGHOST``), read besides
    the derived ``ZCLI_<SECTION>_<KEY>``.
    ``check`` takes the converted value and returns what was expected instead, or None if it will do.
    """
    declaration = Declaration(help, secret, minimum, maximum, above, variables, check)
    options: dict[str, Any] = {"repr": not secret, "metadata": {_DECLARATION: declaration}}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: MappingProxyType(default), **options)
    return field(default=default, **options)


class Section:
    """The base of a settings section: a frozen dataclass whose fields are made with :func:`setting`.

    >>> @dataclass(frozen=True)
    ... class Memcached(Section, name="services.memcached"):
    ...     '''Where memcached listens.'''
    ...     port: int = setting(11211, "TCP port", minimum=1, maximum=65535)

    ``name`` is the section's place in the configuration; a dot nests it. ``variable_prefix`` is a prefix for
    environment variables besides the derived ``ZCLI_<NAME>_``.

    Fields may be bool, int, float, str, Path, ``tuple[str, ...]``, ``Mapping[str, str]``, a ``Literal`` of
    strings, or one of these ``| None``.
    """

    section_name: ClassVar[str]
    variable_prefix: ClassVar[str | None]

    def __init_subclass__(cls, *, name: str | None = None, variable_prefix: str | None = None, **kw: Any):
        super().__init_subclass__(**kw)
        if name is not None:
            cls.section_name = name
            cls.variable_prefix = variable_prefix


@dataclass(frozen=True)
class Setting:
    """One declared setting, as the rest of the configuration sees it."""

    key: str
    section: type[Section]
    attribute: str
    default: Any
    declaration: Declaration
    provider: str

    @property
    def secret(self) -> bool:
        """Whether its value may never be shown."""
        return self.declaration.secret

    @property
    def type(self) -> Any:
        """The declared type, resolved on first use: resolving is slow and most settings keep their default."""
        return _type_hints(self.section)[self.attribute]

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, the derived one first."""
        derived = variable_name(self.key)
        prefix = self.section.variable_prefix
        own = (prefix + self.attribute.upper(),) if prefix else ()
        return (derived, *own, *self.declaration.variables)


def variable_name(key: str) -> str:
    """The derived environment variable of a key: ``http.timeout`` is ``ZCLI_HTTP_TIMEOUT``."""
    return "ZCLI_" + key.replace(".", "_").upper()


_hints: dict[type[Section], dict[str, Any]] = {}


def _type_hints(section: type[Section]) -> dict[str, Any]:
    if section not in _hints:
        _hints[section] = get_type_hints(section)
    return _hints[section]


def declared_settings(section: type[Section], provider: str) -> list[Setting]:
    """The settings a section declares, in its own order.

    Raises TypeError, with what is wrong, for a class that is no section.
    """
    if not (isinstance(section, type) and issubclass(section, Section) and hasattr(section, "section_name")):
        raise TypeError(f"{section!r} is no settings section: derive it from Section with a name")
    if not dataclasses.is_dataclass(section):
        raise TypeError(f"{section.__qualname__} is no dataclass: decorate it with @dataclass(frozen=True)")
    found = []
    for item in dataclasses.fields(section):
        declaration = item.metadata.get(_DECLARATION)
        if declaration is None:
            raise TypeError(f"{section.__qualname__}.{item.name} is not declared with setting()")
        key = f"{section.section_name}.{item.name}" if section.section_name else item.name
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        found.append(Setting(key, section, item.name, default, declaration, provider))
    return found


def redacted(value: Any, secret: bool) -> Any:
    """The value as it may be shown: names of a secret mapping stay, everything else of a secret goes."""
    if not secret or value is None:
        return value
    if isinstance(value, Mapping):
        return dict.fromkeys(value, "<secret>")
    return "<secret>"
