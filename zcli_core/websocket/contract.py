"""The contract between the core and a WebSocket transport.

The transport moves messages and enforces the protocol (RFC 6455) and its :class:`Limits`. The core decides which
clients are admitted and handles their messages. They call each other in four places:

1. The core calls :meth:`Transport.listen` and gets a :class:`Listener`.
2. The transport calls the core's :class:`Acceptor` for every HTTP request: :meth:`Acceptor.upgrade` for a valid
   WebSocket upgrade, :meth:`Acceptor.http` for any other request.
3. If the decision is :class:`Accept`, the transport makes a :class:`Connection` and passes it to
   :attr:`Accept.opened`. From then on it calls the :class:`Receiver` that ``opened`` has returned.
4. The core uses the :class:`Connection` to send, close, ping and wait.

All calls happen in the thread of one event loop. Plain methods must not block. A message takes plain calls only
(:meth:`Receiver.message`, :meth:`Connection.send`): a transport must not make a task, a future or a queue entry for
each message.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zcli_core.net.headers import Headers

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    import uuid
    from pathlib import Path

#: A message: ``str`` is a text message, ``bytes`` a binary message.
Message = str | bytes

#: ``(host, port)``, or ``(host, port, flow, scope)`` with IPv6; None for a Unix socket.
Address = tuple[str, int] | tuple[str, int, int, int] | None


# Requests and decisions ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. The query may contain a token, so the ``repr`` does not show it."""

    method: str
    #: The path without the query, percent-encoded as received.
    path: str
    #: The part after the ``?``, percent-encoded as received.
    query: str
    headers: Headers
    remote_address: Address
    local_address: Address
    #: Whether the connection uses TLS.
    tls: bool
    #: The subprotocols that the client offers, in its order of preference.
    subprotocols: tuple[str, ...] = ()
    #: The verified client certificate, as :meth:`ssl.SSLSocket.getpeercert` returns it; None if there is none.
    client_certificate: Mapping[str, Any] | None = None
    #: Whether this upgrade can be refused with an HTTP status; some ASGI servers cannot do that.
    can_be_refused_with_status: bool = True
    #: When the connection was accepted, as a reading of :func:`time.monotonic`; None if the transport does not know it.
    accepted_at: float | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path!r} from {self.remote_address}>"


@dataclass(frozen=True, slots=True)
class PlainResponse:
    """An HTTP response that opens no WebSocket.

    The transport adds ``Content-Length`` and ``Connection: close``, and then closes the connection. A client gets
    ``close_timeout`` to read it, and a second more for every 16 KiB of the body.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    #: Seconds to wait before it is sent. The transport drops everything that the client sends meanwhile.
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Accept:
    """The decision to admit a client.

    The transport calls ``opened`` once, right after it has written the 101 response, unless the client is gone. If
    ``opened`` raises, the transport logs the error and closes the connection with 1011.

    No other callback runs between the return of :meth:`Acceptor.upgrade` and the call of ``opened``, so a limit that
    was checked in the first still holds in the second.
    """

    opened: Callable[[Connection], Receiver]
    #: The agreed subprotocol: one of :attr:`Request.subprotocols`, or None.
    subprotocol: str | None = None
    #: Further headers of the 101 response.
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """The decision to finish the upgrade and close at once with a code and a reason that a browser's page can read.

    No message of the client is delivered. The transport ends the connection as :meth:`Connection.close` does. To refuse
    by HTTP status instead, decide on a :class:`PlainResponse`.
    """

    code: int
    reason: str = ""
    subprotocol: str | None = None
    #: Seconds to wait before the 101 response and the close frame are sent, together. The transport drops everything
    #: that the client sends meanwhile.
    delay: float = 0.0


Decision = Accept | Refuse | PlainResponse


class Acceptor(Protocol):
    """The part of the core that decides on requests.

    If a method raises, ``SystemExit`` included, the transport logs the error and responds with 500. It does the same
    for an invalid decision: a subprotocol that was not offered, a header with a line break, or None.
    """

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide on a valid upgrade: at once or, if a strategy has to wait, as an awaitable.

        The transport pauses reading while it waits. It cancels an awaitable that is not done within ``open_timeout``
        and refuses the client with 1011. It also cancels it if the client leaves.
        """

    def http(self, request: Request) -> PlainResponse:
        """Respond to a request that is not a WebSocket upgrade."""

    def refused(self, cause: str, address: Address, request: Request | None = None) -> float:
        """Log that the transport has refused a client without a call of :meth:`upgrade`.

        That is a client whose TLS handshake failed over a certificate, or an upgrade whose head is over a limit.

        Args:
            cause: What is wrong, in one line, without secrets.
            address: The client's address.
            request: The request, as far as it was read; None if there was none.

        Returns:
            Seconds to wait before the response is sent, if there is one.
        """


