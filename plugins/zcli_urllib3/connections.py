"""urllib3's connections, held to a deadline."""

from __future__ import annotations

import http.client
import io
import math
import re
import ssl
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection

from zcli_core.contracts.http import TransportFailure
from zcli_urllib3.dial import dial
from zcli_urllib3.failures import classify
from zcli_urllib3.sockets import DeadlineSocket, DeadlineTls

_LONGEST_LINE = 64 * 1024
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?\r?\n")


class Answer(http.client.HTTPResponse):
    """An answer from which every interim one was skipped, not only 100 (RFC 9110, section 15.2), in which headers have
    an end, and every chunk has a size."""

    def begin(self) -> None:
        """Read status and headers. http.client takes the end of the connection for the end of the headers too."""
        whole = self.fp
        self.fp = cast("io.BufferedReader", _Head(whole))
        try:
            super().begin()
        finally:
            if self.fp is not None:  # it is where this was no answer at all
                self.fp = whole

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status <= 101 or status >= 200:
                return version, status, reason
            http.client.parse_headers(self.fp)

    def _read_next_chunk_size(self) -> int:
        """RFC 9112, section 7.1. http.client takes ``-1`` for a size too, and then reads without end."""
        line = self.fp.readline(_LONGEST_LINE)
        if not line:
            raise http.client.IncompleteRead(b"")
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise http.client.HTTPException("a chunk does not begin with its size")
        return int(size[1], 16)


class _Head:
    """The lines of a head, as http.client reads them. After the first, there is always another."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader
        self._has_begun = False

    def readline(self, limit: int = -1) -> bytes:
        line = self._reader.readline(limit)
        if not line and self._has_begun:
            raise http.client.HTTPException("the connection ended within its headers")
        self._has_begun = True
        return line

    def close(self) -> None:
        self._reader.close()


class PlainConnection(HTTPConnection):
    """A connection without TLS: to a server, or to a proxy that is given whole URLs."""

    response_class = Answer

    def __init__(self, host: str, port: int, proxied: bool = False) -> None:
        super().__init__(host, port)
        self.deadline = math.inf
        self._proxied = proxied

    def begin(self, deadline: float) -> None:
        """Another exchange begins, which has until ``deadline``."""
        self.deadline = deadline
        self.timeout = 1.0  # never None, for which urllib3 would put the socket into blocking mode
        _hold(self.sock, deadline)

    def receive(self) -> http.client.HTTPResponse:
        """The beginning of the answer: status and headers. The body is still to be read."""
        return http.client.HTTPConnection.getresponse(self)

    def _new_conn(self) -> DeadlineSocket:
        return _dial(self.host, self.port, self.deadline, self._proxied)


class SecureConnection(HTTPSConnection):
    """A connection with TLS: to a server, through a proxy's tunnel to a server, or to a proxy."""

    response_class = Answer

    def __init__(self, host: str, port: int, context: ssl.SSLContext, proxied: bool = False, **options: Any) -> None:
        super().__init__(host, port, ssl_context=context, **options)
        self.deadline = math.inf
        self._proxied = proxied

    def begin(self, deadline: float) -> None:
        """Another exchange begins, which has until ``deadline``."""
        self.deadline = deadline
        self.timeout = 1.0
        _hold(self.sock, deadline)

    def receive(self) -> http.client.HTTPResponse:
        """The beginning of the answer: status and headers."""
        return http.client.HTTPConnection.getresponse(self)

    def connect(self) -> None:
        """Connect, open the tunnel if there is a proxy, and make the connection secure."""
        try:
            super().connect()
        except ssl.SSLError as error:
            if self._proxied and self._tunnel_host is None:
                raise self._proxy_failure(error) from error
            raise
        self.sock: Any = DeadlineTls(self.sock, self.deadline)

    def _new_conn(self) -> DeadlineSocket:
        return _dial(self.host, self.port, self.deadline, self._proxied)

    def _connect_tls_proxy(self, hostname: str, sock: Any) -> Any:
        try:
            secure = super()._connect_tls_proxy(hostname, sock)
        except ssl.SSLError as error:
            raise self._proxy_failure(error) from error
        return DeadlineTls(secure, self.deadline)

    def _proxy_failure(self, error: ssl.SSLError) -> TransportFailure:
        failure = classify(error, f"the proxy {self.host}:{self.port}", "connecting")
        return TransportFailure("proxy", failure.message if failure else str(error))

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            refusal = str(error).removeprefix("Tunnel connection failed: ")[:120]
            raise TransportFailure(
                "proxy", f"the proxy {self.host}:{self.port} opened no tunnel to {self._tunnel_host}: {refusal}"
            ) from error


def _hold(sock: Any, deadline: float) -> None:
    if sock is not None:
        sock.deadline = deadline
        sock.received = 0


def _dial(host: str, port: int, deadline: float, proxied: bool) -> DeadlineSocket:
    try:
        return dial(host, port, deadline)
    except TransportFailure as failure:
        if proxied and failure.kind != "timeout":
            raise TransportFailure("proxy", f"no connection to the proxy: {failure.message}") from failure
        raise
