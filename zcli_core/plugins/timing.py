"""What plugins cost at the start: the observer behind ``zcli plugins --timings``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class PluginTiming(NamedTuple):
    """What one plugin took, in seconds of wall-clock time.

    ``hooks`` holds the declaring hooks that it implements; one that is called twice has the sum. ``share`` is this
    plugin's part of all plugins' ``total``, 0 to 1.
    """

    plugin: str
    imported: float
    hooks: dict[str, float]
    total: float
    share: float


class Timings:
    """Measures everything that the host calls of each plugin, while it is given to the host as ``observe``."""

    def __init__(self) -> None:
        self._seconds: dict[str, dict[str, float]] = {}

    def __call__(
        self, plugin: str, what: str, names: tuple[str, ...], function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """A function that does the same and notes how long it took."""

        def timed(*values: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*values)
            finally:
                found = self._seconds.setdefault(plugin, {})
                found[what] = found.get(what, 0.0) + time.perf_counter() - began

        return timed

    def results(self) -> list[PluginTiming]:
        """What was measured so far, the dearest plugin first."""
        everything = sum(sum(found.values()) for found in self._seconds.values())
        results = []
        for plugin, found in self._seconds.items():
            total = sum(found.values())
            hooks = {what: seconds for what, seconds in found.items() if what != "import"}
            results.append(PluginTiming(plugin, found.get("import", 0.0), hooks, total, total / (everything or 1.0)))
        return sorted(results, key=lambda result: -result.total)
