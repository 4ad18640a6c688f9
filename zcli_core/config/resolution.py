"""The result of layering: for each setting, the value of each layer and where it was set."""

from __future__ import annotations

from typing import Any, NamedTuple

from zcli_core.config.contract import Entry
from zcli_core.config.settings import Setting, UnusableValue
from zcli_core.errors import ConfigError
from zcli_core.redaction import redact_value


class Value(NamedTuple):
    """The value of a setting in one layer: converted, or an :class:`UnusableValue` if that is not possible."""

    value: Any
    layer: str
    origin: str


class Explanation(NamedTuple):
    """Which value of a setting is in force and where it was set. ``str()`` gives a text of several lines.

    Attributes:
        key: Key of the setting, such as ``"http.timeout"``.
        value: Value in force. Secret values are shown as ``"<secret>"``.
        layer: Name of the layer that sets it.
        origin: Where the layer found it, such as ``".zEnv:3"``.
        shadowed: Values of lower layers, the highest layer first.
    """

    key: str
    value: Any
    layer: str
    origin: str
    shadowed: tuple[Value, ...]

    def __str__(self) -> str:
        lines = [f"{self.key} = {self.value!r}", f"  from {self.layer}: {self.origin}"]
        lines += [f"  shadows {value!r} from {layer}: {origin}" for value, layer, origin in self.shadowed]
        return "\n".join(lines)


class Misspelt(NamedTuple):
    """A name that sets nothing and resembles the name of a setting that restricts."""

    problem: str
    layer: str
    origin: str


class Resolution:
    """The values of all settings after layering, with warnings and problems.

    Attributes:
        deployment: Deployment in force.
        values: By key, the values of a setting, the lowest layer first. Settings that no layer sets are missing.
        variables: Every environment-style name that a layer gives, with the value from the highest layer.
        exported: Names in ``variables`` that go into the process's environment, because other libraries may read them.
        secrets: (key, layer) of each value that its layer marks as a secret, whatever its setting declares.
        misspelt: Misspelt names by the key of the setting that was probably meant.
        warnings: Sentences for the log.
        problems: Sentences for a ConfigError.
        entries: All entries of all layers, not converted.
        env_file: Path of the ``.zEnv`` that was read, or None.
    """

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.values: dict[str, list[Value]] = {}
        self.variables: dict[str, str] = {}
        self.exported: set[str] = set()
        self.secrets: set[tuple[str, str]] = set()
        self.misspelt: dict[str, list[Misspelt]] = {}
        self.warnings: list[str] = []
        self.problems: list[str] = []
        self.entries: list[Entry] = []
        self.env_file: str | None = None

    def warn(self, warning: str) -> None:
        """Add a warning, each text once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def top(self, key: str, default: Any) -> Any:
        """Return the value in force, which may be an UnusableValue, or ``default`` if no layer sets it."""
        values = self.values.get(key)
        return values[-1].value if values else default

    def usable(self, key: str, default: Any) -> Any:
        """Return the value in force, or ``default`` if no layer sets it.

        Raises:
            ConfigError: The value cannot be used.
        """
        value = self.top(key, default)
        if isinstance(value, UnusableValue):
            raise ConfigError(value.problem)
        return value

    def is_secret(self, setting: Setting, layer: str) -> bool:
        """Return whether the value of a setting in a layer must not be shown."""
        return setting.secret or (setting.key, layer) in self.secrets

    def explain(self, setting: Setting) -> Explanation:
        """Return the explanation of a setting, without secrets."""
        values = self.values.get(setting.key) or [Value(setting.default, "defaults", setting.provider)]
        *lower, top = [v._replace(value=redact_value(v.value, self.is_secret(setting, v.layer))) for v in values]
        return Explanation(setting.key, top.value, top.layer, top.origin, tuple(reversed(lower)))
