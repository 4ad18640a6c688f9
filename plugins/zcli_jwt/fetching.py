"""Fetching a key set over HTTP: one response, of limited size, in limited time, without redirects.

It trusts the same certificate authorities as zCLI's HTTP client (``http.ca_file``, or else the system's). Over https it
uses the environment's proxies, unless ``http.trust_env`` is off.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from zcli_core.http.contract import TransportFailure, Url
from zcli_core.http.parts.proxies import proxy_for
from zcli_core.net.client_tls import client_context
from zcli_jwt.keys import MAX_JWKS_BYTES, InvalidKey

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.config.sections import Http

_READ_SIZE = 16 * 1024
_HEADERS = {"User-Agent": "zcli-jwt", "Accept": "application/jwk-set+json, application/json"}


def fetch(url: str, config: Config, timeout: float) -> bytes:
    """Return the body of the response to a GET.

    A redirect is an error, because keys are only accepted from the configured address.

    Args:
        url: The address, as ``jwt.jwks_url`` allows it.
        config: The configuration, for the section ``http``.
        timeout: Seconds for everything together.

    Raises:
        InvalidKey: There is no such response; the message says why.
    """
    parts = urlsplit(url)
    connection = _make_connection(parts, config.http, timeout)
    deadline = _Deadline(connection, timeout)
    try:
        with deadline:
            deadline.connect()
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers=_HEADERS)
            with connection.getresponse() as response:
                if response.status != http.HTTPStatus.OK:
                    raise InvalidKey(f"the server responded with status {response.status}")
                data = _read(response)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if not deadline.has_passed:
            raise InvalidKey(_describe(error)) from None
    finally:
        connection.close()
    if deadline.has_passed:  # a body of unknown length looks complete wherever it is cut off
        raise InvalidKey(f"not received within {timeout:g} s")
    return data


def _make_connection(parts: SplitResult, settings: Http, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme.lower() == "http":  # an address of this machine, which a proxy cannot reach
        return http.client.HTTPConnection(host, parts.port or 80, timeout=timeout)
    try:
        context = client_context(settings.ca_file)
    except OSError as error:
        raise InvalidKey(f"http.ca_file ({settings.ca_file}) cannot be used: {error.strerror}") from None
    port = parts.port or 443
    try:
        proxy = proxy_for(Url("https", host, port, parts.path)) if settings.trust_env else None
    except TransportFailure as failure:
        raise InvalidKey(failure.message) from None
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    if proxy.scheme != "http":
        raise InvalidKey(f"the proxy for it must be an http:// address, got {proxy.scheme}://{proxy.host}:{proxy.port}")
    connection = http.client.HTTPSConnection(proxy.host, proxy.port, timeout=timeout, context=context)
    connection.set_tunnel(host, port, {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {})
    return connection


class _Deadline:
    """Shuts a connection down when the time is over. The timeout of a socket starts again with each byte."""

    def __init__(self, connection: http.client.HTTPConnection, seconds: float) -> None:
        self._connection = connection
        self._socket: socket.socket | None = None
        self._ends = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._shut_down)
        self._timer.daemon = True

    @property
    def has_passed(self) -> bool:
        return time.monotonic() >= self._ends

    def connect(self) -> None:
        """Connect. The response takes the socket from the connection, so it is kept here."""
        self._connection.connect()
        self._socket = self._connection.sock
        if self.has_passed:
            raise TimeoutError

    def _shut_down(self) -> None:
        sock = self._socket or self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS's own method would wait for the server

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _read(response: http.client.HTTPResponse) -> bytes:
    data = b""
    while piece := response.read(_READ_SIZE):
        data += piece
        if len(data) > MAX_JWKS_BYTES:
            raise InvalidKey(f"larger than {MAX_JWKS_BYTES} bytes")
    if response.length:  # read(n) does not report missing bytes
        raise InvalidKey("the response ended too early")
    return data


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "the server does not respond"
    if isinstance(error, OSError) and error.strerror:
        return f"the server cannot be reached: {error.strerror}"
    if isinstance(error, OSError) and str(error).startswith("Tunnel connection failed"):
        return "the proxy refused the connection to the server"
    return f"the server's response is invalid ({type(error).__name__})"
