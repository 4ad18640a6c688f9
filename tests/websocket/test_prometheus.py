"""The plugin ``zcli_prometheus``: its page, read with the parsers of prometheus_client."""

from __future__ import annotations

import os
import re
import socket
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zcli_prometheus
from prometheus_client import REGISTRY, Counter, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from script_runs import run_script
from websocket_serving import DEADLINE, Served, eventually
from zcli_prometheus.collector import PageCollector

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError, ListenError
from zcli_core.types import ServerMetrics

MakeZ = Callable[..., zCLI]
Serve = Callable[..., Served]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
#: The names of all labels of zCLI.
LABELS = {"worker", "result", "code", "direction", "reason", "le", "status_class", "failure", "version", "transport",
          "loop", "backplane"}  # fmt: skip


@pytest.fixture(autouse=True)
def any_port(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server of this file has a page on a free port."""
    monkeypatch.setenv("ZCLI_PROMETHEUS_PORT", "0")


class User(Collector):
    """A collector that a script has registered with prometheus_client itself."""

    def __init__(self, collect: Callable[[], list[Metric]]) -> None:
        self.collect = collect  # type: ignore[method-assign]

    def describe(self) -> list[Metric]:
        return []


@pytest.fixture
def register() -> Iterator[Callable[[Any], Any]]:
    """Registers collectors, and removes them after the test."""
    registered: list[Any] = []

    def add(collector: Any) -> Any:
        if collector not in REGISTRY._collector_to_names:
            REGISTRY.register(collector)
        registered.append(collector)
        return collector

    yield add
    for each in registered:
        REGISTRY.unregister(each)


def _url(served: Served) -> str:
    log = served.logged("metrics for Prometheus: ")
    return re.findall(r"metrics for Prometheus: (http://\S+)", log)[-1]


def _get(url: str, accept: str = "", method: str = "GET") -> tuple[int, str, str]:
    """Return status, content type and body."""
    request = urllib.request.Request(url, headers={"Accept": accept}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def _families(served: Served) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(_get(_url(served))[2])}


def _value(served: Served, name: str, **labels: str) -> float:
    (value,) = (
        sample.value
        for family in _families(served).values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return value


# --- what the page shows ---


def test_page_shows_what_has_happened(serve: Serve) -> None:
    """The names are those of the guide."""
    served = serve()
    with served.client() as client:
        client.send("größer")
        client.recv(timeout=DEADLINE)
        assert _value(served, "zcli_websocket_clients", worker="1") == 1
        assert _value(served, "zcli_websocket_messages_total", direction="received") == 1
        assert _value(served, "zcli_websocket_bytes_total", direction="sent") == 8
        assert _value(served, "zcli_websocket_connections_total", result="accepted") == 1
        assert _value(served, "zcli_websocket_open_seconds_count") == 1
        assert _value(served, "zcli_websocket_open_seconds_bucket", le="+Inf") == 1
    eventually(lambda: _value(served, "zcli_websocket_closed_total", code="1000") == 1)
    (info,) = _families(served)["zcli_build_info"].samples
    assert (info.value, set(info.labels)) == (1, {"version", "transport", "loop", "backplane"})


def _numbered(value: Any, first: int = 1000) -> Any:
    """Return nested dicts with another number in each place."""
    numbers = iter(range(first, first + 1000))

    def number(inner: Any) -> Any:
        return {key: number(each) for key, each in inner.items()} if isinstance(inner, dict) else next(numbers)

    return number(value)


def _leaves(value: Any, skip: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if name not in skip:
            yield from _leaves(inner, skip) if isinstance(inner, dict) else [(name, inner)]


def test_page_shows_every_number(make_z: MakeZ) -> None:
    """Counters as the sum, gauges of each worker; what is added to ``metrics()`` must be added to the page too."""
    gauges = ("clients", "rooms", "loop_lag", "up", "probe_seconds", "queued_bytes")
    z = make_z()
    empty: Any = z.comm.websocket.metrics()
    empty["backplane"] = {
        "up": True, "probe_seconds": 0.5, "published": 1, "failed": {"down": 1, "timeout": 1}, "received": 1,
        "invalid": 1, "lost": {"down": 1}, "reconnects": 1, "queued_bytes": 1,
    }  # fmt: skip
    metrics: ServerMetrics = {
        "total": _numbered(empty), "workers": {1: _numbered(empty, 5000), 2: _numbered(empty, 7000)},
        "restarts": {"crash": 901, "hang": 902, "reload": 903},
    }  # fmt: skip

    class Server:
        def metrics(self) -> ServerMetrics:
            return metrics

    collector = PageCollector(Server(), z.config)  # type: ignore[arg-type]
    page = generate_latest(collector).decode()
    shown = [sample.value for family in text_string_to_metric_families(page) for sample in family.samples]
    wanted = [*_leaves(metrics["total"], gauges), *_leaves(metrics["restarts"], ())]
    for worker in metrics["workers"].values():
        links: Any = worker["backplane"]
        wanted += [(name, each) for name, each in (*worker.items(), *links.items()) if name in gauges]
    assert len(wanted) > 80
    missing = [(name, each) for name, each in wanted if (each / 1e6 if name == "microseconds" else each) not in shown]
    assert missing == []


def test_page_is_valid_in_both_formats(serve: Serve) -> None:
    """What promtool checks: names, units, types and help texts; and OpenMetrics' parser is strict."""
    served = serve()
    url = _url(served)
    status, content_type, text = _get(url)
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    ours = [family for family in families if family.name.startswith("zcli_")]
    assert len(ours) >= 15
    for family in ours:
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", family.name)
        assert re.fullmatch(r"[A-Z].*\.", family.documentation), family.name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert set(sample.labels) <= LABELS
        assert ("seconds" in family.name) == (family.type == "histogram" or family.name == "zcli_loop_lag_seconds")
    status, content_type, text = _get(url, OPENMETRICS)
    assert (status, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    assert {family.name for family in openmetrics_families(text)} >= {
        "zcli_websocket_connections", "zcli_websocket_open_seconds", "zcli_build", "process_cpu_seconds",
    }  # fmt: skip


def test_page_labels_do_not_come_from_clients(serve: Serve) -> None:
    """Whatever names, codes, paths and credentials they send."""

    async def handler(websocket: Any, message: str) -> None:
        await websocket.join(message)
        await websocket.send("joined")

    served = serve(handler=handler, require_auth=True, auth=["token"], token="0123456789abcdef", compression=False)
    good = {"Authorization": "Bearer 0123456789abcdef"}

    def series() -> set[tuple[str, str]]:
        samples = [sample for family in _families(served).values() for sample in family.samples]
        return {(each.name, str(each.labels)) for each in samples if each.name.startswith("zcli_")}

    before = series()
    for number, code in enumerate((1000, 3000, 3001, 4999)):
        path = f"/path-{number}?query={number}"
        with served.client(path, additional_headers={**good, "X-Name": str(number)}, subprotocols=[f"p{number}"]) as c:
            c.send(f'room "{number}"\\')
            assert c.recv(timeout=DEADLINE) == "joined"
            c.close(code)
        served.refusal(path, additional_headers={"Authorization": f"Bearer wrong-{number}"})
        served.refusal(path, origin=f"https://evil-{number}.example", additional_headers=good)
    eventually(lambda: _value(served, "zcli_websocket_closed_total", code="other") == 3)
    assert series() == before


def test_page_shows_the_metrics_of_the_script(serve: Serve, register: Callable[[Any], Any]) -> None:
    """The process too; a family with one of our names is left out, because it would make the page invalid."""
    register(Counter("orders_of_the_shop", "Orders.", ["kind"])).labels("book").inc(3)
    register(Counter("zcli_websocket_slow_clients", "Not ours.")).inc(7)
    served = serve()
    assert _value(served, "orders_of_the_shop_total", kind="book") == 3
    assert _value(served, "zcli_websocket_slow_clients_total") == 0
    if sys.platform == "linux":
        assert _value(served, "process_resident_memory_bytes") > 1e6


def test_page_of_a_script_with_several_processes(tmp_path: Path) -> None:
    """prometheus_client's own way, for metrics of the script in workers."""
    (tmp_path / "shared").mkdir()
    script = tmp_path / "several.py"
    code = """
    import os, re, subprocess, sys, urllib.request
    from prometheus_client import Counter
    orders = Counter("orders", "Orders.")
    orders.inc()
    if len(sys.argv) == 1:
        subprocess.run([sys.executable, __file__, "child"], check=True)
        from zCLI import zCLI
        with zCLI({"logger_path": "logs", "title": "several", "prometheus": {"port": 0}}) as z:
            with z.comm.websocket.start_background(port=0):
                url = re.findall(r"http://\\S+/metrics", open("logs/several.log").read())[-1]
                print(urllib.request.urlopen(url).read().decode())
    """
    script.write_text(textwrap.dedent(code))
    run = run_script(script, folder=tmp_path, variables={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")})
    assert run.returncode == 0, run.stderr
    page = run.stdout
    assert "\norders_total 2.0\n" in page
    assert page.count("zcli_workers 1.0") == page.count("\nprocess_start_time_seconds ") == 1


def test_page_whose_collector_fails_is_500(serve: Serve, register: Callable[[Any], Any]) -> None:
    """The log says why, and the page is there again when it works."""
    problems = [ZeroDivisionError("of the script")]

    def collect() -> list[Metric]:
        if problems:
            raise problems.pop()
        return []

    register(User(collect))
    served = serve()
    assert _get(_url(served))[0] == 500
    assert "ZeroDivisionError: of the script" in served.logged("the metrics cannot be read")
    assert _get(_url(served))[0] == 200


# --- how it is served ---


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200),
        ("GET", "/", 200),
        ("GET", "/metrics?name=x", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/other", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/metrics", 405),
        ("OPTIONS", "/metrics", 405),
        ("BREW", "/metrics", 501),
    ],
)
def test_page_answers_only_reading(serve: Serve, method: str, path: str, status: int) -> None:
    """A response to HEAD has no body, but the headers."""
    served = serve()
    got, content_type, body = _get(_url(served).removesuffix("/metrics") + path, method=method)
    assert (got, content_type.partition(";")[0][:5]) == (status, "text/")
    assert (body == "") == (method == "HEAD")


def test_page_of_two_objects_in_one_process(serve: Serve) -> None:
    """Each shows its own server."""
    one, two = serve(), serve()
    assert _url(one) != _url(two)
    with one.client() as client:
        client.send("hello")
        client.recv(timeout=DEADLINE)
        assert _value(one, "zcli_websocket_messages_total", direction="received") == 1
        assert _value(two, "zcli_websocket_messages_total", direction="received") == 0
    one.handle.stop()
    assert _value(two, "zcli_workers") == 1
    assert len(zcli_prometheus._pages) == 1


def test_page_port_in_use_stops_the_start(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting, where it was set, and who has the port; the server's own port is released."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("ZCLI_PROMETHEUS_PORT", str(port))
        z = make_z()
        own = z.comm.find_free_port()
        with pytest.raises(ListenError) as raised:
            z.comm.websocket.start_background(port=own)
    assert str(raised.value) == (
        f"prometheus.port (ZCLI_PROMETHEUS_PORT): port {port} of 127.0.0.1 is in use by this process; "
        "stop it, or set another port"
    )
    with socket.create_server(("127.0.0.1", own)), z.comm.websocket.start_background(port=0):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_page_foreign_host_stops_the_start(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """An address of another machine, or a name that cannot be resolved."""
    monkeypatch.setenv("ZCLI_PROMETHEUS_HOST", host)
    with pytest.raises(ListenError, match=rf"prometheus\.host .*{re.escape(host)}' is not an address of this machine"):
        make_z().comm.websocket.start_background(port=0)


def test_page_without_prometheus_client_stops_the_start(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command; without a port, the module is not needed."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"prometheus\.port \(.*PORT\) .* not installed: pip install 'prometheus_cli"):
        make_z().comm.websocket.start_background(port=0)
    monkeypatch.delenv("ZCLI_PROMETHEUS_PORT")
    with make_z().comm.websocket.start_background(port=0):
        assert zcli_prometheus._pages == {}


def test_page_bad_shared_folder_stops_the_start(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every scrape would fail."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nonexistent/folder")
    with pytest.raises(ConfigError, match=r"PROMETHEUS_MULTIPROC_DIR must be a folder, got '/nonexistent/folder'"):
        make_z().comm.websocket.start_background(port=0)


def test_page_read_during_stop_is_complete(serve: Serve, register: Callable[[Any], Any]) -> None:
    """The server does not wait for a slow collector of the script, and the response is sent nevertheless."""
    reading, go_on = threading.Event(), threading.Event()

    def collect() -> list[Metric]:
        reading.set()
        assert go_on.wait(DEADLINE)
        return []

    served = serve()
    url = _url(served)
    register(User(collect))
    with ThreadPoolExecutor(1) as pool:
        scrape = pool.submit(_get, url)
        assert reading.wait(DEADLINE)
        assert served.handle.stop()
        go_on.set()
        status, _, text = scrape.result(DEADLINE)
    assert status == 200
    assert "zcli_workers 1.0" in text
    with pytest.raises(urllib.error.URLError):
        _get(url)


def test_page_silent_client_ends_with_the_server(serve: Serve) -> None:
    """It has sent half a request."""
    served = serve()
    port = int(re.findall(r":(\d+)/", _url(served))[0])
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
        (page,) = zcli_prometheus._pages.values()
        eventually(lambda: page._connections)
        assert served.handle.stop()
        while client.recv(10_000):
            pass
    eventually(lambda: not page._connections)


def test_page_limits_its_connections(serve: Serve) -> None:
    """The first sixteen wait; one more is closed at once, and there is room again when they leave."""
    served = serve()
    url = _url(served)
    address = ("127.0.0.1", int(re.findall(r":(\d+)/", url)[0]))
    (page,) = zcli_prometheus._pages.values()
    waiting = [socket.create_connection(address, DEADLINE) for _ in range(16)]
    eventually(lambda: len(page._connections) == 16)
    with socket.create_connection(address, DEADLINE) as client:
        assert client.recv(1000) == b""
    for each in waiting:
        each.close()
    eventually(lambda: not page._connections)
    assert _get(url)[0] == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_page_port_is_not_kept_by_a_child(serve: Serve) -> None:
    """Another program may have the port when the server has ended, although the child runs on."""
    served = serve()
    (page,) = zcli_prometheus._pages.values()
    child = os.fork()
    if child == 0:
        os._exit(7 if page._listening.fileno() == -1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert _get(_url(served))[0] == 200
