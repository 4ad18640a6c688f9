"""A transport with kept connections: it chooses the connection of a request, and decides when to send it again."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from zcli_core.http.contract import IDEMPOTENT, HttpRequest, RawResponse, TransportFailure, Url
from zcli_core.http.parts.codings import CONTENT_CODINGS
from zcli_core.http.parts.proxies import Proxy, proxy_for
from zcli_core.system.forks import call_after_fork

if TYPE_CHECKING:
    from zcli_core.config.sections import Http

#: Seconds after which an idle connection is not used again, because routers and firewalls drop it without notice.
LONGEST_IDLE = 60.0


def may_repeat(request: HttpRequest) -> bool:
    """Return whether a request that may have reached the server can be sent again."""
    return request.method in IDEMPOTENT and (request.body is None or isinstance(request.body, bytes))


class PoolKey(NamedTuple):
    """What distinguishes connections: those with the same key can serve the same requests."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None
    #: Whether the server (never the proxy) sees the client certificate if it asks for one.
    shows_certificate: bool = False

    @classmethod
    def of(cls, url: Url, trust_env: bool, shows_certificate: bool = False) -> PoolKey:
        """Return the key for a URL.

        Raises:
            TransportFailure: ``proxy``: the environment names a proxy that cannot be used.
        """
        shows_certificate = shows_certificate and url.scheme == "https"
        return cls(url.scheme, url.host, url.port, proxy_for(url) if trust_env else None, shows_certificate)

    @property
    def is_forwarded(self) -> bool:
        """Whether the request is sent to a proxy that forwards it, instead of through a tunnel."""
        return self.proxy is not None and self.scheme == "http"

    @property
    def authority(self) -> str:
        """Host and port in the form of CONNECT and of messages."""
        return f"[{self.host.partition('%')[0]}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def dialled(self) -> str:
        """Host and port of the server or proxy that is connected to, for messages."""
        return self.authority if self.proxy is None else f"{self.proxy.host}:{self.proxy.port}"

    @property
    def peer(self) -> str:
        """The server or proxy that responds, for messages."""
        return f"the proxy {self.dialled}" if self.is_forwarded else self.authority


class Connection(Protocol):
    """A connection of one transport. It serves one request at a time, and is closed after any error."""

    @property
    def may_be_reused(self) -> bool:
        """Whether another request can be sent on it after the last response."""
        ...

    @property
    def was_stale(self) -> bool:
        """Whether the last request failed because the server closed the kept connection before a byte of a response."""
        ...

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """As :meth:`zcli_core.http.contract.HttpTransport.send`."""
        ...

    def is_usable(self, request: HttpRequest) -> bool:
        """Return whether an idle connection seems to be intact. This request will be sent next."""
        ...

    def close(self) -> None:
        """Close it."""
        ...

    def abandon(self) -> None:
        """Drop the parent's connection in the child after a fork, without sending anything to the peer."""
        ...


C = TypeVar("C", bound=Connection)


class ConnectionPool(Generic[C]):
    """Idle connections by their key. The one used last is used next, so that surplus connections become old.

    No thread waits for a connection: any number may be in use. At most ``size`` idle ones are kept for each key, and at
    most the larger of 256 and twice ``size`` in all; others are closed.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._total = max(256, 2 * size)
        self._closed = False
        self._start_empty()
        call_after_fork(self)

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[PoolKey, list[tuple[C, float]]] = OrderedDict()
        self._count = 0

    def take(self, key: PoolKey, request: HttpRequest) -> C | None:
        """Return an idle connection that is still usable, or None."""
        while True:
            with self._lock:
                if key not in self._idle:
                    return None
                connection, since = self._pop(key, -1)
            if time.monotonic() - since < LONGEST_IDLE and connection.is_usable(request):
                return connection
            connection.close()

    def give_back(self, key: PoolKey, connection: C) -> None:
        """Keep a connection for the next request."""
        surplus: C | None = connection
        with self._lock:
            if not self._closed:
                connections = self._idle.setdefault(key, [])
                self._idle.move_to_end(key)
                if len(connections) < self._size:
                    connections.append((connection, time.monotonic()))
                    self._count += 1
                    surplus = self._pop(next(iter(self._idle)), 0)[0] if self._count > self._total else None
        if surplus is not None:
            surplus.close()

    def _pop(self, key: PoolKey, place: int) -> tuple[C, float]:
        """Remove a connection and return it. A key without connections is removed too, to bound the memory."""
        connections = self._idle[key]
        found = connections.pop(place)
        self._count -= 1
        if not connections:
            del self._idle[key]
        return found

    def close(self) -> None:
        """Close the idle connections now, and those in use when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, OrderedDict()
            self._count = 0
        for connections in idle.values():
            for connection, _ in connections:
                connection.close()

    def _after_fork(self) -> None:
        """Start without connections in the child after a fork."""
        idle = self._idle
        self._start_empty()
        for connections in idle.values():
            for connection, _ in connections:
                connection.abandon()


class PooledTransport(Generic[C]):
    """Implements :class:`zcli_core.http.contract.HttpTransport` with connections that ``connect`` makes."""

    #: The content codings that are decoded, the best first.
    content_codings = CONTENT_CODINGS

    def __init__(self, settings: Http, connect: Callable[[PoolKey], C]) -> None:
        self._trust_env = settings.trust_env
        self._has_certificate = settings.client_cert is not None
        self._connect = connect
        self._pool: ConnectionPool[C] = ConnectionPool(settings.pool_size)
        # Closes the connections at the end of a program that does not call close().
        self._finalizer = weakref.finalize(self, self._pool.close)

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """See :meth:`zcli_core.http.contract.HttpTransport.send`."""
        key = PoolKey.of(request.url, self._trust_env, self._has_certificate and request.shows_certificate)
        kept = self._pool.take(key, request)
        if kept is not None:
            try:
                return self._send_on(kept, key, request, deadline, max_bytes)
            except TransportFailure:
                if not (kept.was_stale and may_repeat(request)):
                    raise
        return self._send_on(self._connect(key), key, request, deadline, max_bytes)

    def _send_on(
        self, connection: C, key: PoolKey, request: HttpRequest, deadline: float, max_bytes: int
    ) -> RawResponse:
        try:
            raw = connection.send(request, deadline, max_bytes)
        except BaseException:
            # Also after the exception of a signal handler: the next request would read the rest of this response.
            connection.close()
            raise
        if connection.may_be_reused:
            self._pool.give_back(key, connection)
        else:
            connection.close()
        return raw

    def close(self) -> None:
        """Close every connection; a connection in use is closed after its response."""
        self._finalizer()
