"""Workers that hang, crash again and again or lose their supervisor; signals at bad moments."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from script_runs import plain_environment, started_script
from supervised import SCRIPT, SETTINGS, Supervised, failed, install_operator, said, supervised
from websocket_serving import DEADLINE, end_of, eventually
from websockets.sync.client import connect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="workers need sockets that a process can inherit"),
]

#: ``websocket.worker_timeout``: a worker on a busy machine needs seconds to become ready.
TIMEOUT = "10"
#: A worker that says when it runs, and takes as long to become ready as a file exists.
SLOW_START = """
import os, time
if "ZCLI_WORKER" in os.environ:
    print("worker runs", flush=True)
    while os.path.exists("wait"):
        time.sleep(0.01)
"""


def _gone(processes: set[int]) -> None:
    eventually(lambda: not any(map(psutil.pid_exists, processes)), f"the end of {processes}")


@pytest.mark.parametrize("kind", ["hang", "SIGSTOP"])
def test_silent_worker_is_replaced(tmp_path: Path, kind: str) -> None:
    """After ``worker_timeout`` of silence, and not because of its pings or its process."""
    with supervised(tmp_path, ZCLI_WEBSOCKET_WORKER_TIMEOUT=TIMEOUT, **install_operator(tmp_path)) as script:
        victim = min(script.answering())
        if kind == "hang":
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(script.client()) for _ in range(12)]
                client = next(each for each in clients if said(each)[0] == victim)
                client.send("hang")
                log = script.logged("is ready")
        else:
            os.kill(victim, signal.SIGSTOP)
            log = script.logged("is ready")
        assert (
            f"(pid {victim}): its event loop has been blocked for {TIMEOUT} s (websocket.worker_timeout); it is killed"
            in log
        )
        assert f"(pid {victim}) hangs: it was ended by SIGKILL; a new one is started now" in log
        assert victim not in script.answering()
        assert script.ask("status")["restarts"] == {"crash": 0, "exit": 0, "hang": 1, "reload": 0}
        assert script.end()[0] == 0


def test_stopped_supervisor_does_not_blame_workers(tmp_path: Path) -> None:
    """After SIGCONT, the reports of its workers count."""
    with supervised(tmp_path, ZCLI_WEBSOCKET_WORKER_TIMEOUT=TIMEOUT) as script:
        before = script.workers()
        script.process.send_signal(signal.SIGSTOP)
        with script.client() as client:
            said(client, f"wait{int(TIMEOUT) * 1.5}")
        script.process.send_signal(signal.SIGCONT)
        with script.client() as client:
            said(client, "wait1")
        assert script.answering() == before
        assert script.end()[0] == 0


def _crash(script: Supervised) -> bool:
    """Let a worker crash; return whether the server has ended."""
    with contextlib.suppress(Exception), script.client() as client:
        client.send("exit")
        client.recv(timeout=DEADLINE)
    return script.process.poll() is not None


def test_five_crashes_end_the_server(tmp_path: Path) -> None:
    """With status 1 and the last cause; clients of the other worker get 1001."""
    with supervised(tmp_path) as script:
        eventually(lambda: _crash(script))
        status, lines = script.end(None)
    assert status == 1
    assert "5 workers have crashed within 60 s, so the server ends; the last: worker " in lines[-1]
    assert lines[-1].endswith(": it ended with exit status 3")
    assert lines[-1].startswith("zcli_core.errors.WorkerError: ")


def test_killed_supervisor_leaves_no_worker(tmp_path: Path) -> None:
    """The workers finish what they do, close their clients with 1001 and end."""
    with supervised(tmp_path) as script, script.client() as client:
        workers = script.answering()
        client.send("wait1")
        script.process.send_signal(signal.SIGKILL)
        assert str(client.recv(timeout=DEADLINE)).endswith("wait1")
        assert end_of(client) == (1001, "the server is shutting down")
        _gone(workers)


def test_killed_supervisor_leaves_no_blocked_worker(tmp_path: Path) -> None:
    """A worker whose event loop is blocked for ever ends when its time is over."""
    short = {"ZCLI_WEBSOCKET_DRAIN_TIMEOUT": "0.1", "ZCLI_WEBSOCKET_CLOSE_TIMEOUT": "0.1"}
    with supervised(tmp_path, **short) as script, script.client() as client:
        workers = [psutil.Process(worker) for worker in script.answering()]
        client.send("hang")
        script.process.send_signal(signal.SIGKILL)
        _, left = psutil.wait_procs(workers, timeout=DEADLINE * 3)
        for worker in left:
            worker.kill()
        assert not left


def test_supervisor_killed_during_start_leaves_no_worker(tmp_path: Path) -> None:
    """Also workers that are not ready end."""
    (tmp_path / "wait").touch()
    (tmp_path / "script.py").write_text(SLOW_START + SCRIPT)
    with started_script(tmp_path / "script.py", folder=tmp_path, variables=SETTINGS) as process:
        assert process.stdout is not None
        assert "worker runs" in process.stdout.readline()
        workers = {child.pid for child in psutil.Process(process.pid).children()}
        process.kill()
        (tmp_path / "wait").unlink()
        _gone(workers)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl+C", "SIGTERM"])
def test_signal_during_start_stops(tmp_path: Path, number: int) -> None:
    """Nothing is left, no traceback is printed, and the script goes on after ``start()``."""
    (tmp_path / "wait").touch()
    (tmp_path / "script.py").write_text(SLOW_START + SCRIPT)
    with started_script(tmp_path / "script.py", folder=tmp_path, variables=SETTINGS) as process:
        assert process.stdout is not None
        assert "worker runs" in process.stdout.readline()
        workers = {child.pid for child in psutil.Process(process.pid).children()}
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        output, _ = process.communicate(timeout=DEADLINE)
        _gone(workers)
    assert process.returncode == 0
    assert "Traceback" not in output
    assert "after start()" in output


@pytest.mark.parametrize("nohup", [False, True])
def test_closed_terminal_stops_the_server(tmp_path: Path, nohup: bool) -> None:
    """As it ends a script without workers; ``nohup`` keeps it."""
    handling = f"import signal; signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if nohup else 'SIG_DFL'})\n"
    (tmp_path / "script.py").write_text(handling + SCRIPT)
    (tmp_path / "terminal.py").write_text(
        "import os, pty, sys\n"
        "process, terminal = pty.fork()\n"
        "if not process:\n"
        "    os.execv(sys.executable, [sys.executable, '-u', 'script.py'])\n"
        "print(process, flush=True)\n"
        "line = b''\n"
        "while b'Ctrl+C stops it' not in line:\n"
        "    line += os.read(terminal, 1000)\n"
        "os.close(terminal)\n"
        "print(line.decode(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "terminal.py"], cwd=tmp_path, env=plain_environment(tmp_path, SETTINGS), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as terminal:  # fmt: skip
        assert terminal.stdout is not None
        process = int(terminal.stdout.readline())
        assert "2 workers" in terminal.stdout.readline()
        log = tmp_path / "served.log"
        try:
            if nohup:
                (url,) = set(re.findall("ws://[0-9.:]+", log.read_text()))
                with connect(url, proxy=None) as client:
                    said(client, "wait0.5")
                os.kill(process, signal.SIGTERM)
            eventually(lambda: "stopped: 0 clients closed" in log.read_text())
            assert "reload" not in log.read_text()
        finally:
            terminal.communicate()
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def test_second_ctrl_c_drops_everything(tmp_path: Path) -> None:
    """Although a handler of a worker blocks the event loop."""
    with supervised(tmp_path) as script, script.client() as client:
        workers = script.answering()
        client.send("hang")
        os.killpg(script.process.pid, signal.SIGINT)
        eventually(lambda: len(script.workers()) == 1, "the end of the worker that does not hang")
        status, lines = script.end(signal.SIGINT, group=True)
        _gone(workers)
    assert status == 0
    assert "[WebSocket] interrupted: every connection was dropped" in lines
    assert "Traceback" not in "\n".join(lines)


def test_blocked_worker_is_killed_at_stop(tmp_path: Path) -> None:
    """After the time in which every other worker has ended."""
    times = {"ZCLI_WEBSOCKET_DRAIN_TIMEOUT": "0", "ZCLI_WEBSOCKET_CLOSE_TIMEOUT": "0.2"}
    with supervised(tmp_path, **times) as script, script.client() as client:
        client.send("hang")
        status, lines = script.end(signal.SIGTERM)
    assert status == 0
    assert "does not end; it is killed" in script.log()
    assert any(line.startswith("[WebSocket] stopped") for line in lines)


def test_worker_ended_by_sigterm_is_replaced(tmp_path: Path) -> None:
    """It drains, and does not count as a crash."""
    with supervised(tmp_path, **install_operator(tmp_path)) as script, script.client() as client:
        victim = said(client)[0]
        os.kill(victim, signal.SIGTERM)
        assert end_of(client)[0] == 1001
        script.logged("is ready")
        assert victim not in script.answering()
        assert script.ask("status")["restarts"]["exit"] == 1
        assert f"(pid {victim}) has ended without being told to; a new one is started" in script.log()
        assert script.end()[0] == 0


def test_worker_that_crashes_at_start_is_paused(tmp_path: Path) -> None:
    """A worker whose successors fail is started again until five have crashed; the other worker goes on meanwhile."""
    with supervised(tmp_path) as script:
        (tmp_path / "script.py").write_text("raise ValueError('broken')\n")
        os.kill(min(script.answering()), signal.SIGKILL)
        script.logged("a new one is started in 0.5 s")
        eventually(lambda: script.process.poll() is not None)
        status, lines = script.end(None)
    assert status == 1
    assert lines[-1].endswith("it ended with exit status 1 before it was ready: ValueError: broken")


@pytest.mark.parametrize("seconds", ["0.5"])
def test_worker_not_ready_in_time_stops_the_start(tmp_path: Path, seconds: str) -> None:
    """The error names the setting."""
    (tmp_path / "wait").touch()
    status, output = failed(tmp_path, SLOW_START + SCRIPT, {"ZCLI_WEBSOCKET_WORKER_TIMEOUT": seconds})
    assert status == 1
    assert "it was not ready within 0.5 s (websocket.worker_timeout)" in output.splitlines()[-1]


def test_error_of_worker_reads_as_with_one(tmp_path: Path) -> None:
    """An engine that is down: the same error text, once."""
    variables = {
        "ZCLI_WEBSOCKET_BACKPLANE": "redis",
        "ZCLI_BACKPLANE_REDIS_URL": "redis://127.0.0.1:1",
        "ZCLI_BACKPLANE_MAX_RETRY": "0.1",
    }
    found = []
    for count in ("1", "2"):
        folder = tmp_path / count
        folder.mkdir()
        status, output = failed(folder, SCRIPT, {**variables, "ZCLI_WEBSOCKET_WORKERS": count})
        assert status == 1
        assert output.count("BackplaneFailure: ") == 1
        found.append(output.splitlines()[-1])
    assert found[0] == found[1]


def test_worker_that_serves_nothing_stops_the_start(tmp_path: Path) -> None:
    """A script that ends, or never calls ``start()`` in a worker."""
    code = SCRIPT.replace("z.comm.websocket.start", "if 'ZCLI_WORKER' not in before: z.comm.websocket.start")
    status, output = failed(tmp_path, f"import os\nbefore = dict(os.environ)\n{code}")
    assert status == 1
    assert output.splitlines()[-1].endswith("it ended with exit status 0 before it was ready")


def test_second_start_with_workers_is_an_error(tmp_path: Path) -> None:
    """A worker would serve the first one."""
    with supervised(tmp_path, SCRIPT + "z.comm.websocket.start(port=0)\n") as script:
        status, lines = script.end()
    assert status == 1
    assert "start() with websocket.workers can be called once in a program" in lines[-1]


def test_nothing_leaks_into_programs_of_a_worker(tmp_path: Path) -> None:
    """Neither the variable nor the sockets, whatever starts the program."""
    code = SCRIPT.replace(
        "    await websocket.send(f",
        "    if message == 'leak':\n"
        "        os.system('env > env.txt; ls -l /proc/$$/fd > fds.txt')\n"
        "    await websocket.send(f",
    )
    with supervised(tmp_path, code) as script:
        script.say("leak")
        assert script.end()[0] == 0
    assert "ZCLI_WORKER=" not in (tmp_path / "env.txt").read_text()
    assert "socket:" not in (tmp_path / "fds.txt").read_text()


def test_forked_child_does_not_keep_a_worker(tmp_path: Path) -> None:
    """A child that outlives its worker keeps neither the port nor the pair."""
    code = SCRIPT.replace(
        "    await websocket.send(f",
        "    if message == 'fork' and os.fork() == 0:\n        time.sleep(3600)\n    await websocket.send(f",
    )
    with supervised(tmp_path, code) as script:
        before = script.answering()
        with script.client() as client:
            victim, _ = said(client, "fork")
            (child,) = psutil.Process(victim).children()
        try:
            os.kill(victim, signal.SIGKILL)
            script.logged("is ready")
            assert script.answering() - before
            script.process.send_signal(signal.SIGINT)
            script.wait_for("[WebSocket] stopped")
            with pytest.raises(ConnectionRefusedError):
                script.say()
        finally:
            child.kill()  # it has the output of the script
        assert script.end(None)[0] == 0


def children(script: Supervised) -> list[int]:
    """Return the processes that have written ``child`` and their number."""
    return [int(line.split()[1]) for line in script.lines if line.startswith("child ")]


def test_child_forked_before_start_keeps_no_port(tmp_path: Path) -> None:
    """A worker may fork before it has called ``start()``."""
    code = SCRIPT.replace(
        "VERSION = 1",
        "VERSION = 1\nif os.fork() == 0:\n    print('child', os.getpid(), flush=True)\n    time.sleep(3600)",
    )
    with supervised(tmp_path, code) as script:
        try:
            while len(children(script)) < 2:
                script.wait_for("child ")
            script.say()
            script.process.send_signal(signal.SIGINT)
            script.wait_for("[WebSocket] stopped")
            with pytest.raises(ConnectionRefusedError):
                script.say()
        finally:
            for child in children(script):  # they have the output of the script
                os.kill(child, signal.SIGKILL)
        assert script.end(None)[0] == 0


def test_daemon_does_not_start_supervisors_of_its_own(tmp_path: Path) -> None:
    """A script that forks itself into the background would do so in each worker, and again in their workers."""
    code = (
        "with open('runs', 'a') as file: file.write('x')\n"
        "if os.path.getsize('runs') > 6 or os.fork(): os._exit(0)\nos.setsid()\n"
    )
    status, output = failed(tmp_path, SCRIPT.replace("VERSION = 1", code))
    assert status == 0
    assert output.count("it ended with exit status 0 before it was ready") == 1
    assert (tmp_path / "runs").read_text() == "xxx"


def test_reload_signal_during_stop_is_ignored(tmp_path: Path) -> None:
    """SIGHUP does not end a supervisor whose workers drain."""
    with supervised(tmp_path) as script, script.client() as client:
        said(client)
        client.send("wait4")
        script.process.send_signal(signal.SIGTERM)
        eventually(lambda: len(script.workers()) == 1, "the end of the worker without clients")
        script.process.send_signal(signal.SIGHUP)
        status, lines = script.end(None)
    assert status == 0
    assert any(line.startswith("[WebSocket] stopped: 1 client closed") for line in lines)


def test_stderr_of_workers_is_shown(tmp_path: Path) -> None:
    """What a worker writes before it is ready, and afterwards."""
    code = SCRIPT.replace(
        "    await websocket.send(f",
        "    import sys; print('later', os.getpid(), file=sys.stderr, flush=True)\n    await websocket.send(f",
    )
    code = "import sys\nprint('early', file=sys.stderr)\n" + code
    with supervised(tmp_path, code) as script:
        process, _ = script.say()
        script.wait_for(f"later {process}")
        lines = script.end()[1]
    assert lines.count("early") == 3
