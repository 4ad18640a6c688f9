"""Real servers and other people's clients for the tests of ``z.comm.websocket``."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from zcli_core.app import zCLI
from zcli_core.testing.tls_sockets import ThreadSafeSSLSocket
from zcli_core.websocket.server_run import BackgroundServer

DEADLINE = 20.0
TOKEN = "a-token-for-the-tests"


def eventually(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """What ``condition()`` gives once that is true; fails if it never is."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come true within {DEADLINE:g} s")


class Served(NamedTuple):
    """A server that runs in the background."""

    z: zCLI
    handle: BackgroundServer

    @property
    def url(self) -> str:
        return self.handle.url

    @property
    def port(self) -> int:
        assert self.handle.port is not None
        return self.handle.port

    @property
    def websocket(self) -> Any:
        return self.z.comm.websocket

    def log(self) -> str:
        """Everything that was logged."""
        file = self.z._application_log.file
        return Path(file).read_text(encoding="utf-8") if file and Path(file).exists() else ""

    def logged(self, text: str) -> str:
        """The log, once it holds that text."""
        eventually(lambda: text in self.log(), f"{text!r} in the log")
        return self.log()

    @contextlib.contextmanager
    def client(self, path: str = "/", **options: Any) -> Iterator[ClientConnection]:
        """A client of the library ``websockets``."""
        with connect(self.url + path, proxy=None, open_timeout=DEADLINE, **options) as client:
            yield client

    def refusal(self, path: str = "/", **options: Any) -> tuple[int, str]:
        """The close code and reason with which a client is refused; fails if it is let in."""
        with self.client(path, **options) as client:
            return end_of(client)

    def status(self, path: str = "/", **options: Any) -> int:
        """The HTTP status with which a client is refused."""
        try:
            with self.client(path, **options):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


def end_of(client: ClientConnection) -> tuple[int, str]:
    """How the server closed: code and reason. Fails if it sends a message instead."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=DEADLINE)
    assert closed.value.rcvd is not None, "the connection was dropped without a close frame"
    return closed.value.rcvd.code, closed.value.rcvd.reason


def talks(client: ClientConnection) -> bool:
    """Whether a message comes back from an echo server."""
    client.send("are you there?")
    return bool(client.recv(timeout=DEADLINE) == "are you there?")


class Certificates:
    """An authority, and certificates of it in PEM files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = trustme.CA()

    def issue(self, name: str, *hosts: str, **options: Any) -> tuple[Path, Path]:
        """The files of a new certificate and its key."""
        issued = self.authority.issue_cert(*(hosts or ("localhost", "127.0.0.1")), **options)
        certificate, key = self._folder / f"{name}.cert", self._folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return certificate, key

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts the authority and nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.sslsocket_class = ThreadSafeSSLSocket  # the client of websockets reads in a thread of its own
        self.authority.configure_trust(context)
        return context
