"""What a server counts, as metric families of prometheus_client.

The names of labels and their values come from this program only, never from a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from zcli_core.types import BackplaneMetrics, Histogram, HttpMetrics, ServerMetrics, WebSocketMetrics


def server_families(metrics: ServerMetrics, build: Mapping[str, str]) -> Iterator[Metric]:
    """Return all families of a server.

    Counters are sums over all workers. Gauges have the label ``worker``.

    Args:
        metrics: The metrics of the server.
        build: The labels of ``zcli_build_info``.
    """
    total, workers = metrics["total"], metrics["workers"]
    yield InfoMetricFamily("zcli_build", "The version of zCLI, and what the configuration selects.", dict(build))
    yield GaugeMetricFamily("zcli_workers", "Workers that run now.", len(workers))
    yield _counter("zcli_worker_restarts", "Workers that were replaced.", "reason", metrics["restarts"])
    lag = "Seconds by which the event loop was late, the most in the last minute."
    yield _gauge("zcli_loop_lag_seconds", lag, workers, lambda each: each["loop_lag"])
    yield from _websocket_families(total, workers)
    if total["backplane"] is not None:
        yield from _backplane_families(total["backplane"], workers)
    yield from _http_families(total["http"])


def _websocket_families(total: WebSocketMetrics, workers: Mapping[int, WebSocketMetrics]) -> Iterator[Metric]:
    yield _gauge("zcli_websocket_clients", "Connected clients.", workers, lambda each: each["clients"])
    yield _gauge("zcli_websocket_rooms", "Rooms with a client.", workers, lambda each: each["rooms"])
    results = "Connections that asked for a WebSocket."
    yield _counter("zcli_websocket_connections", results, "result", total["connections"])
    yield _counter("zcli_websocket_closed", "Connections that have ended.", "code", total["closed"])
    for name, text in (("messages", "Messages."), ("bytes", "Bytes in messages, uncompressed.")):
        values: Any = {direction: total[f"{name}_{direction}"] for direction in ("received", "sent")}  # type: ignore[literal-required]
        yield _counter(f"zcli_websocket_{name}", text, "direction", values)
    slow = "Clients that were closed because they read too slowly."
    yield CounterMetricFamily("zcli_websocket_slow_clients", slow, total["slow_clients"])
    errors = "Errors that handlers and callbacks raised."
    yield CounterMetricFamily("zcli_websocket_handler_errors", errors, total["handler_errors"])
    opened = "Seconds from accepting a connection to admitting its client."
    yield _histogram("zcli_websocket_open_seconds", opened, total["open_seconds"])


def _backplane_families(total: BackplaneMetrics, workers: Mapping[int, WebSocketMetrics]) -> Iterator[Metric]:
    links = {number: each["backplane"] for number, each in workers.items() if each["backplane"] is not None}
    up = "Whether a probe came back through the backplane (1), or not (0)."
    yield _gauge("zcli_backplane_up", up, links, lambda each: each["up"])
    probe = "Seconds that the last probe through the backplane took."
    probed = {number: each for number, each in links.items() if each["probe_seconds"] is not None}
    yield _gauge("zcli_backplane_probe_seconds", probe, probed, lambda each: each["probe_seconds"])
    queue = "Bytes that wait to be published."
    yield _gauge("zcli_backplane_queue_bytes", queue, links, lambda each: each["queued_bytes"])
    published = {"published": total["published"], **total["failed"]}
    text = "Messages to publish: published, or the kind of the failure."
    yield _counter("zcli_backplane_published", text, "result", published)
    received = "Messages of other processes."
    yield CounterMetricFamily("zcli_backplane_received", received, total["received"])
    invalid = "Messages on the same channels that are not of zCLI."
    yield CounterMetricFamily("zcli_backplane_invalid", invalid, total["invalid"])
    lost = "Connections to the engine that have ended, and attempts to connect that have failed."
    yield _counter("zcli_backplane_lost", lost, "reason", total["lost"])
    again = "How often a link was up again after an outage."
    yield CounterMetricFamily("zcli_backplane_reconnects", again, total["reconnects"])


def _http_families(total: HttpMetrics) -> Iterator[Metric]:
    text = "HTTP calls of z.comm, by the class of the status, or by the kind of the failure."
    calls = CounterMetricFamily("zcli_http_requests", text, labels=("status_class", "failure"))
    for status_class, count in total["responses"].items():
        calls.add_metric((status_class, ""), count)
    for kind, count in total["failures"].items():
        calls.add_metric(("", kind), count)
    yield calls
    yield _histogram("zcli_http_request_seconds", "Seconds that HTTP calls of z.comm took.", total["seconds"])


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family


def _gauge(name: str, text: str, workers: Mapping[int, Any], value: Callable[[Any], float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=("worker",))
    for number, worker in workers.items():
        family.add_metric((str(number),), value(worker))
    return family


def _histogram(name: str, text: str, values: Histogram) -> Metric:
    buckets: Iterable[tuple[str, int]] = (
        *((str(float(limit)), count) for limit, count in values["buckets"].items()),
        ("+Inf", values["count"]),
    )
    return HistogramMetricFamily(name, text, buckets=[*buckets], sum_value=values["microseconds"] / 1e6)
