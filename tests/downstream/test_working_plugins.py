"""Plugins by others, installed from wheels in a fresh environment: a service, an auth strategy, metrics."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh_environment import FreshEnvironment, outside_environment
from needs import needs
from service_servers import public_folder
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "scripts"


def run(environment: FreshEnvironment, script: str, folder: Path, **variables: str) -> Any:
    """Run one of the scripts to its end; what it printed last, as JSON."""
    done = environment.run(SCRIPT / script, folder=folder, variables=variables)
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def serving(environment: FreshEnvironment, script: str, folder: Path, **variables: str) -> Iterator[tuple[str, Any]]:
    """Run one of the scripts that serve: its URL, and a function that ends it and gives what it printed last."""
    process = subprocess.Popen(
        [environment.python, SCRIPT / script], cwd=folder, env=outside_environment(variables),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        try:
            line = process.stdout.readline()
            assert line.startswith("ws://"), f"{line}{process.stderr.read() if process.stderr else ''}"

            def finish() -> tuple[str, str]:
                return process.communicate("\n", timeout=30)

            yield line.strip(), finish
        finally:
            process.kill()


def test_working_plugins_are_listed_by_the_command(downstream: FreshEnvironment, tmp_path: Path) -> None:
    done = downstream.run("-m", "zCLI", "plugins", "--json", folder=tmp_path)
    plugins = {item["name"]: item for item in json.loads(done.stdout)}
    assert plugins["zcli_memcached"]["state"] == "active"
    assert plugins["zcli_api_key"]["provides"][0]["name"] == "api-key"
    assert set(plugins["zcli_call_metrics"]["hooks"]) >= {"zcli_http_response", "zcli_websocket_closed"}
    assert plugins["zcli_call_metrics"]["provides"] == []


def test_memcached_is_started_used_and_stopped(downstream: FreshEnvironment, tmp_path: Path) -> None:
    needs("memcached", "memcached")
    with public_folder() as folder:
        said = run(downstream, "memcached.py", tmp_path, ZCLI_SERVICES_FOLDER=str(folder))
    assert said == {
        "started": True,
        "answer": ["STORED", "VALUE k 0 5", "hello", "END"],
        "stopped": True,
        "left": False,
    }


def test_api_key_admits_its_holder_only(downstream: FreshEnvironment, tmp_path: Path) -> None:
    keys = {"ZCLI_API_KEY_KEYS": "ada=kJ8s2,bob=Xy77q", "WEBSOCKET_REQUIRE_AUTH": "true", "WEBSOCKET_AUTH": "api-key"}
    with serving(downstream, "whoami.py", tmp_path, **keys) as (url, finish):
        with connect(url, additional_headers={"X-API-Key": "Xy77q"}) as client:
            client.send("who am I?")
            assert client.recv() == "bob"
        for headers in ({"X-API-Key": "wrong-key"}, {}):
            with connect(url, additional_headers=headers) as client:
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1008
        said, log = finish()
    assert "unknown API key" in log
    assert not any(secret in said + log for secret in ("kJ8s2", "Xy77q", "wrong-key"))


def test_api_key_missing_stops_the_server(downstream: FreshEnvironment, tmp_path: Path) -> None:
    done = downstream.run(
        SCRIPT / "whoami.py", folder=tmp_path, status=1,
        variables={"WEBSOCKET_REQUIRE_AUTH": "true", "WEBSOCKET_AUTH": "api-key"},
    )  # fmt: skip
    assert "api_key.keys is empty" in done.stderr


def test_metrics_count_events(downstream: FreshEnvironment, tmp_path: Path, httpbin: str) -> None:
    with serving(downstream, "metrics.py", tmp_path, HTTPBIN_URL=httpbin) as (url, finish):
        with connect(url) as client:
            client.send("hello")
            assert client.recv() == "hello"
        said, log = finish()
    metrics = dict(line.rsplit(" ", 1) for line in said.splitlines() if line.startswith("zcli_"))
    assert float(metrics['zcli_http_call_seconds_count{app="metrics",method="GET",outcome="200"}']) == 2
    assert float(metrics['zcli_http_call_seconds_count{app="metrics",method="GET",outcome="404"}']) == 1
    assert float(metrics['zcli_http_call_seconds_count{app="metrics",method="GET",outcome="refused"}']) == 1
    assert float(metrics['zcli_websocket_clients{app="metrics"}']) == 0
    assert float(metrics['zcli_websocket_closed_total{app="metrics",code="1000"}']) == 1
    assert float(metrics['zcli_running{app="metrics"}']) == 0
    assert "failed in its hook" not in log
