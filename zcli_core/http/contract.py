"""HTTP transports: what a plugin that carries requests must do, and why a call may have no answer.

The core builds a :class:`HttpRequest`, hands it to the transport that configuration selected, and gets a
:class:`RawResponse` or a :class:`TransportFailure`. One call of :meth:`HttpTransport.send` is one request and
one answer: redirects, retries, authentication, charsets and JSON are the core's business.

A plugin offers transports with the hook ``zcli_http_transports``, which returns
:class:`~zcli_core.plugins.contract.Provider` objects of :class:`HttpTransport`. Everything it needs is here.

Of the settings in ``context.config.http`` a transport uses ``pool_size``, ``max_headers``, ``trust_env``, ``ca_file``,
``client_cert`` and ``client_key``; the rest is the core's, which has tried these files before it asks for the
transport: they can be read, are in PEM format and fit each other, and the key has no passphrase. The certificate is
shown only to the server of a request whose ``shows_certificate`` is true, and never to a proxy. What ``trust_env``
lets the environment say is read by :func:`zcli_core.http.parts.proxies.proxy_for`.

:mod:`zcli_core.http.parts` has what transports share: reading heads and bodies, kept connections, failures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from zcli_core.http.messages import (
    DEFAULT_PORTS,
    IDEMPOTENT,
    Body,
    HttpRequest,
    HttpResponse,
    HttpStatusError,
    RawResponse,
    Url,
    parse_date,
    sooner,
)
from zcli_core.net.headers import Headers, check_header

__all__ = [
    "DEFAULT_PORTS",
    "IDEMPOTENT",
    "Body",
    "FailureKind",
    "Headers",
    "HttpFailure",
    "HttpRequest",
    "HttpResponse",
    "HttpStatusError",
    "HttpTransport",
    "RawResponse",
    "TransportFailure",
    "Url",
    "check_header",
    "parse_date",
    "sooner",
]

#: Why there was no answer:
#:
#: - ``timeout``: the deadline of the call passed, whatever it was doing
#: - ``dns``: the host's name has no address
#: - ``refused``: nothing listens there
#: - ``unreachable``: no route to the address, or another error of the network below TCP
#: - ``reset``: the connection was closed before an answer began, or broken off
#: - ``tls``: no secure connection; the certificate is expired, for another host, or of an unknown authority
#: - ``proxy``: the proxy could not be reached, is of an unknown kind, or would not open the tunnel
#: - ``protocol``: what came back is not HTTP, ended early, or contradicts itself
#: - ``too_large``: the decoded body is larger than ``http.max_response_bytes``, or there are more headers than
#:   ``http.max_headers`` or 256 KiB
#: - ``body``: the request's body has more or less bytes than its Content-Length says
#: - ``too_many_redirects``: more than ``http.max_redirects``
#: - ``insecure_redirect``: an https:// address redirected to http://
#: - ``unrepeatable_body``: a redirect asks for the body again, and it could be read only once
#: - ``invalid_url``: the URL, or the one redirected to, is no http:// or https:// URL
#: - ``transport``: the transport itself broke
FailureKind = Literal[
    "timeout",
    "dns",
    "refused",
    "unreachable",
    "reset",
    "tls",
    "proxy",
    "protocol",
    "too_large",
    "body",
    "too_many_redirects",
    "insecure_redirect",
    "unrepeatable_body",
    "invalid_url",
    "transport",
]


class TransportFailure(Exception):  # noqa: N818 - the network failed, nobody made an error
    """Raised by a transport when there is no answer. ``message`` is one sentence without secrets."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(kind, message)
        self.kind: FailureKind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True)
class HttpFailure:
    """Why a call gave ``None``: what ``z.comm.http.last_failure`` and the hook ``zcli_http_response`` hold.

    ``message`` is one sentence. ``url`` carries no user, password or query value. ``elapsed`` is in seconds, from
    the beginning of the call.
    """

    kind: FailureKind
    message: str
    method: str
    url: str
    elapsed: float

    def __repr__(self) -> str:
        # Like a request's: without the path, which may hold a key.
        return f"<HttpFailure {self.kind}: {self.method} {'/'.join(self.url.split('/', 3)[:3])}>"

    def __str__(self) -> str:
        return f"{self.method} {self.url}: {self.kind} after {self.elapsed:.3f} s: {self.message}"


class HttpTransport(Protocol):
    """Carries requests. One object serves all threads of one ``zCLI``, and the child process after a fork.

    ``zcli_core.testing.HttpTransportContract`` is this contract as tests.
    """

    @property
    def content_codings(self) -> tuple[str, ...]:
        """The content codings that :meth:`send` undoes, by their names (RFC 9110, section 8.4.1), the best first.

        Servers are asked for these: the core puts them into Accept-Encoding, ``identity`` where there are none. A
        class attribute will do, as in ``content_codings = ("gzip", "deflate")``.
        """
        ...

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Send one request and read its whole answer.

        ``deadline`` is a reading of :func:`time.monotonic`. Everything counts against it: waiting for a
        connection, resolving the name, connecting, the TLS handshake, sending, and a peer that sends a byte now
        and then. A request may have limits of its own: ``connect_timeout`` for everything until the request can be
        sent, ``read_timeout`` for what follows; :func:`sooner` turns one into a deadline. ``max_bytes`` is the largest
        decoded body; no more than about that may be held in memory.

        The request's headers are sent as they are, and none besides but Host and what frames the body. A body that is
        an iterable is sent under the request's Content-Length if it has one, else in chunks; an empty one of its items
        is passed over. One with more or less bytes than its Content-Length says fails with ``body``, and the server
        never has a complete request. What iterating it raises must come out of this method as it is.

        The head of the response is read by the rules of RFC 9112. 1xx responses other than 101 are skipped; redirects
        are returned, not followed. A response may come while the request is still being sent: it is read, and where its
        status is 300 or above the rest is not sent; below that the rest is sent until the response is complete. 1xx,
        204, 304 and responses to HEAD have no body, whatever their headers say. A body that ends before its length,
        before its content coding does, or over TLS without a close_notify where only the end of the connection ends it,
        is a failure. A 206 is a part, and its content coding is not decoded.

        Raises :class:`TransportFailure` when there is no response, and nothing else for trouble with the peer. What a
        signal's handler raises comes out as it is, and the connection is closed.

        Connections are kept. One that the server has closed meanwhile is replaced; but a request that may have reached
        the server is sent again only if its method is idempotent (RFC 9110, section 9.2.2) and its body bytes or None.
        """
        ...

    def close(self) -> None:
        """Close every connection. May be called more than once."""
        ...
