"""The transport: one request, one answer, over a pooled connection."""

from __future__ import annotations

import http.client
import os
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from urllib3.connection import ProxyConfig
from urllib3.util import SKIP_HEADER, parse_url

from zcli_core.contracts.http import HttpRequest, RawResponse, sooner
from zcli_core.contracts.http_proxies import Proxy, proxy_for
from zcli_urllib3.answers import header_fields, may_be_reused, read_body
from zcli_urllib3.connections import PlainConnection, SecureConnection
from zcli_urllib3.failures import classify
from zcli_urllib3.pool import Connection, ConnectionPool
from zcli_urllib3.tls import TlsContexts

if TYPE_CHECKING:
    from zcli_core.config.sections import Http

# What urllib3 and http.client would add of their own; a request without them was meant to be so.
_NOT_TO_BE_ADDED = ("accept-encoding", "user-agent")

# A request that may be sent again on its own (RFC 9110, section 9.2.2) when the server closed an idle connection.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class _Place(NamedTuple):
    """Where connections lead: those of one place are interchangeable."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None

    @property
    def peer(self) -> str:
        """Who is at the other end, for messages."""
        if self.proxy is not None and self.scheme == "http":
            return f"the proxy {self.proxy.host}:{self.proxy.port}"
        return f"{self.host}:{self.port}"


class _StaleConnection(Exception):  # noqa: N818 - never leaves this module
    """The server had closed the kept connection, and did nothing with the request."""


class Urllib3Transport:
    """Implements :class:`zcli_core.contracts.http.HttpTransport` with urllib3's connections.

    urllib3's pools are not used: they time out single operations where a call has one deadline, warn where more
    threads than connections is no fault, and cost more than the connection itself.
    """

    content_codings = ("gzip", "deflate")

    def __init__(self, settings: Http) -> None:
        """Raises ssl.SSLError or OSError if ``http.ca_file``, ``client_cert`` or ``client_key`` cannot be used."""
        self._trust_env = settings.trust_env
        self._tls = TlsContexts(settings)
        self._pool = ConnectionPool(settings.pool_size)
        # Also at the end of a program that closes nothing.
        self._finalizer = weakref.finalize(self, self._pool.close)
        _transports.add(self)

    def exchange(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """See :meth:`zcli_core.contracts.http.HttpTransport.exchange`."""
        url = request.url
        place = _Place(url.scheme, url.host, url.port, proxy_for(url) if self._trust_env else None)
        kept = self._pool.take(place)
        if kept is not None:
            try:
                return self._converse(kept, place, request, deadline, max_bytes, is_kept=True)
            except _StaleConnection:
                pass
        return self._converse(self._new_connection(place), place, request, deadline, max_bytes)

    def close(self) -> None:
        """Close every connection; those in use are closed when their answer is complete."""
        self._finalizer()

    def after_fork(self) -> None:
        """In the child after a fork: begin without connections."""
        self._pool.after_fork()
        self._tls.after_fork()

    def _new_connection(self, place: _Place) -> Connection:
        proxy = place.proxy
        if proxy is None:
            if place.scheme == "http":
                return PlainConnection(place.host, place.port)
            return SecureConnection(place.host, place.port, self._tls.for_connection())
        if place.scheme == "http":
            if proxy.scheme == "http":
                return PlainConnection(proxy.host, proxy.port, proxied=True)
            return SecureConnection(proxy.host, proxy.port, self._tls.for_connection(), proxied=True)
        return self._tunnel(place, proxy)

    def _tunnel(self, place: _Place, proxy: Proxy) -> SecureConnection:
        connection = SecureConnection(
            proxy.host,
            proxy.port,
            self._tls.for_connection(),
            proxied=True,
            proxy=parse_url(f"{proxy.scheme}://proxy"),
            proxy_config=ProxyConfig(self._tls.for_connection(), False, None, None),
        )
        headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
        connection.set_tunnel(place.host, place.port, headers, scheme=proxy.scheme)
        return connection

    def _converse(
        self,
        connection: Connection,
        place: _Place,
        request: HttpRequest,
        deadline: float,
        max_bytes: int,
        is_kept: bool = False,
    ) -> RawResponse:
        peer = place.peer
        doing = "sending the request" if is_kept else f"connecting to {peer}"
        held: Any = connection.sock
        answer: http.client.HTTPResponse | None = None
        body = request.body if request.body is None or isinstance(request.body, bytes) else _Source(request.body)
        try:
            if not is_kept:
                connection.begin(sooner(deadline, request.connect_timeout))
                connection.connect()
                doing = "sending the request"
            deadline = sooner(deadline, request.read_timeout)
            connection.begin(deadline)
            _send(connection, place, request, body)
            doing = "waiting for the answer"
            answer = connection.receive()
            doing = "reading the body"
            fields = header_fields(answer)
            content = read_body(answer, max_bytes, deadline)
        except BaseException as error:
            _close(connection, answer)
            if isinstance(body, _Source) and error is body.error:
                raise
            failure = classify(error, peer, doing)
            if failure is None or failure is error:
                raise
            if is_kept and not held.received and failure.kind == "reset" and _may_repeat(request):
                raise _StaleConnection from error
            raise failure from error
        if may_be_reused(answer) and connection.sock is not None:
            self._pool.give_back(place, connection)
        else:
            _close(connection, answer)
        return RawResponse(answer.status, answer.reason, fields, content)


# A fork handler cannot be taken back, so there is one for all transports, and it does not keep them alive.
_transports: weakref.WeakSet[Urllib3Transport] = weakref.WeakSet()


def _after_fork() -> None:
    for transport in list(_transports):
        transport.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _close(connection: Connection, answer: http.client.HTTPResponse | None) -> None:
    # An answer that ends with its connection keeps the socket open by itself.
    if answer is not None:
        answer.close()
    connection.close()


class _Source:
    """A body that is read while it is sent. What that raises is the caller's, and no failure of the network."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._blocks
        except Exception as error:
            self.error = error
            raise


def _send(connection: Connection, place: _Place, request: HttpRequest, body: bytes | _Source | None) -> None:
    headers, target = request.headers, request.url.target
    if place.proxy is not None and place.scheme == "http":
        target = request.url.absolute_form
        if place.proxy.authorization:
            headers = headers.copy()
            headers["Proxy-Authorization"] = place.proxy.authorization
    for name in _NOT_TO_BE_ADDED:
        if name not in headers:
            headers = headers.copy()
            headers[name] = SKIP_HEADER
    try:
        connection.request(request.method, target, body, headers)
    except ConnectionError as error:
        # The server may have answered early, "413" for example, and closed its side: its answer can still be read.
        if connection.sock is None or (isinstance(body, _Source) and error is body.error):
            raise


def _may_repeat(request: HttpRequest) -> bool:
    return request.method in _IDEMPOTENT and (request.body is None or isinstance(request.body, bytes))
