"""Which value is in force, and who set it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from zcli_core.config.settings import Setting
from zcli_core.redaction import redact_value


class Value(NamedTuple):
    """One layer's value of a setting, converted; an :class:`UnusableValue` if it cannot be."""

    value: Any
    layer: str
    origin: str


class Explanation(NamedTuple):
    """Where a setting's value comes from. ``str()`` of it is meant for people.

    ``value`` is the one in force, ``layer`` and ``origin`` who set it; ``shadowed`` holds what lower layers set, the
    highest first. The values of a secret read ``"<secret>"``, and so does whatever its layer calls one.
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


def explain(setting: Setting, values: list[Value], is_secret: Callable[[Setting, str], bool]) -> Explanation:
    """The explanation of a setting from its values, the lowest layer first.

    ``is_secret(setting, layer)`` tells which of them may not be shown.
    """
    *lower, top = [item._replace(value=redact_value(item.value, is_secret(setting, item.layer))) for item in values]
    return Explanation(setting.key, top.value, top.layer, top.origin, tuple(reversed(lower)))
