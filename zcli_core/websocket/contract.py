"""The WebSocket transport contract: what the core asks of a transport, and what a transport asks of the core.

The transport moves messages and enforces the protocol (RFC 6455) and its :class:`Limits`. The core decides who may
enter and what happens. They meet in four places:

1. the core calls :meth:`Transport.listen` and holds a :class:`Listener`;
2. for every HTTP request the transport asks the core's :class:`Acceptor`: :meth:`Acceptor.upgrade` for a
   well-formed WebSocket upgrade, :meth:`Acceptor.http` for any other request;
3. for an :class:`Accept` it makes a :class:`Connection`, hands it to :attr:`Accept.opened` and from then on
   reports to the :class:`Receiver` that this call returned;
4. to send, close, ping and wait, the core uses the :class:`Connection`.

Everything happens in the thread of one event loop; nothing here may be called from another. Plain methods never
block and never wait. The path of a message (:meth:`Receiver.message`, :meth:`Connection.send`) is plain calls
on purpose: a transport may not make a task, a future or a queue entry for each message.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zcli_core.net.headers import Headers

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    import uuid
    from pathlib import Path

#: A message: ``str`` is a text message, ``bytes`` a binary one.
Message = str | bytes

#: ``(host, port)``, or ``(host, port, flow, scope)`` with IPv6; None on a Unix socket.
Address = tuple[str, int] | tuple[str, int, int, int] | None


# Requests and answers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request as the core sees it. The query may hold a token: it is not in the ``repr``."""

    method: str
    #: The path, percent-encoded as it came, without the query.
    path: str
    #: What follows the ``?``, without it, percent-encoded as it came.
    query: str
    headers: Headers
    remote_address: Address
    local_address: Address
    #: Whether it came over TLS.
    tls: bool
    #: The subprotocols that the client offers, in its order of preference.
    subprotocols: tuple[str, ...] = ()
    #: The certificate that the client showed and that was verified, as :meth:`ssl.SSLSocket.getpeercert` gives it.
    client_certificate: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path!r} from {self.remote_address}>"


@dataclass(frozen=True, slots=True)
class PlainResponse:
    """A plain HTTP answer; the transport adds ``Content-Length`` and ``Connection: close`` and closes."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    #: Seconds to wait before it is sent. Everything that the client sends meanwhile is dropped.
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Accept:
    """Let the client in. ``opened`` is called once, right after the 101 was written, unless the client has gone.

    If it raises, that is logged and the connection is closed with 1011.

    Between the moment :meth:`Acceptor.upgrade` decides and the call of ``opened`` no other callback runs, so a
    limit that was checked in the one holds in the other. ``subprotocol`` has to be one of
    :attr:`Request.subprotocols`; ``headers`` go into the 101.
    """

    opened: Callable[[Connection], Receiver]
    subprotocol: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """Finish the upgrade and close at once with a code and a reason that a page in a browser can read.

    No message of the client is delivered. The transport ends the connection as :meth:`Connection.close` does. To refuse
    by HTTP status instead, decide on an :class:`PlainResponse`.
    """

    code: int
    reason: str = ""
    subprotocol: str | None = None
    #: Seconds to wait before the 101 and the close frame are sent, together. Everything that the client sends
    #: meanwhile is dropped.
    delay: float = 0.0


Decision = Accept | Refuse | PlainResponse


class Acceptor(Protocol):
    """The core's side of an upgrade.

    An exception out of it, ``SystemExit`` too, is logged and answered with 500. So is a decision that cannot be carried
    out: a subprotocol that was not offered, a header with a line break, None.
    """

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide on a well-formed upgrade, at once or, where a strategy has to ask somebody, as an awaitable.

        The transport stops reading while it waits. It cancels a decision that is not there within
        ``open_timeout`` and refuses with 1011; it cancels it too when it sees that the client has gone.
        """

    def http(self, request: Request) -> PlainResponse:
        """Answer a request that asks for no WebSocket."""

    def refused(self, cause: str, address: Address, request: Request | None = None) -> float:
        """Log that the transport has refused a client without asking :meth:`upgrade`.

        That is a client whose TLS handshake failed over a certificate, or an upgrade whose head is over a limit.

        Args:
            cause: What is wrong, in one line, without anything secret.
            address: The peer's address.
            request: The request, as far as it was read; None if there was none.

        Returns:
            Seconds to wait before the answer is sent, if there is one.
        """