# A connection --------------------------------------------------------------------------------------------------


class ClosedBy(enum.Enum):
    """The side that ended a connection."""

    CLIENT = "client"
    SERVER = "server"
    #: Neither side sent a close frame: the connection broke, or the client disappeared.
    NETWORK = "network"


class Cause(enum.Enum):
    """Why a connection ended. Several causes share a close code, so the cause is recorded where it occurs."""

    #: One side closed the connection normally, with a close frame.
    CLOSE = "close"
    #: The client violated the protocol or a limit.
    VIOLATION = "violation"
    #: The client left more than ``max_send_buffer`` bytes unread.
    SLOW = "slow"
    #: The client sent nothing for ``ping_interval`` plus ``ping_timeout``.
    SILENT = "silent"
    #: The connection broke, or the client left without a close frame.
    LOST = "lost"
    #: The core called :meth:`Connection.abort`.
    ABORTED = "aborted"


class Closed(NamedTuple):
    """How a connection ended: the close code and reason of the side that closed first; 1006 without a close frame."""

    code: int
    reason: str
    by: ClosedBy
    cause: Cause = Cause.CLOSE
    #: The number of complete messages that arrived before the end and were not handled.
    dropped: int = 0


class State(enum.Enum):
    """The state of a connection."""

    OPEN = "open"
    #: A close frame was sent, or the transport is about to send it; no message can be sent any more.
    CLOSING = "closing"
    CLOSED = "closed"


class Receiver(Protocol):
    """The part of the core that handles one open connection. The transport's calls are in order and never nested."""

    def message(self, message: Message) -> bool:
        """Handle the next message.

        Returns:
            False to stop delivery until :meth:`Connection.resume_delivery`. The transport then delivers nothing and
            soon stops reading. What it holds is limited by its read size, and TCP slows the client.

        Other connections get a turn from time to time where many messages, fragments or control frames came at once,
        or a message is large when it is decompressed.
        """

    def end(self) -> bool:
        """Handle the end of the client's data: it has closed, violated the protocol, or is gone.

        Called at most once, and not after :meth:`Connection.close` and :meth:`Connection.abort`.

        Returns:
            True if every message before the end has been handled: the transport closes the connection now. False if
            it should wait for :meth:`Connection.resume_delivery`. It waits for ``close_timeout`` seconds after it
            noticed the end, which includes the time in which delivery was stopped. Then it closes with 1011 instead of
            the client's code.
        """

    def closed(self, closed: Closed) -> None:
        """Handle that the connection is gone. Called exactly once, as the last call.

        :attr:`Closed.dropped` counts the messages that the transport had received and not delivered.
        """


class Prepared(Protocol):
    """A message that :meth:`Listener.prepare` has encoded. Only the transport reads the encoded form."""

    @property
    def size(self) -> int:
        """Length of the message's payload, in bytes."""


