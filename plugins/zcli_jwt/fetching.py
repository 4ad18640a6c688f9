"""Fetching a key set over HTTP: one answer, of a bounded size, within a bounded time, from that address and no other.

It trusts whom zCLI's HTTP client trusts (``http.ca_file``, else the system's authorities), and over https it takes
the environment's proxies unless ``http.trust_env`` is off.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from zcli_core.net.tls import client_context
from zcli_jwt.keys import MAX_JWKS_BYTES, InvalidKey

if TYPE_CHECKING:
    from zcli_core.config import Config

_PIECE = 16 * 1024


def fetch(url: str, config: Config, timeout: float) -> bytes:
    """The body of the answer to a GET.

    A redirect is not followed: keys are taken from where the configuration says.

    :raises InvalidKey: there is none, with the cause.
    """
    deadline = _Deadline(timeout)
    try:
        with deadline, _opener(url, config, deadline).open(url, timeout=timeout) as response:
            data = _read(response)
    except urllib.error.HTTPError as error:
        error.close()
        raise InvalidKey(f"it was answered with the status {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if deadline.passed:
            raise InvalidKey(f"it did not come within {timeout:g} s") from None
        raise InvalidKey(_describe(error)) from None
    if deadline.passed:  # a body whose length nobody announced looks complete wherever it is cut off
        raise InvalidKey(f"it did not come within {timeout:g} s")
    return data


def _read(response: Any) -> bytes:
    data = b""
    while piece := response.read(_PIECE):
        data += piece
        if len(data) > MAX_JWKS_BYTES:
            raise InvalidKey(f"it has more than {MAX_JWKS_BYTES} bytes")
    if response.length:  # fewer bytes than were announced: read(n) does not complain
        raise InvalidKey("it ended too early")
    return data


def _describe(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(error, urllib.error.URLError) and isinstance(reason, Exception) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its server's certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, TimeoutError):
        return "its server does not answer"
    if isinstance(cause, OSError) and cause.strerror:
        return f"its server cannot be reached: {cause.strerror}"
    if isinstance(cause, OSError) and str(cause).startswith("Tunnel connection failed"):
        return "the proxy does not let us through to its server"
    return f"its server does not answer as it should ({type(cause).__name__})"


# The parts of urllib ---------------------------------------------------------------------------------------------


class _Deadline:
    """Ends what reads from a socket when the time is over: a timeout of urllib's begins anew with each byte."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._ends

    def watch(self, connected: socket.socket) -> None:
        """Shut this one down in time."""
        with self._lock:
            self._socket = connected
        if self.passed:
            self._end()

    def _end(self) -> None:
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    # Not TLS's own way, which would wait for the other side.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._socket = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None  # the answer is then an HTTPError


def _opener(url: str, config: Config, deadline: _Deadline) -> urllib.request.OpenerDirector:
    settings = config.http
    handlers: list[Any] = [_NoRedirect()]
    if url.lower().startswith("https:"):
        proxies: Any = None if settings.trust_env else {}  # None: the environment's
        handlers += [urllib.request.ProxyHandler(proxies), _https(_tls(settings.ca_file), deadline)]
    else:
        handlers.append(_http(deadline))  # this machine, which no proxy can reach for us
    opener = urllib.request.OpenerDirector()
    for handler in (*handlers, urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "zcli-jwt"), ("Accept", "application/jwk-set+json, application/json")]
    return opener


def _http(deadline: _Deadline) -> urllib.request.HTTPHandler:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, request)

    return Handler()


def _https(context: ssl.SSLContext, deadline: _Deadline) -> urllib.request.HTTPSHandler:
    class Connection(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    class Handler(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, request, context=context)

    return Handler()


def _tls(ca_file: Any) -> ssl.SSLContext:
    try:
        return client_context(ca_file)
    except OSError as error:
        raise InvalidKey(f"http.ca_file ({ca_file}) cannot be used: {error.strerror}") from None
