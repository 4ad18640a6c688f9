"""``/ready`` and ``metrics()`` of servers with a backplane, whose engine is a real Redis that ends and comes back."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from needs import needs
from service_servers import free_ports, redis
from websocket_serving import DEADLINE, Served, eventually

Serve = Callable[..., Served]


def _readiness(served: Served) -> tuple[int, Any]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=DEADLINE)) as connection:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


READY = (200, {"ready": True})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """The port of a Redis that is not started yet."""
    port = free_ports(1)[0]
    monkeypatch.setenv("ZCLI_SERVICES_REDIS_PORT", str(port))
    return port


def _backplane(served: Served) -> dict[str, Any]:
    return dict(served.websocket.metrics()["backplane"])


def test_ready_engine_that_ends_is_503(serve: Serve, port: int, tmp_path: Path) -> None:
    """The server is ready again when a probe has come back. The counters show what was published, lost and received."""
    program = needs("redis-server", "redis-server")
    with redis(program, tmp_path, port=port):
        here, there = serve(backplane="redis"), serve(backplane="redis")
        assert (_readiness(here), _readiness(there)) == (READY, READY)
        with there.client() as client:
            eventually(lambda: there.websocket.client_count == 1)
            assert here.websocket.publish("hello").result(DEADLINE) == 0
            assert client.recv(timeout=DEADLINE) == "hello"
        mine, theirs = _backplane(here), _backplane(there)
        assert (mine["up"], mine["published"], mine["received"], mine["reconnects"]) == (True, 1, 0, 0)
        assert (theirs["up"], theirs["published"], theirs["received"]) == (True, 0, 1)
        assert 0 < mine["probe_seconds"] < DEADLINE
        assert not any((*mine["failed"].values(), *mine["lost"].values(), mine["invalid"], mine["queued_bytes"]))
    eventually(lambda: _readiness(here)[0] == 503, "it is not ready")
    assert _readiness(here) == (503, {"ready": False, "because": ["backplane: down"]})
    assert here.websocket.publish("lost").result(DEADLINE).failure.kind == "down"
    seen = _backplane(here)
    assert (seen["up"], seen["published"], seen["failed"]["down"]) == (False, 1, 1)
    assert seen["lost"]["down"] >= 1
    with redis(program, tmp_path, port=port):
        eventually(lambda: _readiness(here) == READY, "it is ready again")
        seen = _backplane(here)
        assert (seen["up"], seen["reconnects"]) == (True, 1)
        here.handle.stop()
        assert _backplane(here) == {**seen, "up": False, "probe_seconds": None}
        there.handle.stop()


def test_ready_engine_that_is_not_there_is_503(
    serve: Serve, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``backplane.required`` the server starts and is not ready."""
    monkeypatch.setenv("ZCLI_BACKPLANE_REQUIRED", "no")
    served = serve(backplane="redis")
    status, body = _readiness(served)
    assert (status, len(body["because"])) == (503, 1)
    assert body["because"][0] in ("backplane: down", "backplane: not connected yet")
    with redis(needs("redis-server", "redis-server"), tmp_path, port=port):
        eventually(lambda: _readiness(served) == READY, "it is ready")
        served.handle.stop()


def test_metrics_script_that_publishes_counts_too(make_z: Callable[..., Any], port: int, tmp_path: Path) -> None:
    """It does not serve. Before the first message there is no link."""
    with redis(needs("redis-server", "redis-server"), tmp_path, port=port):
        websocket = make_z(backplane="redis").comm.websocket
        assert websocket.metrics()["backplane"] is None
        websocket.publish("hello").result(DEADLINE)
        assert (websocket.metrics()["backplane"]["up"], websocket.metrics()["backplane"]["published"]) == (True, 1)


def test_metrics_local_backplane_is_none(serve: Serve) -> None:
    """It has no link."""
    served = serve()
    served.websocket.publish("hello").result(DEADLINE)
    assert served.websocket.metrics()["backplane"] is None
