"""The contract's failure for each error of libcurl."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import pycurl

from zcli_core.http.contract import TransportFailure
from zcli_core.http.parts import failures
from zcli_core.http.parts.transport import PoolKey

# Error numbers of libcurl that pycurl has no names for.
_HTTP2_STREAM = 92
_TOO_LARGE = 100

_RESETS = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, getattr(errno, "WSAECONNRESET", errno.ECONNRESET))
_BREAKS = (pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING)
_TLS = {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_ISSUER_ERROR,
    pycurl.E_SSL_INVALIDCERTSTATUS,
    pycurl.E_USE_SSL_FAILED,
}
_PROTOCOL = {
    pycurl.E_UNSUPPORTED_PROTOCOL: "it does not begin with a status line",  # libcurl reads it as HTTP/0.9
    pycurl.E_FTP_WEIRD_SERVER_REPLY: None,
    pycurl.E_BAD_CONTENT_ENCODING: "its Transfer-Encoding is not supported",
    pycurl.E_HTTP2: None,
    _HTTP2_STREAM: None,
}


class CurlError(NamedTuple):
    """An error of a transfer, and how far the transfer had come.

    Attributes:
        code, text: libcurl's error number and message.
        errno: The system's error number, or 0.
        doing: A phrase such as "reading the body".
        is_request_sent: Whether libcurl had begun to send the request.
        has_response: Whether any data of the response was received.
        has_tunnel: Whether a proxy has opened the tunnel.
        refusal: The status and reason of a proxy that did not, or an empty string.
    """

    code: int
    text: str
    errno: int
    doing: str
    is_request_sent: bool
    has_response: bool
    has_tunnel: bool
    refusal: str


def failure_of(error: CurlError, key: PoolKey) -> TransportFailure:
    """Return the failure for an error of libcurl."""
    # ETIMEDOUT means that the network delivers nothing any more, not that the deadline passed.
    if error.code == pycurl.E_OPERATION_TIMEDOUT and error.errno != errno.ETIMEDOUT:
        return failures.timed_out(error.doing)
    if error.is_request_sent:
        return _after_request(error, key.peer)
    if key.proxy is None or error.has_tunnel:
        return _while_connecting(error, key.authority)
    if error.refusal:
        return failures.no_tunnel(key.dialled, key.host, error.refusal)
    if not key.is_forwarded and error.code in _BREAKS:
        return failures.no_tunnel(key.dialled, key.host, "it closed the connection")
    if error.code in _PROTOCOL:
        return failures.no_tunnel(key.dialled, key.host, failures.invalid(_PROTOCOL[error.code] or error.text).message)
    failure = _while_connecting(error, f"the proxy {key.dialled}")
    return failure if failure.kind == "transport" else failures.of_proxy(failure)


def _while_connecting(error: CurlError, peer: str) -> TransportFailure:
    """Return the failure of connecting to ``peer``."""
    if error.code in _TLS and error.errno not in _RESETS:
        return failures.insecure(peer, _tls_reason(error.text))
    if error.code in (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_RESOLVE_PROXY):
        return failures.no_address(peer.rpartition(":")[0])
    if error.code in (pycurl.E_COULDNT_CONNECT, pycurl.E_OPERATION_TIMEDOUT):
        if error.errno:
            return failures.network_failed(OSError(error.errno, os.strerror(error.errno)), peer, error.doing)
        return TransportFailure("unreachable", f"{peer} cannot be reached: {failures.one_line(error.text)}")
    if error.errno in _RESETS or error.code in _BREAKS:
        return failures.broken(peer, error.doing)
    return _broken(error)


def _after_request(error: CurlError, peer: str) -> TransportFailure:
    code = error.code
    if code == pycurl.E_PARTIAL_FILE:
        return failures.body_cut_off(peer)
    if code == pycurl.E_RECV_ERROR and "chunk" in error.text.lower():
        return failures.invalid_chunk()
    if code == pycurl.E_GOT_NOTHING and not error.has_response:
        return failures.no_response(peer)
    if code == pycurl.E_SEND_FAIL_REWIND:  # libcurl wanted to send the request again
        return TransportFailure(
            "reset", f"{peer} closed the kept connection during the request, whose body can be read only once"
        )
    if code == _TOO_LARGE or "too large response headers" in error.text.lower():
        return failures.head_too_large()
    if error.errno == errno.ETIMEDOUT:
        return failures.network_failed(OSError(error.errno, os.strerror(error.errno)), peer, error.doing)
    if code in _BREAKS or code in _TLS:
        return failures.broken(peer, error.doing)
    if code in _PROTOCOL:
        return failures.invalid(_PROTOCOL[code] or failures.one_line(error.text))
    return _broken(error)


def _broken(error: CurlError) -> TransportFailure:
    return TransportFailure("transport", f"libcurl failed while {error.doing}: {failures.one_line(error.text)}")


def _tls_reason(text: str) -> str:
    """Return the reason in libcurl's message, which quotes that of OpenSSL."""
    lowered = text.lower()
    if "verify result" in lowered or "certificate problem" in lowered or "subject name" in lowered:
        reason = text.removeprefix("SSL: ") if "subject" in lowered else text.rpartition(": ")[2]
        return f"its certificate was not accepted: {reason}"
    return text
