"""gunicorn as the supervisor of zCLI's workers: ``python -m tests.benchmarks.gunicorn_workers [QUESTION...]``.

gunicorn is not a dependency: ``pip install gunicorn`` first. Each question starts four workers and real clients, which
connect again whenever they are disconnected. docs/decisions/workers.md has the answers. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.benchmarks import scale_load
from tests.reconnecting_clients import Crowd, longest_gap, most_in_a_second
from zcli_core.net.ports import find_free_port

HERE = Path(__file__).resolve().parent
WORKERS = 4

SCRIPT = """
import os, time
zSpark = {"deployment": "Production", "logger": "PROD", "logger_path": os.devnull,
    "websocket": {"max_connections": 20000, "allowed_origins": ["*"]}}

async def on_connect(websocket):
    await websocket.send(f"worker {os.getpid()}")

async def handler(websocket, message):
    if message == "crash":
        os._exit(1)
    if message == "hang":
        time.sleep(3600)
    await websocket.send(message)
"""


class Running:
    """A gunicorn master with its workers."""

    def __init__(self, folder: Path, options: tuple[str, ...], variables: dict[str, str]) -> None:
        self.folder = folder
        self.port = find_free_port("127.0.0.1")
        self.script = folder / "app.py"
        self.script.write_text(SCRIPT)
        self._log = (folder / "log").open("w")
        command = [sys.executable, str(HERE / "gunicorn_zcli.py"), str(self.port), str(WORKERS), str(self.script)]
        self.process = psutil.Popen(
            [*command, *options], stderr=self._log, stdout=self._log, cwd=folder,
            env={**scale_load.environment(), **variables},
        )  # fmt: skip

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def workers(self) -> set[int]:
        return {child.pid for child in self.process.children()}

    def wait_for(self, condition: object, seconds: float = 30.0) -> bool:
        end = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def booted(self) -> int:
        return len(re.findall("Booting worker", self.log()))


@contextlib.contextmanager
def gunicorn(*options: str, **variables: str) -> Iterator[Running]:
    """Run gunicorn with four workers until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        running = Running(Path(folder), options, variables)
        family = [running.process]
        try:
            yield running
        finally:
            with contextlib.suppress(psutil.Error):
                family += running.process.children(recursive=True)
            for each in family:
                with contextlib.suppress(psutil.Error):
                    each.kill()
            running.process.wait()


def count(crowd: Crowd, since: float) -> str:
    """Return what the clients saw since then."""
    waits = [each.seconds for each in crowd.connected if each.at >= since]
    return (
        f"endings {dict(crowd.endings(since))}, disconnects per client {dict(crowd.per_client(since))}, "
        f"longest wait for a worker {max(waits, default=0):.1f} s"
    )


def spread() -> None:
    """(a) How evenly 400 and 4000 clients are spread."""
    for clients in (400, 4000):
        with gunicorn() as master, Crowd(("127.0.0.1", master.port), clients) as crowd:
            crowd.wait_connected()
            numbers = sorted(crowd.workers().values())
            print(f"(a) {clients} clients: {numbers}, max/min {numbers[-1] / numbers[0]:.2f}")


def crash() -> None:
    """(b) A worker is killed while clients connect: with a socket for each slot, and with gunicorn's reuse_port."""
    for options in ((), ("reuse_port=True",)):
        with gunicorn(*options) as master, Crowd(("127.0.0.1", master.port), 400) as crowd:
            crowd.wait_connected()
            began = time.monotonic()
            victim = min(crowd.workers())
            had = crowd.workers()[victim]
            # A stopped worker accepts nothing, so that connections wait in its queue when it is killed.
            os.kill(victim, signal.SIGSTOP)
            with Crowd(("127.0.0.1", master.port), 400, at_once=400) as arriving:
                arriving.wait_for(lambda arriving=arriving: arriving.open >= 250)
                os.kill(victim, signal.SIGKILL)
                arriving.wait_connected()
                crowd.wait_connected()
                print(f"(b) {options}: the killed worker had {had} clients; {count(crowd, began)}")
                print(f"(b) {options}: 400 clients that connected meanwhile: {count(arriving, began)}")


def hang() -> None:
    """(c) A worker's event loop hangs, and a worker is stopped with SIGSTOP; timeout=4."""
    for how in ("hang", "SIGSTOP"):
        with gunicorn() as master, Crowd(("127.0.0.1", master.port), 100) as crowd:
            crowd.wait_connected()
            began = time.monotonic()
            if how == "SIGSTOP":
                victim = min(crowd.workers())
                os.kill(victim, signal.SIGSTOP)
            else:
                client = scale_load.load.connect(master.port)
                client.sendall(scale_load.load.client_frame(b"hang", True))
            before = master.workers()
            found = master.wait_for(lambda before=before: len(before - master.workers()) == 1, 40)
            noticed = time.monotonic() - began
            crowd.wait_connected()
            print(f"(c) {how}: replaced {found} after {noticed:.1f} s; {count(crowd, began)}")


