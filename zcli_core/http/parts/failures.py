"""The failures of a transport, each worded in one place. What a peer wrote is shown on one printable line."""

from __future__ import annotations

import errno
import os
import socket

from zcli_core.http.contract import TransportFailure
from zcli_core.net import connecting
from zcli_core.printable import printable

_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}


def one_line(text: str) -> str:
    """Return a text on one printable line, short enough for a log."""
    return printable(text.strip()[:120])


def timed_out(doing: str) -> TransportFailure:
    """The deadline passed. ``doing`` is "reading the body" or the like."""
    return TransportFailure("timeout", f"the deadline passed while {doing}")


def no_address(host: str, reason: str | None = None) -> TransportFailure:
    """The resolver has no address for a host."""
    return TransportFailure("dns", f"{host} has no address" + (f": {one_line(reason)}" if reason else ""))


def refused(peer: str) -> TransportFailure:
    """Nothing listens there."""
    return TransportFailure("refused", f"{peer} refused the connection: nothing listens there")


def network_failed(error: OSError, peer: str, doing: str) -> TransportFailure:
    """The failure that an error of the operating system is."""
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
    """The connection broke."""
    return TransportFailure("reset", f"{peer} broke the connection while {doing}")


def no_response(peer: str) -> TransportFailure:
    """The connection was closed before a response began."""
    return TransportFailure("reset", f"{peer} closed the connection without a response")


def head_cut_off(peer: str) -> TransportFailure:
    """The connection was closed within the headers."""
    return TransportFailure("reset", f"{peer} closed the connection within the response's headers")


def body_cut_off(peer: str) -> TransportFailure:
    """The connection was closed within the body."""
    return TransportFailure("protocol", f"{peer} closed the connection before the end of the body")


def invalid(reason: str) -> TransportFailure:
    """The response contradicts HTTP or itself."""
    return TransportFailure("protocol", f"invalid HTTP response: {reason}")


def invalid_chunk() -> TransportFailure:
    """A body in chunks that is not (RFC 9112, section 7.1)."""
    return invalid("a chunk does not begin with its size")


def body_too_large(max_bytes: int, how: str) -> TransportFailure:
    """The decoded body is larger than allowed."""
    return TransportFailure("too_large", f"the body is larger than {max_bytes} bytes (http.max_response_bytes), {how}")


def head_too_large(limit: str) -> TransportFailure:
    """The headers are larger than allowed. ``limit`` is "256 KiB" or the like."""
    return TransportFailure("too_large", f"the response has more than {limit} of headers")


def too_many_headers(max_headers: int) -> TransportFailure:
    """There are more header fields than allowed."""
    return TransportFailure("too_large", f"the response has more than {max_headers} headers (http.max_headers)")


def insecure(peer: str, reason: str) -> TransportFailure:
    """There is no TLS connection. ``reason`` is what the TLS library says."""
    lowered = reason.lower().replace("_", " ")
    if any(sign in lowered for sign in _NO_TLS):
        reason = "it does not speak TLS on this port (is it an http:// address?)"
    return TransportFailure("tls", f"no secure connection to {peer}: {one_line(reason)}")


_NO_TLS = ("wrong version number", "http request", "record layer failure", "packet length too long")


def no_tunnel(proxy: str, host: str, said: str) -> TransportFailure:
    """A proxy did not open a tunnel. ``said`` is its status, or what went wrong."""
    return TransportFailure("proxy", f"the proxy {proxy} opened no tunnel to {host}: {one_line(said)}")


def of_proxy(failure: TransportFailure) -> TransportFailure:
    """A failure of the connection to a proxy. A timeout stays one."""
    if failure.kind in ("timeout", "proxy"):
        return failure
    return TransportFailure("proxy", f"no connection to the proxy: {failure.message}")


def wrong_length(length: int, more_or_less: str) -> TransportFailure:
    """The body's source gave more or less than the Content-Length that was sent says."""
    return TransportFailure(
        "body", f"the request's body has {more_or_less} than the {length} bytes that its Content-Length says"
    )