# A connection --------------------------------------------------------------------------------------------------


class ClosedBy(enum.Enum):
    """Which side ended a connection."""

    CLIENT = "client"
    SERVER = "server"
    #: Nobody said goodbye: the connection broke, or the client vanished.
    NETWORK = "network"


class Cause(enum.Enum):
    """Why a connection ended. Several causes share a close code, so the cause is recorded where it happens."""

    #: One side sent a close frame because it wanted to.
    CLOSE = "close"
    #: The client broke the protocol, or a limit for what it sends.
    VIOLATION = "violation"
    #: The client left more than ``max_send_buffer`` bytes unread.
    SLOW = "slow"
    #: Nothing was heard from the client for ``ping_interval`` and ``ping_timeout``.
    SILENT = "silent"
    #: The connection broke, or the client left without a close frame.
    LOST = "lost"
    #: The core called :meth:`Connection.abort`.
    ABORTED = "aborted"


class Closed(NamedTuple):
    """How a connection ended: the code and reason of the side that closed first. 1006 if neither sent one."""

    code: int
    reason: str
    by: ClosedBy
    cause: Cause = Cause.CLOSE
    #: Complete messages that arrived before the end and were not handled.
    dropped: int = 0


class State(enum.Enum):
    """Where a connection stands."""

    OPEN = "open"
    #: A close frame was sent, or the transport is about to send one; nothing can be sent any more.
    CLOSING = "closing"
    CLOSED = "closed"


class Receiver(Protocol):
    """The core's side of an open connection. Called by the transport in order, never one call inside another."""

    def message(self, message: Message) -> bool:
        """Take the next message. False: no more until :meth:`Connection.resume_delivery`.

        After False the transport delivers nothing and soon stops reading from the socket: what it holds is
        bounded by its read size, and the client is slowed by TCP. Where many messages, fragments or control frames came
        at once, or a message is large when it is decompressed, other connections get a turn now and then.
        """

    def end(self) -> bool:
        """No message follows: the client has closed, broke the protocol, or has gone.

        True: every message before the end has been handled, close now. False: the transport waits for
        :meth:`Connection.resume_delivery`, so that messages that came before the end are handled before the connection
        is closed. It waits until ``close_timeout`` seconds after it noticed the end, for delivery that is held and for
        this together. Then it closes with 1011 instead of answering the client's close frame with the client's code.

        Called at most once, and not at all after :meth:`Connection.close` and :meth:`Connection.abort`.
        """

    def closed(self, closed: Closed) -> None:
        """The connection is gone. Called exactly once, as the last call.

        :attr:`Closed.dropped` counts the messages that the transport had received and not delivered.
        """


class Prepared(Protocol):
    """A message that :meth:`Listener.prepare` has encoded. The transport alone knows what is inside."""

    @property
    def size(self) -> int:
        """Length of the message's payload, in bytes."""


class Connection(Protocol):
    """One open connection, as a transport offers it to the core."""

    @property
    def request(self) -> Request:
        """The request that opened it."""

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on."""

    @property
    def id(self) -> uuid.UUID:
        """A random identifier, for logs."""

    @property
    def state(self) -> State:
        """Where it stands."""

    @property
    def latency(self) -> float:
        """Seconds that the last answered ping took; 0.0 before the first."""

    @property
    def write_buffer_size(self) -> int:
        """Bytes that were sent and that the operating system has not taken yet, wherever they wait."""

    @property
    def write_paused(self) -> bool:
        """Whether the client reads too slowly: a sender that can wait should :meth:`drain` now."""

    def send(self, message: Message) -> None:
        """Send a message. Writes at once; wait with :meth:`drain` while :attr:`write_paused`.

        Raises ConnectionClosed unless the state is OPEN, TypeError for what is no message. A client that
        has left more than ``max_send_buffer`` bytes unread is closed (1013), which raises ConnectionClosed too.
        """

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message, never waiting; whether it was sent.

        False if the connection is not open, or has just been closed (1013) because its client left more than
        ``max_send_buffer`` bytes unread. ``prepared`` must come from the same listener.
        """

    async def drain(self) -> None:
        """Wait until the client has caught up. Raises ConnectionClosed if the connection ends meanwhile."""

    def ping(self, payload: bytes | None = None) -> asyncio.Future[float]:
        """Send a ping; the future gives the seconds until its answer, or raises ConnectionClosed.

        ``payload`` is random if not given; over 125 bytes it is a ValueError (RFC 6455, 5.5). Raises ConnectionClosed
        unless the state is OPEN.
        """

    def resume_delivery(self) -> None:
        """Go on after :meth:`Receiver.message` or :meth:`Receiver.end` returned False. Harmless at other times."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake, at most ``close_timeout`` long. Harmless if it has begun already.

        No message is delivered from then on. The transport reads on and drops what comes until the client has sent its
        close frame or the end of its data; if it has done so already, the connection is closed at once.

        Raises ValueError for a code that may not be sent (RFC 6455, 7.4) or a reason over 123 bytes.
        """

    def abort(self) -> None:
        """Drop the connection at once, without a close frame and without sending what is buffered.

        From then on the state is not OPEN and no message is delivered. Harmless if the connection is gone already.
        """

    async def wait_closed(self) -> Closed:
        """Wait until the connection is gone and tell how it ended."""


