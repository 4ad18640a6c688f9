"""Reload: new code without a refused client, and what happens if the new code does not work."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from supervised import SCRIPT, Supervised, install_operator, said, supervised
from websocket_serving import DEADLINE, end_of, eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="workers need sockets that a process can inherit"),
]

HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def _change(script: Supervised, text: str) -> None:
    (script.folder / "script.py").write_text(text)


BROKEN = {
    "syntax": (SCRIPT + "\n)(", "SyntaxError: unmatched ')'"),
    "import": ("import no_such_module\n" + SCRIPT, "ModuleNotFoundError: No module named 'no_such_module'"),
    "setting": (
        SCRIPT.replace('"title":', '"websocket": {"ssl_enabled": True, "ssl_cert": "no.pem"}, "title":'),
        "websocket.ssl_cert",
    ),
    "port": (SCRIPT.replace("port=0", "port=-1"), "ValueError: port must be an integer between 1 and 65535"),
    "slow": ("import time; time.sleep(3600)\n" + SCRIPT, "it was not ready within 10 s (websocket.worker_timeout)"),
    "exit": ("import sys; sys.exit()\n" + SCRIPT, "it ended with exit status 0 before it was ready"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_reload_that_fails_keeps_old_workers(tmp_path: Path, kind: str) -> None:
    """One line says why, no client notices, and the next reload works."""
    code, cause = BROKEN[kind]
    timeout = "10" if kind == "slow" else "30"
    with supervised(tmp_path, ZCLI_WEBSOCKET_WORKER_TIMEOUT=timeout) as script, script.client() as client:
        before = script.workers()
        said(client)
        _change(script, code)
        script.process.send_signal(signal.SIGHUP)
        log = script.logged("the reload has failed and the old workers stay: worker ")
        (line,) = [line for line in log.splitlines() if "ERROR" in line]
        assert cause in line
        assert said(client)[1] == 1
        eventually(lambda: script.workers() == before, "the end of the new workers")
        _change(script, SCRIPT.replace("VERSION = 1", "VERSION = 2"))
        script.reload()
        assert end_of(client)[0] == 1012
        assert script.say()[1] == 2
        assert script.end()[0] == 0


def test_reload_that_fails_late_drops_no_client(tmp_path: Path) -> None:
    """A client that a new worker has accepted gets its response and a close frame when another new worker fails."""
    code = (
        "import os, time\nif os.environ.get('ZCLI_WORKER', '').startswith('2:'):\n"
        "    while not os.path.exists('fail'): time.sleep(0.01)\n    raise SystemExit(3)\n"
    )
    with supervised(tmp_path) as script, contextlib.ExitStack() as opened:
        _change(script, code + SCRIPT.replace("VERSION = 1", "VERSION = 2"))
        script.process.send_signal(signal.SIGHUP)

        def reach_new_worker() -> ClientConnection | None:
            client = opened.enter_context(script.client())
            return client if said(client)[1] == 2 else None

        client = eventually(reach_new_worker)
        client.send("wait4")
        (tmp_path / "fail").touch()
        assert str(client.recv(timeout=DEADLINE)).endswith(" 2 wait4")
        assert end_of(client)[0] == 1001
        script.logged("the reload has failed and the old workers stay")
        assert script.say()[1] == 1
        assert script.end()[0] == 0


@LOOPS
def test_reload_refuses_no_client(tmp_path: Path, loop: str) -> None:
    """While clients connect all the time: no error, and each connection ends at most once for each reload."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    seen: Counter[Any] = Counter()
    ends: list[Counter[int]] = []
    stop = threading.Event()

    def visit(script: Supervised) -> None:
        while not stop.is_set():
            try:
                script.say()
                seen["served"] += 1
            except Exception as error:
                seen[repr(error)] += 1

    def stay(script: Supervised, mine: Counter[int]) -> None:
        while not stop.is_set():
            try:
                with script.client() as client:
                    while not stop.is_set():
                        with contextlib.suppress(TimeoutError):
                            client.recv(timeout=0.1)
            except ConnectionClosed as closed:
                mine[closed.rcvd.code if closed.rcvd else 0] += 1
            except Exception as error:
                seen[repr(error)] += 1

    variables = {"ZCLI_WEBSOCKET_LOOP": loop, "ZCLI_WEBSOCKET_RELOAD_SPREAD": "1"}
    with supervised(tmp_path, **variables) as script:
        threads = [threading.Thread(target=visit, args=(script,)) for _ in range(2)]
        for _ in range(10):
            ends.append(Counter())
            threads.append(threading.Thread(target=stay, args=(script, ends[-1])))
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: seen["served"] > 10)
            for _ in range(3):
                script.reload()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert list(seen) == ["served"]
        assert ends == [Counter({1012: 3})] * 10
        assert script.end()[0] == 0


