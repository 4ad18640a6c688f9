"""The properties that a client's connection has in async and in plain handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from zcli_core.websocket.admission import Admission
    from zcli_core.websocket.contract import Address, Closed, Connection, Request, State


class ConnectionProperties:
    """Base class of :class:`ServerConnection` and :class:`BlockingConnection`."""

    __slots__ = ()

    #: The transport's side of the connection.
    _connection: Connection
    _admission: Admission

    @property
    def _closed(self) -> Closed | None:
        """How the connection ended; None before that."""
        raise NotImplementedError

    #: The rooms with the data of ``join()``; None for no room.
    _rooms: Mapping[str, Mapping[str, str]] | None

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that the client is in, in the order of joining. After the end, those that it was in."""
        return tuple(self._rooms or ())

    @property
    def request(self) -> Request:
        """The request that opened the connection: ``request.headers``, ``request.path``, ``request.query``."""
        return self._admission.request or self._connection.request

    @property
    def path(self) -> str:
        """The request's path, without the query."""
        return self.request.path

    @property
    def remote_address(self) -> Address:
        """The client's host and port, or None on a Unix socket.

        Behind a proxy of ``websocket.trusted_proxies`` it is the address that the proxy states. The port is 0 if the
        proxy states none.
        """
        return self.request.remote_address

    @property
    def local_address(self) -> Address:
        """The host and port that the client connected to, or None on a Unix socket."""
        return self.request.local_address

    @property
    def subprotocol(self) -> str | None:
        """The negotiated subprotocol, or None."""
        return self._connection.subprotocol

    @property
    def id(self) -> uuid.UUID:
        """A random identifier, for logs."""
        return self._connection.id

    @property
    def latency(self) -> float:
        """Round-trip time of the last ping, in seconds; 0.0 before the first pong."""
        return self._connection.latency

    @property
    def state(self) -> State:
        """Whether the connection is open, closing or closed."""
        return self._connection.state

    @property
    def close_code(self) -> int | None:
        """The close code of the side that closed first, 1006 without a close frame; None before the end."""
        return self._closed.code if self._closed else None

    @property
    def close_reason(self) -> str | None:
        """The reason that came with the close code; None before the end."""
        return self._closed.reason if self._closed else None
