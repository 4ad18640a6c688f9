"""The WebSocket client of ``zcli ws connect``: one connection, a thread that listens, wsproto for the protocol."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from zcli_core.comm.http.urls import parse_url
from zcli_core.contracts.http import TransportFailure
from zcli_core.tls_sockets import ThreadSafeSSLSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT = 10.0


class ClientError(Exception):
    """The connection could not be made; the message says why."""


class Client:
    """A connection that is open once it is made."""

    def __init__(self, url: str, headers: Sequence[tuple[str, str]], ca_file: str | None) -> None:
        """Connect. Raises ValueError for what is no WebSocket URL, ClientError if there is no connection to be had."""
        scheme, _, rest = url.strip().partition("://")
        if scheme.lower() not in ("ws", "wss"):
            raise ValueError(f"expected ws://host:port/path or wss://host:port/path, not {scheme[:40]!r}")
        try:
            place, _ = parse_url(f"http{scheme[2:]}://{rest}")
        except TransportFailure as failure:
            raise ValueError(failure.message) from None
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._lock = threading.Lock()
        self._closed: tuple[int, str] | None = None
        self._heard_at = time.monotonic()
        self._pieces: list[str | bytes] = []
        try:
            plain = socket.create_connection((place.host, place.port), timeout=_TIMEOUT)
            self._socket = _secured(plain, place.host, ca_file) if place.scheme == "https" else plain
        except OSError as error:
            raise ClientError(f"cannot connect to {place.host}:{place.port}: {error.strerror or error}") from error
        extra = [(name.encode(), value.encode()) for name, value in headers]
        self._send(Request(host=place.authority, target=place.target, extra_headers=extra))
        self._early = self._wait_for_acceptance()
        self._socket.settimeout(None)

    def _wait_for_acceptance(self) -> list[Event]:
        """Read until the server has accepted; what it sent right behind."""
        try:
            while True:
                events = list(self._receive())
                for place, event in enumerate(events):
                    if isinstance(event, AcceptConnection):
                        return events[place + 1 :]
                    if isinstance(event, RejectConnection):
                        raise ClientError(f"the server refused with HTTP status {event.status_code}")
                    if isinstance(event, CloseConnection):
                        raise ClientError("the server hung up during the upgrade")
        except (OSError, ProtocolError) as error:
            raise ClientError(f"the server does not answer as a WebSocket server does: {error}") from error

    def listen(self, on_message: Callable[[str | bytes], None]) -> None:
        """Begin to hand over messages, in a thread of its own."""
        self._thread = threading.Thread(target=self._listen, args=(on_message,), daemon=True)
        self._thread.start()

    def _listen(self, on_message: Callable[[str | bytes], None]) -> None:
        events = self._early
        while self._closed is None:
            for event in events:
                self._heard_at = time.monotonic()
                self._take(event, on_message)
            if self._closed is None:
                try:
                    events = list(self._receive())
                except (OSError, ProtocolError) as error:
                    self._closed = (1006, str(error))

    def _take(self, event: Event, on_message: Callable[[str | bytes], None]) -> None:
        if isinstance(event, (TextMessage, BytesMessage)):
            self._collect(event, on_message)
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection):
            with contextlib.suppress(OSError, ProtocolError):
                self._send(event.response())
            self._closed = (event.code, event.reason or "")

    def _collect(self, event: TextMessage | BytesMessage, on_message: Callable[[str | bytes], None]) -> None:
        self._pieces.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if event.message_finished:
            pieces, self._pieces = self._pieces, []
            empty = pieces[0][:0]
            on_message(empty.join(pieces))  # type: ignore[arg-type]  # all of them are of one kind

    def send(self, text: str) -> bool:
        """Send a text message; whether the connection is still there."""
        if self._closed is None:
            with contextlib.suppress(OSError, ProtocolError):
                self._send(TextMessage(data=text))
                return True
        return False

    def finish(self, wait: float) -> tuple[int, str]:
        """Close once nothing has been heard for ``wait`` seconds; how the connection ended."""
        self._heard_at = time.monotonic()
        while self._closed is None and (left := self._heard_at + wait - time.monotonic()) > 0:
            self._thread.join(left)
        if self._closed is None:
            with contextlib.suppress(OSError, ProtocolError):
                self._send(CloseConnection(code=1000))
            self._thread.join(_TIMEOUT)
        self._socket.close()
        return self._closed or (1006, "the server did not answer the close")

    def _send(self, event: Event) -> None:
        with self._lock:
            self._socket.sendall(self._protocol.send(event))

    def _receive(self) -> Iterator[Event]:
        data = self._socket.recv(65536)
        with self._lock:
            self._protocol.receive_data(data or None)
            yield from self._protocol.events()


def _secured(plain: socket.socket, host: str, ca_file: str | None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=ca_file)
    context.sslsocket_class = ThreadSafeSSLSocket
    if ca_file:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a self-signed certificate vouches for itself
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except OSError:
        plain.close()
        raise
