"""Sums of what several workers count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zcli_core.types import WebSocketMetrics

#: Values of this moment. They are not kept for a worker that has ended.
_GAUGES = ("clients", "rooms")
_BACKPLANE_GAUGES = ("up", "probe_seconds", "queued_bytes")


def add_metrics(into: WebSocketMetrics, other: WebSocketMetrics) -> None:
    """Add the values of another worker."""
    _add(into, other)


def add_ended(into: WebSocketMetrics, other: WebSocketMetrics) -> None:
    """Add the counters of a worker that has ended."""
    counters: dict[str, Any] = {name: value for name, value in other.items() if name not in _GAUGES}
    backplane = counters.get("backplane")
    if backplane is not None:
        counters["backplane"] = {name: value for name, value in backplane.items() if name not in _BACKPLANE_GAUGES}
    _add(into, counters)


def _add(into: Any, other: Any) -> None:
    for name, value in other.items():
        there = into.get(name)
        if there is None:
            into[name] = _copy(value)
        elif value is None:
            continue
        elif isinstance(value, dict):
            _add(there, value)
        elif isinstance(value, bool):
            into[name] = there and value
        elif name == "probe_seconds":
            into[name] = max(there, value)
        else:
            into[name] = there + value


def _copy(value: Any) -> Any:
    return {name: _copy(item) for name, item in value.items()} if isinstance(value, dict) else value