class Connection(Protocol):
    """One open connection of a transport."""

    @property
    def request(self) -> Request:
        """The request that opened the connection."""

    @property
    def subprotocol(self) -> str | None:
        """The agreed subprotocol."""

    @property
    def id(self) -> uuid.UUID:
        """A random identifier, for logs."""

    @property
    def state(self) -> State:
        """The state of the connection."""

    @property
    def latency(self) -> float:
        """Seconds from the last answered ping to its pong; 0.0 before the first."""

    @property
    def write_buffer_size(self) -> int:
        """Bytes that were sent and that the operating system has not accepted, wherever they wait."""

    @property
    def write_paused(self) -> bool:
        """Whether the client reads too slowly, so that a sender should :meth:`drain` if it can wait."""

    def send(self, message: Message) -> None:
        """Send a message. It is written at once; wait with :meth:`drain` while :attr:`write_paused`.

        Raises:
            ConnectionClosed: The state is not OPEN, or the connection has just been closed (1013) because its client
                left more than ``max_send_buffer`` bytes unread.
            TypeError: It is not a message.
        """

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message of the same listener, without waiting.

        Returns:
            Whether it was sent. False if the connection is not open, or has just been closed (1013) because its client
            left more than ``max_send_buffer`` bytes unread.
        """

    async def drain(self) -> None:
        """Wait until the client has read enough. Raises ConnectionClosed if the connection ends meanwhile."""

    def ping(self, payload: bytes | None = None) -> asyncio.Future[float]:
        """Send a ping; return a future of the seconds until its pong. The future may raise ConnectionClosed.

        Args:
            payload: At most 125 bytes (RFC 6455, 5.5); random if not given.

        Raises:
            ValueError: The payload is too long, or that of a ping without a pong.
            ConnectionClosed: The state is not OPEN.
        """

    def resume_delivery(self) -> None:
        """Go on after :meth:`Receiver.message` or :meth:`Receiver.end` returned False; do nothing at other times."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake, which takes at most ``close_timeout``; do nothing if it has begun.

        No message is delivered from then on. The transport reads on, and drops what comes, until the client's close
        frame or the end of its data. If that has come already, the connection is closed at once.

        Raises:
            ValueError: The code must not be sent (RFC 6455, 7.4), or the reason is over 123 bytes.
        """

    def abort(self) -> None:
        """Drop the connection at once, without a close frame and without sending what is buffered.

        From then on the state is not OPEN and no message is delivered. It does nothing if the connection is gone.
        """

    async def wait_closed(self) -> Closed:
        """Wait until the connection is gone; return how it ended."""


# Listening -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compression:
    """Parameters of permessage-deflate (RFC 7692)."""

    #: Largest window, as a power of two, in either direction; a client may request a smaller one.
    window_bits: int = 12
    #: zlib's memLevel.
    memory_level: int = 5
    #: Smallest message that is compressed, in bytes.
    threshold: int = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that a transport enforces. Sizes in bytes, times in seconds; defaults as those of the settings."""

    #: Largest message, after decompression; a larger one is closed with 1009.
    max_size: int = 1024 * 1024
    #: Most empty fragments of one message; more are closed with 1009. ``max_size`` limits the other fragments.
    max_fragments: int = 1024
    #: Most bytes that a client may leave unread; over it the connection is closed with 1013.
    max_send_buffer: int = 4 * 1024 * 1024
    #: Time for the TLS handshake, the request and the decision, together.
    open_timeout: float = 10.0
    #: Time for the close handshake, from either side, including data that is still buffered.
    close_timeout: float = 5.0
    #: Time from one ping to the next, whether the client is silent or not; 0 sends no pings.
    ping_interval: float = 20.0
    #: A client that is silent for ``ping_interval`` plus this time is closed with 1011. Any byte from the client ends
    #: its silence, and so do bytes that reach it and that were sent before the ping.
    ping_timeout: float = 20.0
    #: Most lines and bytes of a request's head. A larger request gets status 431. A larger upgrade is finished and
    #: closed with 1008, so that a page can read it, and reported by :meth:`Acceptor.refused`.
    max_headers: int = 128
    max_header_bytes: int = 16 * 1024
    #: Most connections that are not admitted: in the TLS handshake, in the upgrade, or being refused. They count from
    #: the moment in which their socket is accepted. Over the limit, the oldest connection of the address with most of
    #: them is closed without a response. All addresses of an IPv6 /64 count as one. Admitted connections do not count.
    max_pending_connections: int = 1000
    #: Parameters of permessage-deflate; None does not offer it.
    compression: Compression | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a transport listens: on given sockets, on a Unix socket, or on a host and port."""

    host: str | None = "127.0.0.1"
    port: int = 8765
    unix_path: Path | None = None
    #: Permissions of the Unix socket's file, set before any client can connect; None keeps the system's.
    unix_mode: int | None = None
    #: User id and group id of the Unix socket's file; -1 keeps the system's.
    unix_owner: tuple[int, int] = (-1, -1)
    #: Whether several processes may listen on the port (SO_REUSEPORT).
    reuse_port: bool = False
    #: The TLS context for wss://. The core may load a renewed certificate into it while the listener runs.
    tls: ssl.SSLContext | None = None
    backlog: int = 1024
    #: Sockets that listen already, such as those that systemd or a supervisor passes. The transport then binds nothing.
    #: It owns the sockets, closes them in the end and leaves the file of a Unix socket in place.
    sockets: tuple[socket.socket, ...] = ()


class Listener(Protocol):
    """A transport that listens."""

    @property
    def addresses(self) -> list[Address]:
        """The addresses that it listens on, with the chosen port for port 0. Empty for a Unix socket."""

    def prepare(self, message: Message) -> Prepared:
        """Encode a message once, to send it to any number of this listener's connections."""

    def close_sockets(self) -> None:
        """Accept no further connections and close the listening sockets. Connections that were accepted go on.

        Other processes may have the same sockets, so what waits in their queues is not lost.
        """

    async def finish_accepting(self) -> None:
        """:meth:`close_sockets`, and wait until each accepted connection is admitted, refused or gone.

        It waits at most ``open_timeout``.
        """

    def stop_accepting(self) -> None:
        """Accept no further connections, release the port, and drop all connections that are not admitted."""

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """:meth:`stop_accepting`, close every connection, and wait until all are gone, at most ``close_timeout``."""


