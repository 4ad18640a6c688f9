"""The WebSocket client of ``zcli ws connect``, with wsproto for the protocol, and the input that it sends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import NamedTuple

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
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

from zcli_core.http.contract import TransportFailure, Url
from zcli_core.http.urls import UserInfo, parse_url
from zcli_core.net import connecting
from zcli_core.net.client_tls import client_context

_TIMEOUT = 10.0
_HINT = "(is it a ws:// address?)"
_NO_HANDSHAKE = f"the server closed the connection during the TLS handshake {_HINT}"
#: OpenSSL's errors for bytes that are not TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_READ_SIZE = 64 * 1024
#: Pongs are not sent while this many bytes wait for a server that does not read.
_MAX_WAITING = 64 * 1024


class ClientError(Exception):
    """The connection could not be made; the message holds the reason."""


class Ending(NamedTuple):
    """How a connection ended: the close code, the close reason (may be empty) and which side closed it."""

    code: int
    reason: str
    by_server: bool


def read_url(text: str) -> tuple[Url, UserInfo | None]:
    """Parse a WebSocket URL; return it with the scheme http or https, and its user and password.

    Raises:
        ValueError: The text is not a ``ws://`` or ``wss://`` URL.
    """
    scheme, _, rest = text.strip().partition("://")
    if scheme.lower() not in ("ws", "wss"):
        raise ValueError(f"expected ws://host:port/path or wss://host:port/path, got a URL with {_scheme_only(text)}")
    try:
        return parse_url(f"http{scheme[2:]}://{rest}")
    except TransportFailure as failure:
        raise ValueError(failure.message) from None


def _scheme_only(text: str) -> str:
    scheme, mark, _ = text.strip().partition("://")
    return f"the scheme {scheme[:40]!r}" if mark and "@" not in scheme else "no scheme"  # the rest may hold a password


class Client:
    """An open connection, made by :meth:`connect`.

    Attributes:
        sent, received: The number of messages.
        last_message_at: The arrival of the last message, on the clock :func:`time.monotonic`.
        ending: How the connection ended; None while it is open.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_size: int) -> None:
        self.sent = 0
        self.received = 0
        self.last_message_at = time.monotonic()
        self.ending: Ending | None = None
        self._reader = reader
        self._writer = writer
        self._max_size = max_size
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._early: list[Event] = []
        #: The fragments of an incomplete message; text as UTF-8.
        self._partial = bytearray()

    @classmethod
    async def connect(cls, url: Url, headers: Sequence[tuple[str, str]], ca_file: str | None, max_size: int) -> Client:
        """Connect to the host of a URL and upgrade, in 10 seconds at most.

        Args:
            url: As :func:`read_url` returns it.
            headers: Sent with the upgrade request.
            ca_file: PEM file of the authorities to trust for ``wss://``; None for those of the system.
            max_size: Size limit of a message in bytes. A larger message closes the connection with 1009.

        Raises:
            ClientError: The connection could not be made.
        """
        deadline = time.monotonic() + _TIMEOUT
        plain: socket.socket | None = None
        try:
            # These calls block, but no other task runs yet.
            plain = connecting.connect(connecting.resolve(url.host, url.port, deadline), deadline)
            context = client_context(ca_file) if url.scheme == "https" else None
            name = url.host.partition("%")[0].rstrip(".") if context else None
            opening = asyncio.open_connection(sock=plain, ssl=context, server_hostname=name)
            reader, writer = await asyncio.wait_for(opening, connecting.remaining(deadline))
        except BaseException as error:
            if plain is not None:
                plain.close()
                if isinstance(error, ConnectionError):
                    error = OSError(_NO_HANDSHAKE)
            if isinstance(error, (OSError, connecting.NoConnectionError, asyncio.TimeoutError)):
                raise ClientError(f"cannot connect to {url.host}:{url.port}: {_reason(error)}") from error
            raise
        client = cls(reader, writer, max_size)
        try:
            await asyncio.wait_for(client._upgrade(url, headers), max(connecting.remaining(deadline), 1.0))
        except (OSError, ProtocolError, asyncio.TimeoutError) as error:
            await client._abort()
            raise ClientError(f"the server did not complete the handshake: {_reason(error)}") from error
        except BaseException:
            await client._abort()
            raise
        return client

    async def _upgrade(self, url: Url, headers: Sequence[tuple[str, str]]) -> None:
        fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        self._write(Request(host=url.authority, target=url.target, extra_headers=fields))
        while True:
            events = list(await self._receive())
            for place, event in enumerate(events):
                if isinstance(event, AcceptConnection):
                    self._early = events[place + 1 :]
                    return
                if isinstance(event, RejectConnection):
                    raise ClientError(f"the server refused with HTTP status {event.status_code}{_location(event)}")

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Yield the messages until the connection ends, and answer pings."""
        events: Iterable[Event] = self._early
        while self.ending is None:
            for event in events:
                if isinstance(event, (TextMessage, BytesMessage)):
                    message = self._collect(event)
                    if message is not None:
                        yield message
                elif isinstance(event, Ping):
                    self._pong(event)
                elif isinstance(event, CloseConnection) and self.ending is None:
                    self._closed(event)
                if self.ending is not None:
                    return
            try:
                events = list(await self._receive())
            except ProtocolError as error:
                self._fail(1002, f"protocol error of the server: {error}")
            except OSError as error:
                self.ending = Ending(1006, f"connection lost: {_reason(error)}", by_server=True)

    def _collect(self, event: TextMessage | BytesMessage) -> str | bytes | None:
        self.last_message_at = time.monotonic()
        # One bytearray, because small fragments in a list would take many times their size.
        self._partial += event.data.encode() if isinstance(event.data, str) else event.data
        if len(self._partial) > self._max_size:
            self._fail(1009, f"a message is larger than {self._max_size} bytes (--max-size)")
            return None
        if not event.message_finished:
            return None
        message, self._partial = bytes(self._partial), bytearray()
        self.received += 1
        return message.decode() if isinstance(event, TextMessage) else message

    def _pong(self, event: Ping) -> None:
        # A later pong also answers this ping (RFC 6455, section 5.5.3).
        if self._writer.transport.get_write_buffer_size() < _MAX_WAITING:
            self._try_to_write(event.response())

    def _closed(self, event: CloseConnection) -> None:
        by_server = self._protocol.state is ConnectionState.REMOTE_CLOSING
        if by_server:
            self._try_to_write(event.response())
        reason = event.reason or ("connection lost" if event.code == 1006 else "")
        self.ending = Ending(int(event.code), reason, by_server or event.code == 1006)

    def _fail(self, code: int, reason: str) -> None:
        self._try_to_write(CloseConnection(code=code))
        self.ending = Ending(code, reason, by_server=False)

    async def send(self, text: str) -> bool:
        """Send a text message; wait while the server does not read. Return False if the connection has ended."""
        if self.ending is None and self._try_to_write(TextMessage(data=text)):
            with contextlib.suppress(OSError):
                await self._writer.drain()
                self.sent += 1
                return True
        return False

    def send_close(self) -> None:
        """Send a close frame with code 1000; :meth:`messages` ends when the server replies."""
        self._try_to_write(CloseConnection(code=1000))

    async def disconnect(self) -> None:
        """Wait up to a second for the server to close the socket (RFC 6455, section 7.1.1), then close it."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._read_to_the_end(), 1.0)
        await self._abort()

    async def _abort(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)

    async def _read_to_the_end(self) -> None:
        # Closing a socket with unread data sends a reset, which may discard our close frame.
        while await self._reader.read(_READ_SIZE):
            pass

    def _try_to_write(self, event: Event) -> bool:
        with contextlib.suppress(ProtocolError):  # the connection is closing
            self._write(event)
            return True
        return False

    def _write(self, event: Event) -> None:
        self._writer.write(self._protocol.send(event))

    async def _receive(self) -> Iterable[Event]:
        data = await self._reader.read(_READ_SIZE)
        if not data and self._protocol.state is ConnectionState.CONNECTING:
            raise ClientError("the server closed the connection during the upgrade")
        self._protocol.receive_data(data or None)
        return self._protocol.events()


