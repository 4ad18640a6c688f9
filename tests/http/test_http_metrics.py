"""``z.comm.http.metrics()``: what it counts, and that no name comes from a server."""

from __future__ import annotations

import os
import threading
from typing import get_args

import pytest
from http_clients import URL, client_over, redirect

from zcli_core.http.contract import FailureKind, TransportFailure
from zcli_core.http.counters import HttpCounters
from zcli_core.testing import make_response
from zcli_core.types import HttpMetrics


def _not_zero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _seen(metrics: HttpMetrics) -> tuple[dict[str, int], dict[str, int], int]:
    return _not_zero(metrics["responses"]), _not_zero(metrics["failures"]), metrics["seconds"]["count"]


def test_http_metrics_count_responses_and_failures() -> None:
    """Each call once, by what it came to."""
    outcomes = [make_response(status) for status in (200, 204, 404, 503)]
    http = client_over([*outcomes, TransportFailure("refused", "no server listens")])
    assert _seen(http.metrics()) == ({}, {}, 0)
    for _ in range(5):
        http.request("GET", URL)
    http.request("GET", "ftp://host.example/")
    assert _seen(http.metrics()) == ({"2xx": 2, "4xx": 1, "5xx": 1}, {"refused": 1, "invalid_url": 1}, 6)


def test_http_metrics_count_a_call_once() -> None:
    """Redirects and retries belong to the call; what a hook sees does not matter."""
    http = client_over([redirect("/there"), make_response(503), make_response(200)])
    assert http.request("GET", URL, retries=1) is not None
    assert _seen(http.metrics()) == ({"2xx": 1}, {}, 1)


def test_http_metrics_names_are_bounded() -> None:
    """A server may send any status, and a transport of a plugin may know any kind."""
    counters = HttpCounters()
    before = counters.read()
    for status in (0, 99, 600, 999, 1200):
        counters.count_response(status, 0.1)
    kind: FailureKind = "of a plugin"  # type: ignore[assignment]
    counters.count_failure(kind, 0.1)
    after = counters.read()
    assert _seen(after) == ({"other": 5}, {"transport": 1}, 6)
    assert {name: list(group) for name, group in after.items() if isinstance(group, dict)} == {
        name: list(group) for name, group in before.items() if isinstance(group, dict)
    }
    assert set(after["failures"]) == set(get_args(FailureKind))


def test_http_metrics_count_in_all_threads() -> None:
    """No call is lost."""
    counters, threads_count, each = HttpCounters(), 8, 2000

    def count() -> None:
        for _ in range(each):
            counters.count_response(200, 0.02)

    threads = [threading.Thread(target=count) for _ in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = threads_count * each
    assert _seen(counters.read()) == ({"2xx": total}, {}, total)
    seconds = counters.read()["seconds"]
    assert (seconds["microseconds"], seconds["buckets"]["0.01"], seconds["buckets"]["0.025"]) == (
        total * 20_000, 0, total,
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_http_metrics_after_a_fork_are_zero() -> None:
    """The parent counts its own calls."""
    counters = HttpCounters()
    counters.count_response(200, 0.02)
    child = os.fork()
    if child == 0:
        os._exit(7 if counters.read()["seconds"]["count"] == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert counters.read()["seconds"]["count"] == 1
