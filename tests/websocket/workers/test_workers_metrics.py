"""The page of ``zcli_prometheus`` of a server with workers: its counters never go down."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from supervised import SCRIPT, Supervised, failed, said, supervised
from websocket_serving import DEADLINE, eventually
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers need sockets that a process can inherit")

#: The values of one reading, by name and labels.
Values = dict[tuple[str, str], float]


def _key(sample: Any) -> tuple[str, str]:
    return sample.name, ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))


class Page:
    """The page of a script."""

    def __init__(self, script: Supervised) -> None:
        log = script.logged("metrics for Prometheus: ")
        self._url = re.findall(r"metrics for Prometheus: (\S+)", log)[-1]
        #: The counters of the last reading.
        self._before: Values = {}
        self.readings = 0
        #: Counters that were smaller than before.
        self.shrunk: list[str] = []

    def read(self) -> Values:
        """Read the page, and compare its counters with those of the last reading."""
        with urllib.request.urlopen(self._url, timeout=DEADLINE) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
        values = {_key(sample): sample.value for family in families for sample in family.samples}
        counters = [
            each for each in families if each.type in ("counter", "histogram") and each.name.startswith("zcli_")
        ]
        growing = [_key(sample) for family in counters for sample in family.samples]
        self.shrunk += [
            f"{key}: {before} -> {values.get(key)}"
            for key, before in self._before.items()
            if values.get(key, -1) < before
        ]
        self._before = {key: values[key] for key in growing}
        self.readings += 1
        return values


@contextlib.contextmanager
def _in_a_thread(work: threading.Event, script: Supervised) -> Iterator[None]:
    """Send messages all the time with clients that come and go, until the end of the block."""

    def talk() -> None:
        while not work.is_set():
            with contextlib.suppress(ConnectionClosed, OSError, ValueError), script.client() as client:
                for _ in range(5):
                    said(client)

    threads = [threading.Thread(target=talk) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        work.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_page_counts_every_message_over_reloads(tmp_path: Path) -> None:
    """What workers have counted that are gone stays in the sums, to the last message."""
    with supervised(tmp_path, ZCLI_PROMETHEUS_PORT="0") as script:
        page = Page(script)
        sent = 0
        for reload in range(3):
            with contextlib.ExitStack() as stack:
                for _ in range(6):
                    client = stack.enter_context(script.client())
                    for _ in range(10):
                        said(client)
                        sent += 1
                values = page.read()
                assert values["zcli_websocket_messages_total", "direction=received"] == sent
                assert sum(values["zcli_websocket_clients", f"worker={number}"] for number in (1, 2)) == 6
                script.reload()
            values = page.read()
            assert values["zcli_websocket_messages_total", "direction=received"] == sent
            assert values["zcli_websocket_closed_total", "code=1012"] == 6 * (reload + 1)
            assert values["zcli_websocket_open_seconds_count", ""] == 6 * (reload + 1)
            assert values["zcli_worker_restarts_total", "reason=reload"] == 2 * (reload + 1)
            assert values["zcli_workers", ""] == 2
        assert page.shrunk == []
        assert script.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_page_counters_never_go_down(tmp_path: Path) -> None:
    """It is read all the time while workers crash, end and are reloaded under load."""
    with supervised(tmp_path, ZCLI_PROMETHEUS_PORT="0") as script:
        page = Page(script)
        done = threading.Event()
        with _in_a_thread(done, script):
            reading = threading.Thread(target=lambda: [page.read() for _ in iter(done.is_set, True)])
            reading.start()
            eventually(lambda: page.readings > 3)
            script.reload()
            os.kill(min(script.answering()), signal.SIGKILL)
            script.logged("is ready")
            with contextlib.suppress(ConnectionClosed):
                script.say("exit")
            script.logged("is ready", 2)
            script.reload()
            end = page.readings + 3
            eventually(lambda: page.readings > end)
        reading.join()
        values = page.read()
        assert page.shrunk == []
        assert values["zcli_worker_restarts_total", "reason=crash"] == 2
        assert values["zcli_worker_restarts_total", "reason=reload"] == 4
        assert values["zcli_websocket_messages_total", "direction=received"] > 0
        assert script.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_page_shows_metrics_of_handlers_in_workers(tmp_path: Path) -> None:
    """They are in files that the processes share, which is prometheus_client's own way."""
    (tmp_path / "shared").mkdir()
    counting = "from prometheus_client import Counter\nhandled = Counter('handled', 'Messages.')\n"
    script_text = counting + SCRIPT.replace("    await websocket.send", "    handled.inc()\n    await websocket.send")
    variables = {"ZCLI_PROMETHEUS_PORT": "0", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")}
    with supervised(tmp_path, script_text, **variables) as script:
        page = Page(script)
        script.answering()
        values = page.read()
        assert values["handled_total", ""] == values["zcli_websocket_messages_total", "direction=received"] >= 2
        assert script.end(signal.SIGTERM)[0] == 0


def test_page_port_in_use_stops_the_supervisor(tmp_path: Path) -> None:
    """No worker is started, and the error is shown once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, output = failed(tmp_path, variables={"ZCLI_PROMETHEUS_PORT": port})
    assert status == 1
    assert output.splitlines()[-1].startswith(
        f"zcli_core.errors.ListenError: prometheus.port (ZCLI_PROMETHEUS_PORT): port {port} of 127.0.0.1 is in use by "
    )
    assert "listening on" not in output
