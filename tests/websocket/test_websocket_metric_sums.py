"""The sums of what several workers count."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.app import zCLI
from zcli_core.types import BackplaneMetrics, WebSocketMetrics
from zcli_core.websocket.counters import Counters
from zcli_core.websocket.metric_sums import add, total

LINKS: BackplaneMetrics = {
    "up": True, "probe_seconds": 0.5, "published": 1, "failed": {"down": 2}, "received": 3, "invalid": 4,
    "lost": {"refused": 5}, "reconnects": 6, "queued_bytes": 7,
}  # fmt: skip
GAUGES = ("clients", "rooms", "loop_lag")


@pytest.fixture
def empty(make_z: Callable[..., zCLI]) -> WebSocketMetrics:
    """The metrics of a server that has not begun."""
    metrics: WebSocketMetrics = make_z().comm.websocket.metrics()
    return metrics


def _worker(empty: WebSocketMetrics, number: int, links: BackplaneMetrics | None = None) -> WebSocketMetrics:
    """Return metrics in which every number is a multiple of ``number``."""
    counters = Counters()
    for _ in range(number):
        counters.open_seconds.add(0.1)
    worker = copy.deepcopy(empty)
    worker["open_seconds"] = counters.open_seconds.read()
    worker["backplane"] = copy.deepcopy(links)
    for name in ("clients", "rooms", "loop_lag", "messages_received", "messages_sent", "bytes_sent", "handler_errors"):
        worker[name] = number  # type: ignore[literal-required]
    worker["connections"]["accepted"] = worker["closed"]["1001"] = worker["http"]["responses"]["2xx"] = number
    return worker


def test_total_adds_counters_and_histograms(empty: WebSocketMetrics) -> None:
    """Those of workers that have ended too; gauges are of those that run."""
    ended = copy.deepcopy(empty)
    add(ended, _worker(empty, 100))
    add(ended, _worker(empty, 1000))
    assert [ended[name] for name in GAUGES] == [0, 0, 0]  # type: ignore[literal-required]
    seen = total([_worker(empty, 1), _worker(empty, 10)], ended)
    assert (seen["clients"], seen["rooms"], seen["loop_lag"]) == (11, 11, 10)
    assert (seen["messages_received"], seen["connections"]["accepted"], seen["closed"]["1001"]) == (1111, 1111, 1111)
    assert (seen["http"]["responses"]["2xx"], seen["open_seconds"]["count"]) == (1111, 1111)
    assert (seen["open_seconds"]["microseconds"], seen["open_seconds"]["buckets"]["0.1"]) == (111_100_000, 1111)
    assert set(seen) == set(WebSocketMetrics.__annotations__)


def test_total_of_one_is_the_same(empty: WebSocketMetrics) -> None:
    """And nothing of it is shared."""
    worker = _worker(empty, 3, LINKS)
    before = copy.deepcopy(worker)
    seen = total([worker])
    assert seen == worker
    add(seen, worker)
    assert worker == before


def test_total_of_links(empty: WebSocketMetrics) -> None:
    """The backplane is up if it is up everywhere; the longest probe counts."""
    slow: BackplaneMetrics = {**LINKS, "up": False, "probe_seconds": 2.0}
    unknown: BackplaneMetrics = {**LINKS, "probe_seconds": None}
    links = total([_worker(empty, 1), _worker(empty, 1, LINKS), _worker(empty, 1, slow), _worker(empty, 1, unknown)])
    assert links["backplane"] == {
        **LINKS, "up": False, "probe_seconds": 2.0, "published": 3, "failed": {"down": 6}, "received": 9, "invalid": 12,
        "lost": {"refused": 15}, "reconnects": 18, "queued_bytes": 21,
    }  # fmt: skip
    assert total([_worker(empty, 1, LINKS), _worker(empty, 1, unknown)])["backplane"]["up"] is True  # type: ignore[index]


def test_total_without_workers_keeps_counters(empty: WebSocketMetrics) -> None:
    """All workers have crashed at once; their links are down with them."""
    ended = copy.deepcopy(empty)
    add(ended, _worker(empty, 5, LINKS))
    seen = total([], ended)
    assert (seen["messages_sent"], seen["clients"], seen["loop_lag"]) == (5, 0, 0)
    links = seen["backplane"]
    assert links is not None
    assert (links["up"], links["probe_seconds"], links["queued_bytes"], links["published"]) == (False, None, 0, 1)
    with pytest.raises(ValueError, match="at least one worker"):
        total([])


def test_total_takes_counters_of_a_later_version(empty: WebSocketMetrics) -> None:
    """A reload may bring another zCLI than that of the supervisor."""
    later: Any = _worker(empty, 2)
    later["closed"]["1015"] = later["invented"] = 2
    later["groups"] = {"a": {"b": 2}}
    seen: Any = total([_worker(empty, 1), later], _worker(empty, 4))
    assert (seen["closed"]["1015"], seen["invented"], seen["groups"], seen["messages_sent"]) == (
        2,
        2,
        {"a": {"b": 2}},
        7,
    )


@given(st.lists(st.lists(st.floats(0, 100), max_size=5), min_size=1, max_size=5))
def test_total_of_histograms_has_no_order(workers: list[list[float]]) -> None:
    """Floats would shrink by a rounding error when a worker ends, and a reader would see a restart."""

    def metrics(durations: list[float]) -> Any:
        counters = Counters()
        for duration in durations:
            counters.open_seconds.add(duration)
        return {
            "clients": 0,
            "rooms": 0,
            "loop_lag": 0,
            "backplane": None,
            "open_seconds": counters.open_seconds.read(),
        }

    sums = {str(total(order)) for order in itertools.permutations([metrics(each) for each in workers])}
    assert len(sums) == 1
