"""Random kills of workers, stopped workers and reloads: a minute of them, or ZCLI_SOAK_SECONDS.

A server with four workers has clients that connect again whenever they are disconnected. Faults come at random, but at
most four crashes a minute, because the fifth ends the server.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from reconnecting_clients import Crowd, Disconnected
from script_runs import plain_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the clients use epoll, and /proc shows what is left behind"),
]

SECONDS = float(os.environ.get("ZCLI_SOAK_SECONDS", "60"))
LONG = SECONDS > 120
CLIENTS = 500 if LONG else 100
WORKERS = 4
#: Crashes in a minute that the server survives.
MOST_CRASHES = 4
CRASH_WINDOW = 62.0
#: Longest time of refusals, in seconds.
LONGEST_REFUSAL = 1.0
DEADLINE = 120.0

SCRIPT = """
import os
from zCLI import zCLI

z = zCLI({"deployment": "Production", "title": "soak", "logger": "INFO", "logger_path": "logs", "websocket": {
    "workers": 4, "backplane": "local", "port": 0, "worker_timeout": 20, "reload_spread": 2, "close_timeout": 2}})

async def connected(websocket):
    await websocket.send(f"worker {os.getpid()}")

z.comm.websocket.start(on_connect=connected)
"""


class Server:
    """The supervisor and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
        self.process = psutil.Popen(
            [sys.executable, "script.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=plain_environment(folder),
        )  # fmt: skip
        line = self.process.stdout.readline()
        found = re.search(r"ws://127\.0\.0\.1:(\d+)", line)
        assert found is not None, line + self.process.stdout.read()
        self.address = ("127.0.0.1", int(found[1]))

    def workers(self) -> set[int]:
        """Return the process ids of the workers; those that have ended are not among them."""
        found = set()
        for child in self.process.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.add(child.pid)
        return found

    def state(self) -> tuple[int, int]:
        """Return the open files and the resident bytes of the supervisor."""
        return self.process.num_fds(), self.process.memory_info().rss

    def log(self) -> str:
        return "".join(file.read_text(encoding="utf-8") for file in (self.folder / "logs").iterdir())


class Soak:
    """The faults, and what is watched."""

    def __init__(self, server: Server, crowd: Crowd, chance: random.Random) -> None:
        self.server = server
        self.crowd = crowd
        self.chance = chance
        #: When workers were killed or stopped, and which.
        self.crashes: list[float] = []
        self.victims: set[int] = set()
        self.reloads = 0
        #: Open files and memory of the supervisor, whenever all is calm.
        self.states: list[tuple[int, int]] = []

    def run(self, seconds: float) -> None:
        """Let things fail for that time. Every few faults, wait until all is as it should be."""
        end = time.monotonic() + seconds
        self.settle()
        while time.monotonic() < end:
            for _ in range(self.chance.randrange(1, 4)):
                self.chance.choice((self.kill, self.kill, self.stop, self.reload, self.reload_twice))()
                time.sleep(self.chance.uniform(0, 2))
            self.settle()

    def settle(self) -> None:
        """Wait until all clients are connected to the workers that should be there."""

        def calm() -> bool:
            workers = self.server.workers()
            return len(workers) == WORKERS and set(self.crowd.workers()) <= workers and self.is_complete()

        self.crowd.wait_for(calm, DEADLINE)
        self.states.append(self.server.state())

    def is_complete(self) -> bool:
        return self.crowd.open == self.crowd.count

    def kill(self) -> None:
        self._crash(signal.SIGKILL)

    def stop(self) -> None:
        self._crash(signal.SIGSTOP)

    def _crash(self, number: signal.Signals) -> None:
        recent = [at for at in self.crashes if at > time.monotonic() - CRASH_WINDOW]
        workers = sorted(self.server.workers())
        if len(recent) < MOST_CRASHES and workers:
            victim = self.chance.choice(workers)
            self.victims.add(victim)
            self.crashes.append(time.monotonic())
            os.kill(victim, number)

    def reload(self) -> None:
        self.reloads += 1
        self.server.process.send_signal(signal.SIGHUP)

    def reload_twice(self) -> None:
        self.reload()
        time.sleep(self.chance.choice((0, 0.1, 1)))
        self.reload()

    def unexpected(self, began: float) -> list[Disconnected]:
        """Return the ends of connections for which no fault is a reason."""
        return [each for each in self.crowd.disconnected if each.at > began and not self._is_expected(each)]

    def _is_expected(self, end: Disconnected) -> bool:
        if end.how == "1012" or end.worker in self.victims:
            return True
        # A client in the handshake does not know its worker.
        return end.worker == 0 and end.how != "refused" and any(0 <= end.at - at < DEADLINE for at in self.crashes)


def longest_refusal(crowd: Crowd, began: float) -> float:
    """Return the longest time between a refusal and the next client that was connected."""
    accepted = sorted(each.at for each in crowd.connected)
    refused = sorted(each.at for each in crowd.disconnected if each.at > began and each.how in ("refused", "503"))
    longest, at = 0.0, 0
    for each in refused:
        while at < len(accepted) and accepted[at] < each:
            at += 1
        longest = max(longest, (accepted[at] if at < len(accepted) else time.monotonic()) - each)
    return longest


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    try:
        yield running
    finally:
        family = [running.process, *running.process.children()] if running.process.is_running() else []
        for each in family:
            each.kill()
        psutil.wait_procs(family)
        running.process.communicate()


def test_workers_random_kills_heal(server: Server, tmp_path: Path) -> None:
    """The service never refuses for a second, each end of a connection has a reason, and nothing is left behind."""
    seed = os.environ.get("ZCLI_SOAK_SEED") or str(random.randrange(10**6))
    began = time.monotonic()
    with Crowd(server.address, CLIENTS, pause=0.2, timeout=DEADLINE) as crowd:
        soak = Soak(server, crowd, random.Random(seed))
        soak.run(SECONDS)
        family = [psutil.Process(pid) for pid in soak.server.workers()]
    print(f"seed {seed}: {len(soak.crashes)} crashes, {soak.reloads} reloads, {dict(crowd.endings(began))}")
    print(f"open files and memory of the supervisor: {soak.states}")
    server.process.terminate()
    output, _ = server.process.communicate(timeout=DEADLINE)
    assert server.process.returncode == 0, output
    assert psutil.wait_procs(family, DEADLINE)[1] == []
    assert longest_refusal(crowd, began) < LONGEST_REFUSAL, f"seed {seed}"
    assert soak.unexpected(began) == [], f"seed {seed}"
    assert soak.crashes
    assert soak.reloads
    left = {file.name for file in tmp_path.rglob("*") if not file.is_dir()}
    assert {name for name in left if not re.fullmatch(r"script\.py|soak\.log(\.\d+)?", name)} == set()
    assert "Traceback" not in server.log()
    # The first half fills pools and caches. The second half is compared with the end of the first.
    files, memory = zip(*soak.states, strict=True)
    half = max(1, len(memory) // 2)
    assert min(files[half:]) <= max(files[:half]), files
    assert min(memory[half:]) < max(memory[:half]) * 1.1, memory
