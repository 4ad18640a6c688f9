"""One HTTP/1.1 connection: sends a request and reads its response."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator

from zcli_core.errors import raised_by_signal
from zcli_core.http.contract import MAX_HEAD_BYTES, HttpRequest, RawResponse, TransportFailure, sooner
from zcli_core.http.parts import failures
from zcli_core.http.parts.bodies import METHODS_WITH_BODY, BodyReceiver, BodySource
from zcli_core.http.parts.heads import Framing, Head, check_trailer, framing_of, parse_head
from zcli_core.http.parts.transport import PoolKey
from zcli_core.net import connecting
from zcli_urllib3.stream import Stream, StreamEndError
from zcli_urllib3.tls import TlsContexts

# A body up to this size, in bytes, is sent together with the head.
_SMALL = 64 * 1024
_BLOCK = 64 * 1024

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?\r?\n")
_LINE_ENDS = (b"\r\n", b"\n")
_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Http1Connection:
    """Implements :class:`zcli_core.http.parts.transport.Connection`."""

    def __init__(self, key: PoolKey, tls: TlsContexts, max_headers: int) -> None:
        self._key = key
        self._tls = tls
        self._max_headers = max_headers
        self._stream: Stream | None = None
        # For messages: the current activity, the peer, and whether the peer is the proxy.
        self._doing = ""
        self._peer = key.peer
        self._is_at_proxy = False
        self.may_be_reused = False
        self.was_stale = False

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Send a request and read its response. Connect first if there is no connection."""
        kept = self._stream
        body = request.body
        source = None if body is None or isinstance(body, bytes) else BodySource(request, body)
        self._doing = "sending the request"
        try:
            stream = kept or self._open(sooner(deadline, request.connect_timeout))
            deadline = sooner(deadline, request.read_timeout)
            stream.begin(deadline)
            return self._send_and_read(stream, request, source, max_bytes, deadline)
        except BaseException as error:
            if source is not None and error is source.error:
                raise
            failure = self._failure(error)
            if failure is None:
                raise
            self.was_stale = kept is not None and failure.kind == "reset" and not kept.has_received
            if failure is error:
                raise
            raise failure from error

    def is_usable(self, request: HttpRequest) -> bool:
        """Return whether the connection seems intact. Data on an idle one is its end or an unexpected response."""
        try:
            return self._stream is not None and not self._stream.has_input()
        except OSError as error:
            if raised_by_signal(error):
                raise
            return False

    def close(self) -> None:
        """Close it."""
        if self._stream is not None:
            self._stream.close()

    def abandon(self) -> None:
        """Close the socket in the child after a fork. This sends nothing to the peer."""
        self.close()

    # --- connecting ---

    def _open(self, deadline: float) -> Stream:
        key, proxy = self._key, self._key.proxy
        self._is_at_proxy = proxy is not None
        if proxy is None:
            stream = self._connect(key.host, key.port, deadline)
        else:
            self._peer = f"the proxy {key.dialled}"
            stream = self._connect(proxy.host, proxy.port, deadline)
            if proxy.scheme == "https":
                stream.encrypt(self._tls.for_connection(), proxy.host)  # a proxy never sees the client certificate
            if not key.is_forwarded:
                self._open_tunnel(stream, proxy.authorization)
                self._peer = key.peer
            self._is_at_proxy = False
        if key.scheme == "https":
            self._doing = f"connecting to {self._peer}"
            stream.encrypt(self._tls.for_connection(shows_certificate=key.shows_certificate), key.host)
        return stream

    def _connect(self, host: str, port: int, deadline: float) -> Stream:
        self._doing = f"looking up the address of {host}"
        addresses = connecting.resolve(host, port, deadline)
        self._doing = f"connecting to {self._peer}"
        self._stream = Stream(connecting.connect(addresses, deadline), deadline)
        return self._stream

    def _open_tunnel(self, stream: Stream, authorization: str | None) -> None:
        """Send CONNECT to the proxy (RFC 9110, section 9.3.6)."""
        target = self._key.authority
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if authorization:
            lines.append(f"Proxy-Authorization: {authorization}")
        try:
            stream.send(_encoded(lines))
            head = self._read_head(stream)
            while head.is_interim:
                head = self._read_head(stream)
        except TransportFailure as failure:
            raise failures.no_tunnel(self._key.dialled, self._key.host, failure.message) from failure
        except _CLOSED as error:
            if raised_by_signal(error):
                raise
            raise failures.no_tunnel(self._key.dialled, self._key.host, "it closed the connection") from error
        if not 200 <= head.status < 300:
            raise failures.no_tunnel(self._key.dialled, self._key.host, f"{head.status} {head.reason}")

    # --- a request and its response ---

    def _send_and_read(
        self, stream: Stream, request: HttpRequest, source: BodySource | None, max_bytes: int, deadline: float
    ) -> RawResponse:
        self._doing = "sending the request"
        upload = _Upload(stream, self._pieces(request, source))
        upload.continue_sending()
        self._doing = "waiting for the response"
        head = self._read_head(stream)
        while head.is_interim:
            upload.continue_sending()
            head = self._read_head(stream)
        if head.status < 300 and not upload.is_complete:
            stream.continue_sending = upload.continue_sending  # the server may read on before it sends the body
        self._doing = "reading the body"
        framing = framing_of(head, request.method)
        receiver = BodyReceiver(framing, max_bytes, deadline)
        try:
            for block in self._blocks(stream, framing):
                receiver.add(block)
        except StreamEndError:
            raise failures.body_cut_off(self._peer) from None
        stream.continue_sending = None
        self.may_be_reused = framing.may_be_reused and upload.is_complete
        return RawResponse(head.status, head.reason, head.fields, receiver.finish())

    def _pieces(self, request: HttpRequest, source: BodySource | None) -> Iterator[bytes]:
        """Yield the pieces of the request as they are sent."""
        body = request.body
        head = self._request_head(request, source)
        if source is None:
            content = body if isinstance(body, bytes) else b""
            if len(content) <= _SMALL:
                yield head + content
            else:
                yield head
                yield content
            return
        yield head
        for block in source:
            yield block if source.length is not None else b"%x\r\n%s\r\n" % (len(block), block)
        if source.length is None:
            yield b"0\r\n\r\n"

    def _request_head(self, request: HttpRequest, source: BodySource | None) -> bytes:
        url, headers, proxy = request.url, request.headers, self._key.proxy
        target = url.absolute_form if self._key.is_forwarded else url.target
        lines = [f"{request.method} {target} HTTP/1.1"]
        if "host" not in headers:
            lines.append(f"Host: {url.authority}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if source is not None:
            if source.length is None and "transfer-encoding" not in headers:
                lines.append("Transfer-Encoding: chunked")
        elif "content-length" not in headers:
            if isinstance(request.body, bytes):
                lines.append(f"Content-Length: {len(request.body)}")
            elif request.method in METHODS_WITH_BODY:
                lines.append("Content-Length: 0")
        if proxy is not None and proxy.authorization and self._key.is_forwarded:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        return _encoded(lines)

    def _read_head(self, stream: Stream) -> Head:
        try:
            head = parse_head(stream.read_head(), self._max_headers)
        except StreamEndError:
            raise (failures.head_cut_off if stream.has_received else failures.no_response)(self._peer) from None
        if not head.version.startswith("HTTP/1."):
            raise failures.invalid(f"its version is {head.version}, but the request was HTTP/1.1")
        return head

    def _blocks(self, stream: Stream, framing: Framing) -> Iterator[bytes]:
        """Yield the body without its chunk framing. Raises StreamEndError if it ends early."""
        if framing.length is not None:
            yield from _exactly(stream, framing.length)
        elif framing.is_chunked:
            yield from _chunks(stream)
        else:
            try:
                while True:
                    yield stream.read(_BLOCK)
            except StreamEndError:
                return

    def _failure(self, error: BaseException) -> TransportFailure | None:
        """Return the failure for an error, or None if it is not an error of the network or the peer."""
        if raised_by_signal(error):
            return None
        if isinstance(error, TransportFailure):
            return error
        cause = error.cause if isinstance(error, connecting.NoConnectionError) else error
        if not isinstance(cause, OSError):
            return None
        failure = self._network_failure(cause)
        return failures.of_proxy(failure) if self._is_at_proxy else failure

    def _network_failure(self, error: OSError) -> TransportFailure:
        if isinstance(error, socket.gaierror):
            return failures.no_address(self._doing.rpartition(" ")[2], error.strerror)
        if isinstance(error, ssl.SSLError):
            if isinstance(error, _CLOSED) and not self._doing.startswith("connecting"):
                return failures.broken(self._peer, self._doing)
            return failures.insecure(self._peer, _tls_reason(error))
        return failures.network_failed(error, self._peer, self._doing)


class _Upload:
    """A request that is being sent."""

    __slots__ = ("_has_begun", "_pieces", "_rest", "_stream", "is_complete")

    def __init__(self, stream: Stream, pieces: Iterator[bytes]) -> None:
        self._stream = stream
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._has_begun = False
        self.is_complete = False

    def continue_sending(self) -> None:
        """Send until everything is sent, or the server has sent data or closed the connection.

        A server that closes the connection may have sent a response before, such as 413.
        """
        try:
            while True:
                if not self._rest:
                    piece = next(self._pieces, b"")
                    if not piece:
                        self.is_complete = True
                        return
                    self._rest = memoryview(piece)
                    if self._has_begun and self._stream.has_input():
                        return
                self._has_begun = True
                self._rest = self._rest[self._stream.send(self._rest) :]
                if self._rest:
                    return
        except _CLOSED as error:
            if raised_by_signal(error):
                raise


def _exactly(stream: Stream, size: int) -> Iterator[bytes]:
    while size:
        block = stream.read(size)
        size -= len(block)
        yield block


def _chunks(stream: Stream) -> Iterator[bytes]:
    """Yield the content of the chunks (RFC 9112, section 7.1). Trailers are checked and dropped."""
    while True:
        size = _CHUNK_SIZE.fullmatch(stream.read_line())
        if size is None:
            raise failures.invalid_chunk()
        length = int(size[1], 16)
        if not length:
            break
        yield from _exactly(stream, length)
        if stream.read_line() not in _LINE_ENDS:
            raise failures.invalid_chunk()
    left = MAX_HEAD_BYTES
    while (line := stream.read_line()) not in _LINE_ENDS:
        left -= len(line)
        if left < 0:
            raise failures.head_too_large()
        check_trailer(line)


def _encoded(lines: list[str]) -> bytes:
    head = "\r\n".join([*lines, "", ""])
    if head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1:
        raise ValueError("a line break in the method, the target or a header")
    return head.encode("latin-1")


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message or error}"
    return (error.reason or str(error)).lower().replace("_", " ")