def _location(event: RejectConnection) -> str:
    found = next((value for name, value in event.headers if name.lower() == b"location"), None)
    return "" if found is None else f", which redirects to {found.decode('latin-1')}"


def _reason(error: BaseException) -> str:
    """Return the reason of an error as a clause."""
    if isinstance(error, connecting.NoConnectionError):
        error = error.cause
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return f"no response within {_TIMEOUT:g} seconds"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        if error.reason in _NOT_TLS:
            return f"the server does not use TLS on this port {_HINT}"
        return f"no secure connection: {error.reason.replace('_', ' ').lower()}"
    if isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, socket.gaierror)) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class InputLines:
    """Reads standard input in a thread, at most one line ahead, so that a large file does not fill the memory.

    The thread may still be waiting for input when the program ends.

    Attributes:
        problem: Why the input could not be read completely; empty if it could.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.problem = ""
        self._loop = loop
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(1)
        self._has_lines = False
        threading.Thread(target=self._read, name="zcli-input", daemon=True).start()

    async def get(self) -> str | None:
        """Wait for the next line and return it, or None at the end. Call :meth:`task_done` before the next call."""
        return await self._lines.get()

    def task_done(self) -> None:
        """Let the thread read the next line."""
        self._room.release()

    def put_back(self, line: str) -> None:
        """Return a line that could not be sent to the queue."""
        self._lines.put_nowait(line)

    @property
    def has_unsent(self) -> bool:
        """Whether lines were read and not taken by :meth:`get`. Input that has not arrived is not counted."""
        return self._has_lines or (not self._lines.empty() and self._lines.get_nowait() is not None)

    def _read(self) -> None:
        try:
            try:
                for lines in _blocks_of_lines():
                    self._has_lines = True
                    for line in lines:
                        self._put(_decoded(line))
                    self._has_lines = False
            except UnicodeDecodeError as error:
                self.problem = f"the input is not text in {error.encoding}: byte 0x{error.object[error.start]:02x}"
            except OSError as error:
                self.problem = f"cannot read the input: {error.strerror or error}"
            self._put(None)
        except RuntimeError:  # the event loop is closed
            return

    def _put(self, line: str | None) -> None:
        self._room.acquire()
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _blocks_of_lines() -> Iterator[list[bytes]]:
    """Yield the complete lines after each read."""
    if sys.stdin is None:
        return
    # Python aborts if a thread holds the lock of the buffered stream at the end of the program.
    raw = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    pieces: list[bytes] = []
    while data := raw.read(_READ_SIZE):
        first, *others = data.split(b"\n")
        pieces.append(first)
        if others:
            *complete, last = others
            yield [b"".join(pieces), *complete]
            pieces = [last]
    if any(pieces):
        yield [b"".join(pieces)]


def _decoded(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(sys.stdin.encoding)
