"""Runs scripts with ``websocket.workers`` as real processes, and watches what their users and operators see."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from installations import Site
from script_runs import started_script
from websocket_serving import DEADLINE, eventually
from websockets.sync.client import ClientConnection, connect

#: Answers with its process and version. Some messages are commands.
SCRIPT = """
import asyncio, os, sys, time
from zCLI import zCLI

VERSION = 1
z = zCLI({"deployment": "Production", "title": "served", "logger_path": "."})

async def handler(websocket, message):
    if message == "hang":
        time.sleep(3600)
    if message == "exit":
        os._exit(3)
    if message == "stop":
        z.comm.websocket.stop(wait=False)
    if message.startswith("wait"):
        await asyncio.sleep(float(message[4:]))
    await websocket.send(f"{os.getpid()} {VERSION} {message}")

z.comm.websocket.start(port=0, handler=handler)
sys.stdout.write("after start()\\n")  # in one piece, unlike print()
"""

#: What most tests need: quick, and no engine.
SETTINGS = {
    "ZCLI_WEBSOCKET_WORKERS": "2",
    "ZCLI_WEBSOCKET_BACKPLANE": "local",
    "ZCLI_WEBSOCKET_RELOAD_SPREAD": "0.1",
}

#: A plugin that answers the questions of :meth:`Supervised.ask`, one for each connection.
OPERATOR = """
    import json, os, socket, threading
    ZCLI_CONTRACT = 1
    @hookimpl
    def zcli_websocket_serving(server, context):
        listening = socket.create_server(("127.0.0.1", 0))
        def serve():
            while True:
                client, _ = listening.accept()
                with client:
                    question = client.recv(100).decode()
                    client.sendall(json.dumps(getattr(server, question)()).encode())
        threading.Thread(target=serve, daemon=True).start()
        with open("operator.new", "a") as file:
            file.write(f"{listening.getsockname()[1]}\\n")
        os.rename("operator.new", "operator")
    @hookimpl
    def zcli_websocket_ended(server, context):
        total = server.metrics()["total"]
        with open("totals", "w") as file:
            json.dump(total, file)
"""


def install_operator(folder: Path) -> dict[str, str]:
    """Install the plugin for scripts that run with the returned variables."""
    site = Site(folder / "site")
    site.plugin("operator_of_test", OPERATOR)
    return {"PYTHONPATH": str(site.folder)}


class Supervised:
    """A script whose supervisor listens."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        line = self.wait_for("listening on")
        self.url = line.split()[3]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._new.put(line.rstrip("\n"))
        self._new.put(None)

    def wait_for(self, text: str) -> str:
        """Read the output until a line has a text, and return that line."""
        while True:
            line = self._new.get(timeout=DEADLINE)
            if line is None:
                raise AssertionError(f"the script has ended without {text!r}:\n" + "\n".join(self.lines))
            self.lines.append(line)
            if text in line:
                return line

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, **options: Any) -> ClientConnection:
        return connect(self.url, proxy=None, open_timeout=DEADLINE, **options)

    def say(self, message: str = "hello", **options: Any) -> tuple[int, int]:
        """Send a message with a new client; return the process and the version that has answered."""
        with self.client(**options) as client:
            return said(client, message)

    def workers(self) -> set[int]:
        """Return the processes that the supervisor has started and that run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children()
            return {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE}
        return set()

    def answering(self, count: int = 2) -> set[int]:
        """Connect until so many different workers have answered, and return their processes."""
        found: set[int] = set()
        eventually(lambda: found.add(self.say()[0]) or len(found) >= count, f"{count} workers, got {found}")
        return found

    def log(self) -> str:
        file = self.folder / "served.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def logged(self, text: str, times: int = 1) -> str:
        """Wait until the log has a text so many times, and return the log."""
        eventually(lambda: self.log().count(text) >= times, f"{times} times {text!r} in the log {self.log()}")
        return self.log()

    def reload(self) -> None:
        """Reload and wait for the end of the reload."""
        done = self.log().count("reload: done")
        self.process.send_signal(signal.SIGHUP)
        self.logged("reload: done", done + 1)

    def ask(self, question: str) -> Any:
        """Call a method of the server, as a plugin does, and return what it has returned."""
        port = int(eventually(lambda: _read_text(self.folder / "operator")))
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            sock.sendall(question.encode())
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        return json.loads(answer)

    def end(self, number: int | None = signal.SIGINT, group: bool = False) -> tuple[int, list[str]]:
        """Send a signal; return the exit status and all output, and check that no process is left."""
        workers = self.workers()
        if number is not None:
            (os.killpg if group else os.kill)(self.process.pid, number)
        status = self.process.wait(DEADLINE * 2)
        eventually(lambda: not any(map(psutil.pid_exists, workers)), f"the end of {workers}")
        for line in iter(lambda: self._new.get(timeout=DEADLINE), None):
            self.lines.append(line)
        return status, self.lines


def said(client: ClientConnection, message: str = "hello") -> tuple[int, int]:
    """Send a message; return the process and the version that has answered."""
    client.send(message)
    process, version, _ = str(client.recv(timeout=DEADLINE)).split(" ", 2)
    return int(process), int(version)


def _read_text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


@contextlib.contextmanager
def supervised(folder: Path, script: str = SCRIPT, **variables: str) -> Iterator[Supervised]:
    """Run a script that listens, with :data:`SETTINGS` and further variables."""
    file = folder / "script.py"
    file.write_text(script)
    with started_script(file, folder=folder, variables={**SETTINGS, **variables}) as process:
        yield Supervised(process, folder)


def failed(folder: Path, script: str = SCRIPT, variables: Mapping[str, str] = {}) -> tuple[int, str]:
    """Run a script that does not listen; return its exit status and its output."""
    file = folder / "script.py"
    file.write_text(script)
    with started_script(file, folder=folder, variables={**SETTINGS, **variables}) as process:
        output, _ = process.communicate(timeout=DEADLINE * 3)
    return process.returncode, output


Changed = Callable[[str], str]