def reload(clients: int = 400) -> None:
    """(d) SIGHUP while clients arrive."""
    with gunicorn(SPREAD="5") as master, Crowd(("127.0.0.1", master.port), clients) as crowd:
        crowd.wait_connected()
        old = set(crowd.workers())
        began = time.monotonic()
        with Crowd(("127.0.0.1", master.port), 100) as arriving:
            master.process.send_signal(signal.SIGHUP)
            master.wait_for(lambda: not old & master.workers(), 60)
            crowd.wait_connected()
            first_new = min((each.at for each in crowd.connected if each.worker not in old), default=0) - began
            first_end = min((each.at for each in crowd.disconnected if each.at > began), default=0) - began
            print(f"(d) SIGHUP: {count(crowd, began)}")
            print(f"(d) first client closed after {first_end:.2f} s, first one on a new worker after {first_new:.2f} s")
            times = [each.at for each in crowd.connected if each.at > began]
            print(f"(d) most reconnects in a second {most_in_a_second(times)}, spread evenly {clients / 5:.0f}")
            gap = longest_gap([each.at for each in arriving.connected + crowd.connected], began, began + 5)
            print(f"(d) longest time without a new connection {gap:.2f} s; arriving: {count(arriving, began)}")
    with gunicorn() as master, Crowd(("127.0.0.1", master.port), clients) as crowd:
        crowd.wait_connected()
        old = set(crowd.workers())
        master.script.write_text(f"import time; time.sleep(4)\n{SCRIPT}")
        began = time.monotonic()
        master.process.send_signal(signal.SIGHUP)
        crowd.wait_for(lambda: set(crowd.workers()) - old)
        gap = longest_gap([each.at for each in crowd.connected], began, time.monotonic())
        crowd.wait_connected()
        print(f"(d) new code that takes 4 s to import: no new connection for {gap:.1f} s; {count(crowd, began)}")
    for how in ("a new worker is killed", "SIGTERM"):
        with gunicorn(SPREAD="8") as master, Crowd(("127.0.0.1", master.port), clients) as crowd:
            crowd.wait_connected()
            old = set(crowd.workers())
            master.process.send_signal(signal.SIGHUP)
            crowd.wait_for(lambda crowd=crowd, old=old: set(crowd.workers()) - old)
            began = time.monotonic()
            if how == "SIGTERM":
                master.process.send_signal(signal.SIGTERM)
                master.wait_for(lambda master=master: "Handling signal: term" in master.log(), 40)
            else:
                os.kill(min(set(crowd.workers()) - old), signal.SIGKILL)
                master.wait_for(lambda master=master: master.booted() > 8, 40)
            print(f"(d) during a reload: {how}; the master acts after {time.monotonic() - began:.1f} s")


def broken_code() -> None:
    """(e) SIGHUP when the new code has a syntax error, and (f) SIGUSR2 with it and with good code."""
    for name in ("SIGHUP", "SIGUSR2"):
        with gunicorn() as master, Crowd(("127.0.0.1", master.port), 100) as crowd:
            crowd.wait_connected()
            began = time.monotonic()
            master.script.write_text("def (")
            master.process.send_signal(getattr(signal, name))
            with contextlib.suppress(TimeoutError):
                crowd.wait_for(lambda began=began: time.monotonic() > began + 8)
            status = master.process.poll()
            print(f"(e) {name} with a syntax error: status {status}; {crowd.open} of 100 connected")
            print(f"    {dict(crowd.endings(began))}")
            print("    " + "\n    ".join(master.log().strip().splitlines()[-3:]))
    with gunicorn() as master, Crowd(("127.0.0.1", master.port), 100) as crowd:
        crowd.wait_connected()
        began = time.monotonic()
        old = set(crowd.workers())
        master.process.send_signal(signal.SIGUSR2)
        crowd.wait_for(lambda: time.monotonic() > began + 3)
        children = [child for child in master.process.children(recursive=True) if child.pid not in old]
        print(f"(f) SIGUSR2: {len(children)} new processes; {dict(crowd.endings(began))}, same clients as before")
        master.process.send_signal(signal.SIGTERM)
        master.wait_for(lambda: master.process.poll() is not None, 40)
        crowd.wait_connected()
        print(f"(f) then SIGTERM to the old master: {count(crowd, began)}")
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()


def crash_loop() -> None:
    """(g) Workers that crash again and again, after they were ready."""
    with gunicorn() as master, Crowd(("127.0.0.1", master.port), 20) as crowd:
        crowd.wait_connected()
        for _ in range(12):
            workers = master.workers()
            os.kill(min(workers), signal.SIGKILL)
            master.wait_for(lambda workers=workers: len(master.workers() - workers) == 1)
        print(f"(g) 12 crashes: status {master.process.poll()} (None: it runs)")


def orphans() -> None:
    """(h) The master is killed with SIGKILL."""
    with gunicorn() as master, Crowd(("127.0.0.1", master.port), 100) as crowd:
        crowd.wait_connected()
        workers = [psutil.Process(pid) for pid in master.workers()]
        began = time.monotonic()
        master.process.kill()
        _, alive = psutil.wait_procs(workers, 30)
        print(f"(h) {len(alive)} workers left {time.monotonic() - began:.1f} s after the master; {count(crowd, began)}")
        for each in alive:
            each.kill()


QUESTIONS = (spread, crash, hang, reload, broken_code, crash_loop, orphans)


def main() -> None:
    """Answer the questions of the command line, or all."""
    from importlib.metadata import version

    print(f"gunicorn {version('gunicorn')}")
    for question in QUESTIONS:
        if not sys.argv[1:] or question.__name__ in sys.argv[1:]:
            question()


if __name__ == "__main__":
    main()