class Capability(enum.Enum):
    """A promise of this contract that a transport can keep only if it owns the bytes of its connections.

    A transport whose connections belong to another server lists in :attr:`Transport.capabilities` what it promises. The
    contract suite skips the tests of the other promises. The value says what is promised.
    """

    #: Every rule of RFC 6455 and RFC 9112 for the request: whole URLs, empty lists, 426, and only HTTP/1.
    HANDSHAKE = "the details of the HTTP handshake"
    #: What a client sends before it has received the response to its upgrade. RFC 6455 does not allow that.
    EARLY_DATA = "data sent before the response to the upgrade"
    #: ``open_timeout`` before the request is complete, ``max_pending_connections``, reports of failed TLS handshakes.
    PENDING_CONNECTIONS = "limits on connections before their upgrade"
    #: Limits of the head and of messages, to the byte, as soon as they are exceeded, with the reasons of this contract.
    EXACT_LIMITS = "limits that are exact to the byte"
    #: Responses to the messages before an invalid frame, and its close code whatever the client still sends.
    INVALID_FRAMES = "the responses to messages before an invalid frame"
    #: Other connections get a turn where many messages or frames of one client came at once.
    TURNS = "a turn for others when one client sends much at once"
    #: :attr:`Connection.write_buffer_size` counts what the operating system has not accepted.
    UNREAD_DATA = "the number of bytes that a client has not read"
    #: :meth:`Connection.ping`, :attr:`Connection.latency`, and that any byte ends the silence of a client.
    PINGS = "pings and latency"
    #: The order and the deadline of the close handshake: responses before the close frame, and the end of TCP.
    CLOSE_HANDSHAKE = "the details of the close handshake"
    #: Messages that were received before the client left are delivered, or counted in :attr:`Closed.dropped`.
    LAST_MESSAGES = "all messages of a client that is gone"


class Transport(Protocol):
    """The product of a provider's factory."""

    #: What it promises. A transport that owns the bytes of its connections promises everything.
    capabilities: frozenset[Capability] = frozenset(Capability)

    async def listen(self, endpoint: Endpoint, acceptor: Acceptor, limits: Limits) -> Listener:
        """Start listening. Raises OSError if the system refuses the address."""
