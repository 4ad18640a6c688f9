"""What went wrong, in the contract's words: urllib3, http.client, ssl and the operating system each have their own."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl

import urllib3.exceptions

from zcli_core.contracts.http import TransportFailure

_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}


def classify(error: BaseException, peer: str, doing: str) -> TransportFailure | None:
    """The failure behind an exception, or None if it is no failure of the network.

    ``peer`` is who we talk to ("127.0.0.1:80"), ``doing`` what we were about ("reading the body").
    """
    if isinstance(error, TransportFailure):
        return error
    if not isinstance(error, (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)):
        return None
    for cause in _causes(error):
        failure = _classify_one(cause, peer, doing)
        if failure is not None:
            return failure
    return None


def _causes(error: BaseException | None) -> list[BaseException]:
    """The innermost cause first: the outer ones only say that something happened."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        inner = next((argument for argument in error.args if isinstance(argument, BaseException)), None)
        error = error.__cause__ or inner
    return chain[::-1]


def _classify_one(error: BaseException, peer: str, doing: str) -> TransportFailure | None:
    if isinstance(error, TimeoutError):
        return TransportFailure("timeout", f"the deadline passed while {doing}")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) and not doing.startswith("connecting"):
        return TransportFailure("reset", f"{peer} broke the connection while {doing}")
    if isinstance(error, (ssl.SSLError, ssl.CertificateError)):
        return TransportFailure("tls", f"no secure connection to {peer}: {_tls_reason(error)}")
    if isinstance(error, http.client.RemoteDisconnected):
        return TransportFailure("reset", f"{peer} closed the connection without an answer")
    if isinstance(error, http.client.IncompleteRead):
        return TransportFailure("protocol", f"{peer} closed the connection before the end of the body")
    if isinstance(error, http.client.HTTPException):
        return TransportFailure("protocol", f"the answer of {peer} is no valid HTTP: {_short(error)}")
    if isinstance(error, OSError):
        return network_failure(error, peer, doing)
    if isinstance(error, urllib3.exceptions.HTTPError):
        return TransportFailure("protocol", f"the answer of {peer} is no valid HTTP: {_short(error)}")
    return None


def network_failure(error: OSError, peer: str, doing: str) -> TransportFailure:
    """What an error of the operating system means."""
    if isinstance(error, TimeoutError):
        return TransportFailure("timeout", f"the deadline passed while {doing}")
    if isinstance(error, socket.gaierror):
        return TransportFailure("dns", f"{peer} has no address: {error.strerror}")
    if isinstance(error, ConnectionRefusedError):
        return TransportFailure("refused", f"{peer} refused the connection: nothing listens there")
    if isinstance(error, ConnectionError):
        return TransportFailure("reset", f"{peer} broke the connection while {doing}")
    if error.errno in _UNREACHABLE:
        return TransportFailure("unreachable", f"{peer} cannot be reached: {error.strerror}")
    return TransportFailure("unreachable", f"the network failed while {doing}: {error.strerror or _short(error)}")


def _tls_reason(error: ssl.SSLError | ssl.CertificateError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message or _short(error)}"
    reason = getattr(error, "reason", None) or _short(error)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return "it does not speak TLS on this port (is it an http:// address?)"
    return str(reason).lower().replace("_", " ")


def _short(error: BaseException) -> str:
    """An exception's text on one line, short enough for a log: the peer may have written it."""
    return repr(str(error) or type(error).__name__)[1:-1][:120]
