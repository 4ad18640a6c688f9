"""What went wrong, in the contract's words: libcurl has a number, a sentence and the system's error for it."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import pycurl

from zcli_core.http.contract import TransportFailure
from zcli_core.http.parts import failures
from zcli_core.http.parts.heads import MAX_HEAD_BYTES
from zcli_core.http.parts.transport import PoolKey

# libcurl's numbers that pycurl has no names for.
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
    pycurl.E_UNSUPPORTED_PROTOCOL: "it does not begin with a status",  # "HTTP/0.9" is what libcurl takes it for
    pycurl.E_FTP_WEIRD_SERVER_REPLY: None,
    pycurl.E_BAD_CONTENT_ENCODING: "its Transfer-Encoding is not known",
    pycurl.E_HTTP2: None,
    _HTTP2_STREAM: None,
}


class Trouble(NamedTuple):
    """How a transfer ended: libcurl's number and sentence, the system's error number, and how far it had come.

    ``doing`` is "reading the body" or the like, ``was_asked`` whether the request was being sent, ``has_begun`` whether
    anything of the response had come, ``has_tunnel`` whether a proxy has opened one, ``refusal`` what it said if not.
    """

    code: int
    text: str
    errno: int
    doing: str
    was_asked: bool
    has_begun: bool
    has_tunnel: bool
    refusal: str


def classify(trouble: Trouble, key: PoolKey) -> TransportFailure:
    """The failure that libcurl's error is."""
    # With ETIMEDOUT the network delivers nothing any more, and the deadline has not passed.
    if trouble.code == pycurl.E_OPERATION_TIMEDOUT and trouble.errno != errno.ETIMEDOUT:
        return failures.timed_out(trouble.doing)
    if trouble.was_asked:
        return _while_talking(trouble, key.peer)
    if key.proxy is None or trouble.has_tunnel:
        return _while_connecting(trouble, key.authority)
    if trouble.refusal:
        return failures.no_tunnel(key.dialled, key.host, trouble.refusal)
    if not key.is_forwarded and trouble.code in _BREAKS:
        return failures.no_tunnel(key.dialled, key.host, "it closed the connection")
    if trouble.code in _PROTOCOL:
        return failures.no_tunnel(
            key.dialled, key.host, failures.invalid(_PROTOCOL[trouble.code] or trouble.text).message
        )
    failure = _while_connecting(trouble, f"the proxy {key.dialled}")
    return failure if failure.kind == "transport" else failures.of_proxy(failure)


def _while_connecting(trouble: Trouble, peer: str) -> TransportFailure:
    """``peer`` is who was being connected to."""
    if trouble.code in _TLS and trouble.errno not in _RESETS:
        return failures.insecure(peer, _tls_reason(trouble.text))
    if trouble.code in (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_RESOLVE_PROXY):
        return failures.no_address(peer.rpartition(":")[0])
    if trouble.code in (pycurl.E_COULDNT_CONNECT, pycurl.E_OPERATION_TIMEDOUT):
        if trouble.errno:
            return failures.network_failed(OSError(trouble.errno, os.strerror(trouble.errno)), peer, trouble.doing)
        return TransportFailure("unreachable", f"{peer} cannot be reached: {failures.one_line(trouble.text)}")
    if trouble.errno in _RESETS or trouble.code in _BREAKS:
        return failures.broken(peer, trouble.doing)
    return _broken(trouble)


def _while_talking(trouble: Trouble, peer: str) -> TransportFailure:
    code = trouble.code
    if code == pycurl.E_PARTIAL_FILE:
        return failures.body_cut_off(peer)
    if code == pycurl.E_RECV_ERROR and "chunk" in trouble.text.lower():
        return failures.invalid_chunk()
    if code == pycurl.E_GOT_NOTHING and not trouble.has_begun:
        return failures.no_response(peer)
    if code == pycurl.E_SEND_FAIL_REWIND:  # libcurl would have sent the request again, and cannot
        return TransportFailure(
            "reset", f"{peer} closed the kept connection upon the request, whose body can be read only once"
        )
    if code == _TOO_LARGE or "too large response headers" in trouble.text.lower():
        return failures.head_too_large(f"{MAX_HEAD_BYTES // 1024} KiB")
    if trouble.errno == errno.ETIMEDOUT:
        return failures.network_failed(OSError(trouble.errno, os.strerror(trouble.errno)), peer, trouble.doing)
    if code in _BREAKS or code in _TLS:
        return failures.broken(peer, trouble.doing)
    if code in _PROTOCOL:
        return failures.invalid(_PROTOCOL[code] or failures.one_line(trouble.text))
    return _broken(trouble)


def _broken(trouble: Trouble) -> TransportFailure:
    return TransportFailure("transport", f"libcurl failed while {trouble.doing}: {failures.one_line(trouble.text)}")


def _tls_reason(text: str) -> str:
    """libcurl's sentences, in which OpenSSL's are quoted."""
    lowered = text.lower()
    if "verify result" in lowered or "certificate problem" in lowered or "subject name" in lowered:
        reason = text.removeprefix("SSL: ") if "subject" in lowered else text.rpartition(": ")[2]
        return f"its certificate was not accepted: {reason}"
    return text
