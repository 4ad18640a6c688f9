"""What went wrong, in the contract's words: libcurl has a number, a sentence and the system's error for it."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import pycurl

from zcli_core.contracts.http import FailureKind, TransportFailure
from zcli_pycurl.place import Place

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
    _TOO_LARGE: "its headers are too long",
}


class Trouble(NamedTuple):
    """How a transfer ended: libcurl's number and sentence, the system's error number, and how far it had come.

    ``doing`` is "reading the body" or the like, ``was_asked`` whether the request was being sent, ``has_begun`` whether
    anything of the answer had come, ``has_tunnel`` whether a proxy has opened one, ``refusal`` what it said if not.
    """

    code: int
    text: str
    errno: int
    doing: str
    was_asked: bool
    has_begun: bool
    has_tunnel: bool
    refusal: str


def classify(trouble: Trouble, place: Place) -> TransportFailure:
    """The failure that libcurl's error is."""
    if trouble.code == pycurl.E_OPERATION_TIMEDOUT:
        return TransportFailure("timeout", f"the deadline passed while {trouble.doing}")
    if trouble.was_asked:
        return _while_talking(trouble, place.peer)
    if place.proxy is None or trouble.has_tunnel:
        return _while_connecting(trouble, f"{place.host}:{place.port}")
    proxy = f"the proxy {place.dialled}"
    if trouble.refusal:
        return TransportFailure("proxy", f"{proxy} opened no tunnel to {place.host}: {short(trouble.refusal)}")
    failure = _while_connecting(trouble, proxy)
    return failure if failure.kind == "transport" else TransportFailure("proxy", failure.message)


def _while_connecting(trouble: Trouble, peer: str) -> TransportFailure:
    """``peer`` is who was being connected to."""
    if trouble.code in _TLS and trouble.errno not in _RESETS:
        return TransportFailure("tls", f"no secure connection to {peer}: {_tls_reason(trouble.text)}")
    if trouble.code in (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_RESOLVE_PROXY):
        return TransportFailure("dns", f"{peer.rpartition(':')[0]} has no address")
    if trouble.code == pycurl.E_COULDNT_CONNECT:
        if trouble.errno == errno.ECONNREFUSED:
            return TransportFailure("refused", f"{peer} refused the connection: nothing listens there")
        reason = os.strerror(trouble.errno) if trouble.errno else short(trouble.text)
        return TransportFailure("unreachable", f"{peer} cannot be reached: {reason}")
    if trouble.errno in _RESETS or trouble.code in _BREAKS:
        return TransportFailure("reset", f"{peer} broke the connection while {trouble.doing}")
    return _broken(trouble)


def _while_talking(trouble: Trouble, peer: str) -> TransportFailure:
    code, text = trouble.code, trouble.text
    kind: FailureKind = "protocol"
    if code == pycurl.E_PARTIAL_FILE:
        message = f"{peer} closed the connection before the end of the body"
    elif code == pycurl.E_RECV_ERROR and "chunk" in text.lower():
        message = f"the answer of {peer} is no valid HTTP: a chunk does not begin with its size"
    elif code == pycurl.E_GOT_NOTHING and not trouble.has_begun:
        kind, message = "reset", f"{peer} closed the connection without an answer"
    elif code == pycurl.E_SEND_FAIL_REWIND:  # libcurl would have sent the request again, and cannot
        kind, message = "reset", f"{peer} closed the kept connection upon the request, whose body can be read only once"
    elif code in _BREAKS or code in _TLS:
        kind, message = "reset", f"{peer} broke the connection while {trouble.doing}"
    elif code in _PROTOCOL:
        message = f"the answer of {peer} is no valid HTTP: {_PROTOCOL[code] or short(text)}"
    else:
        return _broken(trouble)
    return TransportFailure(kind, message)


def _broken(trouble: Trouble) -> TransportFailure:
    return TransportFailure("transport", f"libcurl failed while {trouble.doing}: {short(trouble.text)}")


def _tls_reason(text: str) -> str:
    """libcurl's sentences, in which OpenSSL's are quoted."""
    lowered = text.lower()
    if "wrong version number" in lowered or "http request" in lowered or "packet length too long" in lowered:
        return "it does not speak TLS on this port (is it an http:// address?)"
    if "verify result" in lowered or "certificate problem" in lowered or "subject name" in lowered:
        reason = text.removeprefix("SSL: ") if "subject" in lowered else text.rpartition(": ")[2]
        return f"its certificate was not accepted: {short(reason)}"
    return short(text)


def short(text: str) -> str:
    """A text on one line, short enough for a log: the peer may have written parts of it."""
    return repr(text)[1:-1][:120]
