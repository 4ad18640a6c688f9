"""The failures of transports, so that each has the same words in every transport.

Text that a peer wrote is shown on one printable line.
"""

from __future__ import annotations

import errno
import os
import socket

from zcli_core.http.contract import MAX_HEAD_BYTES, TransportFailure
from zcli_core.net import connecting
from zcli_core.printable import printable

_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}


def one_line(text: str) -> str:
    """Return a text on one printable line of at most 120 characters."""
    return printable(text.strip()[:120])


def timed_out(doing: str) -> TransportFailure:
    """Return the failure for a deadline that passed. ``doing`` is a phrase such as "reading the body"."""
    return TransportFailure("timeout", f"the deadline passed while {doing}")


def no_address(host: str, reason: str | None = None) -> TransportFailure:
    """Return the failure for a host that cannot be resolved."""
    return TransportFailure("dns", f"{host} has no address" + (f": {one_line(reason)}" if reason else ""))


def refused(peer: str) -> TransportFailure:
    """Return the failure for a refused connection."""
    return TransportFailure("refused", f"{peer} refused the connection: nothing listens there")


def network_failed(error: OSError, peer: str, doing: str) -> TransportFailure:
    """Return the failure for an error of the operating system."""
    if connecting.is_deadline(error):
        return timed_out(doing)
    if isinstance(error, socket.gaierror):
        return no_address(peer.rpartition(":")[0], error.strerror)
    if isinstance(error, ConnectionRefusedError):
        return refused(peer)
    if isinstance(error, ConnectionError):
        return broken(peer, doing)
    reason = os.strerror(error.errno) if error.errno else one_line(str(error))
    is_connecting = doing.startswith("connecting")
    if isinstance(error, TimeoutError) and not is_connecting:  # the system gave up sending again
        return TransportFailure("reset", f"the connection to {peer} was lost while {doing}: {reason}")
    if error.errno in _UNREACHABLE or isinstance(error, TimeoutError):
        return TransportFailure("unreachable", f"{peer} cannot be reached: {reason}")
    return TransportFailure("unreachable", f"the network failed while {doing}: {reason}")


def broken(peer: str, doing: str) -> TransportFailure:
    """Return the failure for a connection that the peer broke."""
    return TransportFailure("reset", f"{peer} broke the connection while {doing}")


def no_response(peer: str) -> TransportFailure:
    """Return the failure for a connection that was closed before a response began."""
    return TransportFailure("reset", f"{peer} closed the connection without a response")


def head_cut_off(peer: str) -> TransportFailure:
    """Return the failure for a connection that was closed within the headers."""
    return TransportFailure("reset", f"{peer} closed the connection within the response's headers")


def body_cut_off(peer: str) -> TransportFailure:
    """Return the failure for a connection that was closed within the body."""
    return TransportFailure("protocol", f"{peer} closed the connection before the end of the body")


def invalid(reason: str) -> TransportFailure:
    """Return the failure for a response that is not valid HTTP."""
    return TransportFailure("protocol", f"invalid HTTP response: {reason}")


def no_status_line(line: str) -> TransportFailure:
    """Return the failure for a response that begins with this line instead of a status line."""
    return invalid(f"it does not begin with a status line: {one_line(line[:80])!r}")


def invalid_chunk() -> TransportFailure:
    """Return the failure for an invalid chunk (RFC 9112, section 7.1)."""
    return invalid("a chunk does not begin with its size")


def body_too_large(max_bytes: int, how: str) -> TransportFailure:
    """Return the failure for a decoded body above the limit. ``how`` ends the sentence."""
    return TransportFailure("too_large", f"the body is larger than {max_bytes} bytes (http.max_response_bytes), {how}")


def head_too_large() -> TransportFailure:
    """Return the failure for headers of more than :data:`MAX_HEAD_BYTES`."""
    return TransportFailure("too_large", f"the response has more than {MAX_HEAD_BYTES // 1024} KiB of headers")


def too_many_headers(max_headers: int) -> TransportFailure:
    """Return the failure for more header fields than the limit."""
    return TransportFailure("too_large", f"the response has more than {max_headers} headers (http.max_headers)")


def insecure(peer: str, reason: str) -> TransportFailure:
    """Return the failure for a TLS connection that was not made. ``reason`` is the message of the TLS library."""
    lowered = reason.lower().replace("_", " ")
    if any(sign in lowered for sign in _NO_TLS):
        reason = "it does not speak TLS on this port (is it an http:// address?)"
    return TransportFailure("tls", f"no secure connection to {peer}: {one_line(reason)}")


_NO_TLS = ("wrong version number", "http request", "record layer failure", "packet length too long")


def no_tunnel(proxy: str, host: str, reason: str) -> TransportFailure:
    """Return the failure for a proxy that did not open a tunnel. ``reason`` is its status, or what went wrong."""
    return TransportFailure("proxy", f"the proxy {proxy} did not open a tunnel to {host}: {one_line(reason)}")


def of_proxy(failure: TransportFailure) -> TransportFailure:
    """Return the failure for a connection to a proxy that failed. A timeout is returned unchanged."""
    if failure.kind in ("timeout", "proxy"):
        return failure
    return TransportFailure("proxy", f"no connection to the proxy: {failure.message}")


def wrong_length(length: int, more_or_fewer: str) -> TransportFailure:
    """Return the failure for a request body with more or fewer bytes than its Content-Length says."""
    return TransportFailure(
        "body", f"the request's body has {more_or_fewer} than the {length} bytes of its Content-Length"
    )
