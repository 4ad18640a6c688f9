"""A script with several workers: it serves, crashes, is reloaded and stops."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
from supervised import SCRIPT, failed, said, supervised
from websocket_serving import end_of, eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers need sockets that a process can inherit")


def test_workers_serve_reload_and_stop(tmp_path: Path) -> None:
    """Each client is closed once by the reload; Ctrl+C reaches all processes, and only the supervisor prints."""
    with supervised(tmp_path) as script, contextlib.ExitStack() as stack:
        assert ", 2 workers); Ctrl+C stops it" in script.lines[-1]
        before = script.answering()
        assert before == script.workers()
        clients = [stack.enter_context(script.client()) for _ in range(8)]
        for client in clients:
            assert said(client)[1] == 1
        (tmp_path / "script.py").write_text(SCRIPT.replace("VERSION = 1", "VERSION = 2"))
        script.reload()
        assert [end_of(client)[0] for client in clients] == [1012] * 8
        assert script.say()[1] == 2
        after = script.answering()
        assert after == script.workers()
        assert not before & after
        with script.client() as client:
            said(client)
            status, lines = script.end(signal.SIGINT, group=True)
            assert end_of(client) == (1001, "the server is shutting down")
    assert status == 0
    first, *rest = sorted(lines)
    assert first.startswith(f"[WebSocket] listening on ws://127.0.0.1:{script.port} (no auth, 2 workers)")
    assert rest[0].startswith(f"[WebSocket] stopped: 1 client closed, port {script.port} released")
    assert set(rest[1:]) == {"after start()"}
    assert "Traceback" not in script.log()


def test_crashed_worker_is_replaced(tmp_path: Path) -> None:
    """Clients that connect meanwhile wait in the queue of its socket; the others stay connected."""
    with supervised(tmp_path) as script, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(script.client()) for _ in range(12)]
        by_worker: dict[int, list[int]] = {}
        for place, client in enumerate(clients):
            by_worker.setdefault(said(client)[0], []).append(place)
        victim, other = script.answering()
        os.kill(victim, signal.SIGKILL)
        for _ in range(20):
            assert script.say()[0] != victim
        for place in by_worker.get(other, []):
            assert said(clients[place])[0] == other
        script.logged("is ready")
        assert len(script.answering()) == 2
        log = script.log()
        assert f"(pid {victim}) has crashed: it was ended by SIGKILL" in log
        assert "a new one is started now" in log
        status, _ = script.end(signal.SIGTERM)
    assert status == 0


def test_failure_in_worker_stops_the_start(tmp_path: Path) -> None:
    """The error of the worker is shown once, and the status is not 0."""
    code = "import os\nif 'ZCLI_WORKER' in os.environ: raise ValueError('only in a worker')\n"
    status, output = failed(tmp_path, code + SCRIPT)
    assert status == 1
    assert "listening" not in output
    assert output.count("\nValueError: only in a worker") == 1
    last = output.splitlines()[-1]
    assert last.startswith("zcli_core.errors.WorkerError: the server cannot start: worker ")
    assert last.endswith("it ended with exit status 1 before it was ready: ValueError: only in a worker")


def test_stop_in_worker_stops_the_server(tmp_path: Path) -> None:
    """A handler that calls ``stop()`` ends all workers, as it ends the only process without workers."""
    with supervised(tmp_path) as script:
        with script.client() as client:
            client.send("stop")
            eventually(lambda: script.process.poll() is not None)
        status, lines = script.end(None)
    assert status == 0
    assert any("stopped: 1 client closed" in line for line in lines)
