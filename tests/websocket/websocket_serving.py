"""Real servers and third-party clients for the tests of ``z.comm.websocket``."""

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
    """Wait until ``condition()`` is true and return its value; fail after DEADLINE."""
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
        """Return the whole log."""
        file = self.z._application_log.file
        return Path(file).read_text(encoding="utf-8") if file and Path(file).exists() else ""

    def logged(self, text: str) -> str:
        """Wait until the log has a text, and return the log."""
        eventually(lambda: text in self.log(), f"{text!r} in the log")
        return self.log()

    @contextlib.contextmanager
    def client(self, path: str = "/", **options: Any) -> Iterator[ClientConnection]:
        """A client of the library ``websockets``."""
        with connect(self.url + path, proxy=None, open_timeout=DEADLINE, **options) as client:
            yield client

    def refusal(self, path: str = "/", **options: Any) -> tuple[int, str]:
        """Return the close code and reason of a refused client; fail if it is accepted."""
        with self.client(path, **options) as client:
            return end_of(client)

    def status(self, path: str = "/", **options: Any) -> int:
        """Return the HTTP status of a refused client."""
        try:
            with self.client(path, **options):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


def end_of(client: ClientConnection) -> tuple[int, str]:
    """Return the close code and reason of the server; fail if it sends a message instead."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=DEADLINE)
    assert closed.value.rcvd is not None, "the connection was dropped without a close frame"
    return closed.value.rcvd.code, closed.value.rcvd.reason


def talks(client: ClientConnection) -> bool:
    """Whether an echo server sends a message back."""
    client.send("are you there?")
    return bool(client.recv(timeout=DEADLINE) == "are you there?")


class Certificates:
    """A certificate authority that issues certificates as PEM files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = trustme.CA()

    def issue(self, name: str, *hosts: str, **options: Any) -> tuple[Path, Path]:
        """Make a certificate and its key; return their files."""
        issued = self.authority.issue_cert(*(hosts or ("localhost", "127.0.0.1")), **options)
        certificate, key = self._folder / f"{name}.cert", self._folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return certificate, key

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts only the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.sslsocket_class = ThreadSafeSSLSocket  # the client of websockets reads in a thread of its own
        self.authority.configure_trust(context)
        return context