@LOOPS
def test_reload_completes_pending_upgrades(tmp_path: Path, loop: str) -> None:
    """A connection that an old worker has accepted is upgraded by it, and then closed like its other clients."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with supervised(tmp_path, ZCLI_WEBSOCKET_LOOP=loop) as script, contextlib.ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_connection(("127.0.0.1", script.port), timeout=DEADLINE))
            for _ in range(8)
        ]
        for sock in socks:
            sock.sendall(HEAD[:40])
        before = script.answering()
        script.process.send_signal(signal.SIGHUP)
        script.logged("2 new workers are ready")
        eventually(lambda: not before & set(_listeners(script)), "the end of accepting")
        for sock in socks:
            sock.sendall(HEAD[40:])
        for sock in socks:
            data = b""
            while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < 4:
                part = sock.recv(4096)
                assert part, data
                data += part
            head, _, frames = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert frames[0] == 0x88
            assert int.from_bytes(frames[2:4], "big") == 1012
            sock.close()
        script.logged("reload: done")
        assert script.end()[0] == 0


def _listeners(script: Supervised) -> list[int]:
    """Return the processes that have a listening socket."""
    found = []
    for process in (psutil.Process(script.process.pid), *map(psutil.Process, script.workers())):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(each.status == psutil.CONN_LISTEN for each in process.net_connections("inet")):
                found.append(process.pid)
    return found


def test_reload_spreads_closes_over_time(tmp_path: Path) -> None:
    """The clients are not closed at once, and in another order than that of their connections."""
    with (
        supervised(tmp_path, ZCLI_WEBSOCKET_RELOAD_SPREAD="3") as script,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(script.client()) for _ in range(30)]
        order: list[int] = []
        remaining: list[int] = []
        lock = threading.Lock()

        def wait(number: int) -> None:
            assert end_of(clients[number])[0] == 1012
            with lock:
                order.append(number)

        threads = [threading.Thread(target=wait, args=(number,)) for number in range(30)]
        for thread in threads:
            thread.start()
        script.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(order) >= 3)
        remaining.append(30 - len(order))
        for thread in threads:
            thread.join()
        assert remaining[0] > 15
        assert order != sorted(order)
        script.logged("reload: done")
        assert script.end()[0] == 0


def test_reloads_at_once_are_one_more(tmp_path: Path) -> None:
    """Further requests during a reload make one more follow, because the code may have changed again."""
    with supervised(tmp_path, **install_operator(tmp_path)) as script:
        script.process.send_signal(signal.SIGHUP)
        script.logged("reload: 2 new workers are started")
        for _ in range(5):
            script.ask("reload")
        script.logged("reload: done", times=2)
        log = script.log()
        assert log.count("a reload is in progress; another one follows it") == 1
        assert log.count("reload: 2 new workers are started") == 2
        assert script.ask("status")["restarts"]["reload"] == 4
        assert script.end()[0] == 0


def test_stop_during_reload_ends_all(tmp_path: Path) -> None:
    """Old workers, new workers, and workers that are not ready."""
    with supervised(tmp_path) as script, script.client() as client:
        said(client)
        _change(script, "import time; time.sleep(3600)\n" + SCRIPT)
        script.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(script.workers()) == 4)
        status, lines = script.end(signal.SIGTERM)
        assert end_of(client)[0] == 1001
    assert status == 0
    assert any(line.startswith("[WebSocket] stopped: 1 client closed") for line in lines)


def test_reload_reads_settings_and_env_file_anew(tmp_path: Path) -> None:
    """The environment of a worker is that of the supervisor at its start, without what a .zEnv has put there."""
    code = SCRIPT.replace("{VERSION}", "{int(os.environ.get('OF_ENV_FILE', 0))}")
    (tmp_path / ".zEnv").write_text("OF_ENV_FILE=5\n")
    with supervised(tmp_path, code) as script:
        assert script.say()[1] == 5
        (tmp_path / ".zEnv").write_text("OF_ENV_FILE=6\n")
        script.reload()
        assert script.say()[1] == 6
        (tmp_path / ".zEnv").write_text("\n")
        script.reload()
        assert script.say()[1] == 0
        assert script.end()[0] == 0


def test_reload_follows_a_linked_folder(tmp_path: Path) -> None:
    """A deployment replaces the link ``current``; a new worker starts in the new folder."""
    code = SCRIPT.replace('"logger_path": "."', f'"logger_path": {str(tmp_path)!r}')
    for version in (1, 2):
        (tmp_path / f"v{version}").mkdir()
        (tmp_path / f"v{version}" / "script.py").write_text(code.replace("VERSION = 1", f"VERSION = {version}"))
    link = tmp_path / "current"
    link.symlink_to("v1")
    with supervised(link, code, PWD=str(link)) as script:
        script.folder = tmp_path
        assert script.say()[1] == 1
        link.unlink()
        link.symlink_to("v2")
        script.reload()
        assert script.say()[1] == 2
        assert script.end()[0] == 0


def test_metrics_never_go_down(tmp_path: Path) -> None:
    """Over a reload and a crash; after the stop they count everything."""
    with supervised(tmp_path, **install_operator(tmp_path)) as script:

        def total() -> dict[str, Any]:
            found: dict[str, Any] = script.ask("metrics")["total"]
            return found

        for _ in range(10):
            script.say()
        eventually(lambda: total()["closed"]["1000"] == 10)
        before = total()
        assert before["connections"]["accepted"] == before["messages_received"] == before["messages_sent"] == 10
        script.reload()
        after = total()
        assert after["connections"]["accepted"] == 10
        assert after["closed"]["1000"] == 10
        for _ in range(5):
            script.say()
        eventually(lambda: total()["closed"]["1000"] == 15)
        os.kill(min(script.answering()), signal.SIGKILL)
        script.logged("is ready")
        assert total()["messages_received"] >= 15
        before = total()
        with script.client() as client:
            said(client)
            assert total()["clients"] == 1
            status = script.ask("status")
            assert [worker["state"] for worker in status["workers"]] == ["ready", "ready"]
            assert [worker["number"] for worker in status["workers"]] == [1, 2]
            assert {worker["pid"] for worker in status["workers"]} == script.workers()
            assert status["clients"] == 1
            assert status["pid"] == script.process.pid
            assert status["url"] == script.url
            assert status["title"] == "served"
            assert status["backplane"] == "local"
            assert script.end()[0] == 0
    import json

    totals = json.loads((tmp_path / "totals").read_text())
    assert totals["closed"]["1001"] == 1
    assert totals["messages_received"] == before["messages_received"] + 1
    assert totals["clients"] == 0


def test_hundred_reloads_leave_nothing(tmp_path: Path) -> None:
    """No process, no descriptor, no thread."""
    variables = {"ZCLI_WEBSOCKET_RELOAD_SPREAD": "0", **install_operator(tmp_path)}
    with supervised(tmp_path, **variables) as script:
        script.reload()
        process = psutil.Process(script.process.pid)
        descriptors, threads = process.num_fds(), process.num_threads()
        for _ in range(100):
            script.reload()
            script.say()
        assert len(script.answering()) == 2
        eventually(lambda: len(script.workers()) == 2)
        eventually(lambda: len(process.children()) == 2, "the end of zombies")
        eventually(lambda: process.num_fds() <= descriptors, f"{process.num_fds()} > {descriptors} descriptors")
        assert process.num_threads() <= threads
        assert script.ask("metrics")["total"]["connections"]["accepted"] >= 100
        assert script.end()[0] == 0
