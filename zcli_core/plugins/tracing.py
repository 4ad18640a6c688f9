"""Observers of plugin calls: the trace of ``ZCLI_TRACE_HOOKS=1`` and the timings of ``zcli plugins --timings``.

This module is imported only if one of them is in use. A line of the trace holds no secret and no message: it shows an
argument as :func:`shown` describes, only the type of a result, and only the type of an error.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sized
from typing import Any, NamedTuple

from zcli_core.log import FILE_ONLY
from zcli_core.printable import print_line

#: The arguments that are shown as they are if they are texts: names that a plugin gives itself.
_SHOWN_TEXTS = frozenset({"name"})
_MAX_LENGTH = 120
#: Lines that are kept until there is a log. A command never has one.
_MAX_EARLY_LINES = 1000


def is_on(value: str) -> bool:
    """Return whether a value of ``ZCLI_TRACE_HOOKS`` turns the trace on.

    Raises:
        ValueError: The value is neither true (1, yes, on) nor false (0, no, off).
    """
    from zcli_core.config.conversion import to_bool

    return to_bool(value, f"1 or 0, got {value[:40]!r}")


class Trace:
    """Writes a line for each call of a plugin, to stderr until there is a log."""

    def __init__(self) -> None:
        self._log: logging.Logger | None = None
        self._early: deque[str] = deque(maxlen=_MAX_EARLY_LINES)

    def log_to(self, log: logging.Logger) -> None:
        """Write to the child ``hooks`` of this log at INFO, whatever the level of the log; also the earlier lines."""
        self._log = log.getChild("hooks")
        self._log.setLevel(logging.INFO)
        for line in self._early:
            self._log.info("%s", line, extra=FILE_ONLY)  # it is on the console already
        self._early.clear()

    def _write(self, line: str) -> None:
        if self._log is not None:
            self._log.info("%s", line)
            return
        self._early.append(line)
        if sys.stderr is not None:
            print_line(f"zcli: {line}", sys.stderr)

    def __call__(
        self, plugin: str, what: str, names: tuple[str, ...], function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return a function that does the same and writes a line about it."""

        def traced(*values: Any) -> Any:
            arguments = ", ".join(f"{name}={shown(name, value)}" for name, value in zip(names, values, strict=False))
            call = f"plugin {plugin}: {what if what == 'import' else f'{what}({arguments})'}"
            started = time.perf_counter()
            try:
                result = function(*values)
            except BaseException as error:
                self._write(f"{call} raised {type(error).__name__} after {_milliseconds(started)}")
                raise
            outcome = "done" if what == "import" else f"returned {_kind(result)}"
            self._write(f"{call} {outcome} in {_milliseconds(started)}")
            return result

        return traced


def shown(name: str, value: Any) -> str:
    """Return an argument as the trace shows it.

    Numbers, bools, None and zCLI's own objects are shown by their ``repr``, which never holds a secret. Of any other
    value, the type and the length are shown.
    """
    kind = type(value)
    plain = kind in (bool, int, float, type(None)) or (name in _SHOWN_TEXTS and kind is str)
    # A tuple of zCLI, such as a Context, would show its items.
    ours = str(kind.__module__).partition(".")[0] == "zcli_core" and not issubclass(kind, tuple)
    with contextlib.suppress(Exception):  # a __repr__ or __len__ that raises, or a number with too many digits
        if plain or ours:
            text = repr(value)
            return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 3]}..."
        # The length of a named tuple says nothing.
        if isinstance(value, Sized) and not hasattr(kind, "_fields"):
            return f"<{kind.__name__} of {len(value)}>"
    return f"<{kind.__name__}>"


def _milliseconds(started: float) -> str:
    return f"{(time.perf_counter() - started) * 1000:.3f} ms"


def _kind(result: Any) -> str:
    """Return the type of a result; of a list, the number and the types of its items."""
    if not isinstance(result, list):
        return "nothing" if result is None else type(result).__name__
    kinds = ", ".join(dict.fromkeys((each if isinstance(each, type) else type(each)).__name__ for each in result))
    return f"{len(result)} ({kinds})" if result else "0 items"


class PluginTiming(NamedTuple):
    """The wall-clock time that one plugin took, in milliseconds.

    Attributes:
        plugin: Name of the plugin.
        import_ms: Time of its import.
        hooks_ms: Time of each declaring hook, by name.
        total_ms: Time of the import and all hooks.
        share: Part of the total of all plugins, 0 to 1.
    """

    plugin: str
    import_ms: float
    hooks_ms: dict[str, float]
    total_ms: float
    share: float


class Timings:
    """Measures everything that the host calls of each plugin."""

    def __init__(self) -> None:
        self._milliseconds: dict[str, dict[str, float]] = {}

    def __call__(
        self, plugin: str, what: str, names: tuple[str, ...], function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return a function that does the same and records its duration."""

        def timed(*values: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*values)
            finally:
                found = self._milliseconds.setdefault(plugin, {})
                found[what] = found.get(what, 0.0) + (time.perf_counter() - started) * 1000

        return timed

    def results(self) -> list[PluginTiming]:
        """Return what was measured so far, the slowest plugin first."""
        totals = {plugin: sum(found.values()) for plugin, found in self._milliseconds.items()}
        everything = sum(totals.values()) or 1.0
        results = []
        for plugin in sorted(totals, key=lambda plugin: -totals[plugin]):
            hooks = dict(self._milliseconds[plugin])
            imported = hooks.pop("import", 0.0)
            results.append(PluginTiming(plugin, imported, hooks, totals[plugin], totals[plugin] / everything))
        return results
