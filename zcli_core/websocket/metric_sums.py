"""Sums of what several workers count.

The functions know the gauges and treat every other number as a counter. So a supervisor can add what a worker reports
that runs a later version of zCLI, as after a reload.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from zcli_core.types import BackplaneMetrics, WebSocketMetrics

#: Values of this moment. Those of a worker that has ended mean nothing.
_GAUGES = frozenset(("clients", "rooms", "loop_lag"))
_BACKPLANE_GAUGES = frozenset(("up", "probe_seconds", "queued_bytes"))
_BACKPLANE = "backplane"


def add(into: WebSocketMetrics, other: WebSocketMetrics) -> None:
    """Add the counters and histograms of ``other`` to ``into``, and leave the gauges of ``into`` as they are.

    A supervisor keeps the counters of workers that have ended with it, so that sums only grow.
    """
    _add(cast("dict[str, Any]", into), cast("dict[str, Any]", other), _GAUGES)


def _add(into: dict[str, Any], other: dict[str, Any], gauges: frozenset[str]) -> None:
    for name, value in other.items():
        if name in gauges:
            into.setdefault(name, _zero(value))
        elif isinstance(value, dict):
            if into.get(name) is None:
                into[name] = {}
            _add(into[name], value, _BACKPLANE_GAUGES if name == _BACKPLANE else frozenset())
        elif value is None:
            into.setdefault(name, None)
        else:
            into[name] = into.get(name, 0) + value


def _zero(gauge: object) -> object:
    return None if gauge is None else type(gauge)()


def total(running: Iterable[WebSocketMetrics], ended: WebSocketMetrics | None = None) -> WebSocketMetrics:
    """Return the metrics of several workers as one.

    Counters and histograms are added. ``clients``, ``rooms`` and ``backplane.queued_bytes`` are added too, so a room
    counts once for each worker that has a client in it. ``loop_lag`` and ``backplane.probe_seconds`` are the largest.
    The backplane is up if that of every running worker is up.

    Args:
        running: The metrics of the workers that run, at least one if ``ended`` is None.
        ended: The counters of the workers that have ended, made with :func:`add`.

    Raises:
        ValueError: No metrics were given.
    """
    workers = list(running)
    given = [*workers, *([] if ended is None else [ended])]
    if not given:
        raise ValueError("total() needs the metrics of at least one worker")
    result = copy.deepcopy(given[0])
    for other in given[1:]:
        add(result, other)
    result["clients"] = sum(each["clients"] for each in workers)
    result["rooms"] = sum(each["rooms"] for each in workers)
    result["loop_lag"] = max((each["loop_lag"] for each in workers), default=0.0)
    if result["backplane"] is not None:
        _set_backplane_gauges(result["backplane"], [each["backplane"] for each in workers])
    return result


def _set_backplane_gauges(result: BackplaneMetrics, links: list[BackplaneMetrics | None]) -> None:
    known = [each for each in links if each is not None]
    probes = [each["probe_seconds"] for each in known if each["probe_seconds"] is not None]
    result["up"] = bool(known) and all(each["up"] for each in known)
    result["probe_seconds"] = max(probes, default=None)
    result["queued_bytes"] = sum(each["queued_bytes"] for each in known)