# Listening -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compression:
    """How permessage-deflate is offered (RFC 7692)."""

    #: Largest window, as a power of two, for either direction; a client may ask for a smaller one.
    window_bits: int = 12
    #: zlib's memLevel.
    memory_level: int = 5
    #: Smaller messages, in bytes, are sent as they are.
    threshold: int = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """What a transport enforces. Sizes in bytes, times in seconds; the defaults are the settings' defaults."""

    #: Largest message, after inflation; a larger one is closed with 1009.
    max_size: int = 1024 * 1024
    #: Empty fragments of one message; more are closed with 1009. Other fragments are bounded by ``max_size``.
    max_fragments: int = 1024
    #: What a client may leave unread; over it the connection is closed with 1013.
    max_send_buffer: int = 4 * 1024 * 1024
    #: For the TLS handshake, the request and the decision, together.
    open_timeout: float = 10.0
    #: For the close handshake, whichever side began it, including what is still buffered.
    close_timeout: float = 5.0
    #: From one ping to the next, whether the client is silent or not; 0 sends none.
    ping_interval: float = 20.0
    #: A client that has been silent for ``ping_interval`` and this long is closed with 1011. Any byte from the client
    #: ends its silence, and so do bytes that reach it and that were sent before the ping.
    ping_timeout: float = 20.0
    #: Lines and bytes of a request's head; more are answered with 431, or, so that a page can read it, by letting an
    #: upgrade in and closing it with 1008. The acceptor is not asked, but told of the latter: Acceptor.refused.
    max_headers: int = 128
    max_header_bytes: int = 16 * 1024
    #: Connections that are not let in: in the TLS handshake, in the upgrade, being refused. They count from the moment
    #: in which their socket is accepted. Over it, the address with most of them loses its oldest one without an answer.
    #: All addresses of an IPv6 /64 count as one. A connection that was let in is never closed for this.
    max_pending_connections: int = 1000
    #: None: permessage-deflate is not offered.
    compression: Compression | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen: on sockets that are there already, on a Unix socket, or on a host and port."""

    host: str | None = "127.0.0.1"
    port: int = 8765
    unix_path: Path | None = None
    #: Permissions, user id and group id of the Unix socket's file, set before any client can connect. None keeps what
    #: the system sets, and so does -1 for an id.
    unix_mode: int | None = None
    unix_owner: tuple[int, int] = (-1, -1)
    #: Let several processes listen on the port (SO_REUSEPORT).
    reuse_port: bool = False
    #: The context for wss://. The core may load a renewed certificate into it while the listener runs.
    tls: ssl.SSLContext | None = None
    backlog: int = 1024
    #: Sockets that listen already, such as those that systemd passes on. The transport binds nothing then; it owns the
    #: sockets, closes them in the end and leaves the file of a Unix socket in place.
    sockets: tuple[socket.socket, ...] = ()


class Listener(Protocol):
    """A transport that listens."""

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, with the port that was picked for port 0. Empty on a Unix socket."""

    def prepare(self, message: Message) -> Prepared:
        """Encode a message once, to be sent to any number of this listener's connections."""

    def stop_accepting(self) -> None:
        """Take no further connections, release the port, drop who is still in the upgrade."""

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """:meth:`stop_accepting`, close every connection and wait until all are gone: ``close_timeout`` at most."""


class Transport(Protocol):
    """What the provider's factory makes."""

    async def listen(self, endpoint: Endpoint, acceptor: Acceptor, limits: Limits) -> Listener:
        """Start listening. Raises OSError where the system refuses the address."""
