"""The contract of HTTP transports: what a plugin that sends requests must do, and the kinds of failure.

The core builds an :class:`HttpRequest` and passes it to the transport that the configuration selects. The transport
returns a :class:`RawResponse` or raises a :class:`TransportFailure`. One call of :meth:`HttpTransport.send` is one
request and one response: the core does redirects, retries, authentication, charsets and JSON.

A plugin offers transports with the hook ``zcli_http_transports``, which returns
:class:`~zcli_core.plugins.contract.Provider` objects of :class:`HttpTransport`.

A transport uses these settings of ``context.config.http``: ``pool_size``, ``max_headers``, ``trust_env``, ``ca_file``,
``client_cert`` and ``client_key``. The core uses the others. Before it makes the transport, the core checks the files
that are named: they can be read, are in PEM format and fit each other, and the key has no passphrase. The transport
shows the client certificate only to the server of a request whose ``shows_certificate`` is true, and never to a proxy.
If ``trust_env`` is set, :func:`zcli_core.http.parts.proxies.proxy_for` gives the proxy of a URL.

:mod:`zcli_core.http.parts` has what transports share: reading heads and bodies, kept connections, failures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from zcli_core.http.messages import (
    DEFAULT_PORTS,
    IDEMPOTENT,
    MAX_HEAD_BYTES,
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
    "MAX_HEAD_BYTES",
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

#: Why there is no response:
#:
#: - ``timeout``: the deadline of the call passed
#: - ``dns``: the host's name cannot be resolved
#: - ``refused``: the connection was refused, because no server listens on the port
#: - ``unreachable``: there is no route to the address, or another error of the network below TCP
#: - ``reset``: the connection was closed or reset before the response began, or within its headers
#: - ``tls``: no TLS connection; for example the certificate is expired, is for another host, or is of an unknown
#:   authority
#: - ``proxy``: the proxy cannot be reached, is of an unknown kind, or did not open the tunnel
#: - ``protocol``: the response is not valid HTTP, or ended early
#: - ``too_large``: the decoded body is larger than ``http.max_response_bytes``, or there are more headers than
#:   ``http.max_headers`` or 256 KiB
#: - ``body``: the request's body has more or fewer bytes than its Content-Length says
#: - ``too_many_redirects``: there were more redirects than ``http.max_redirects``
#: - ``insecure_redirect``: an https:// URL redirected to an http:// URL
#: - ``unrepeatable_body``: a redirect needs the body again, but it can be read only once
#: - ``invalid_url``: the URL, or the URL of a redirect, is not a valid http:// or https:// URL
#: - ``transport``: the transport raised an unexpected error
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


class TransportFailure(Exception):  # noqa: N818 - an outcome of a call, not a mistake of the program
    """Raised by a transport if there is no response.

    Attributes:
        kind: One of the kinds above.
        message: One sentence without secrets.
    """

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(kind, message)
        self.kind: FailureKind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True)
class HttpFailure:
    """Why a call returned ``None``: the value of ``z.comm.http.last_failure``, also given to ``zcli_http_response``.

    Attributes:
        kind: One of the kinds above.
        message: One sentence.
        method, url: Of the call. The URL has no user, password or query values.
        elapsed: Seconds from the beginning of the call to its end.
    """

    kind: FailureKind
    message: str
    method: str
    url: str
    elapsed: float

    def __repr__(self) -> str:
        # Without the path, which may hold a key, like the repr of a request.
        return f"<HttpFailure {self.kind}: {self.method} {'/'.join(self.url.split('/', 3)[:3])}>"

    def __str__(self) -> str:
        return f"{self.method} {self.url}: {self.kind} after {self.elapsed:.3f} s: {self.message}"


class HttpTransport(Protocol):
    """Sends requests. One object serves all threads of one ``zCLI`` object, and the child process after a fork.

    ``zcli_core.testing.HttpTransportContract`` tests this contract.
    """

    @property
    def content_codings(self) -> tuple[str, ...]:
        """The names of the content codings that :meth:`send` decodes (RFC 9110, section 8.4.1), the best first.

        The core sends them to servers in Accept-Encoding; without any it sends ``identity``. A class attribute such as
        ``content_codings = ("gzip", "deflate")`` is enough.
        """
        ...

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Send one request and read its whole response.

        **Limits.** Everything counts against the deadline: waiting for a connection, resolving the name, connecting,
        the TLS handshake, sending, and a peer that sends a few bytes now and then. The request may have limits of its
        own: ``connect_timeout`` for everything until the request can be sent, ``read_timeout`` for the rest;
        :func:`sooner` turns each into a deadline.

        **Sending.** The transport sends the request's headers unchanged. It adds only Host and what frames the body. If
        the body is an iterable, it is sent with the request's Content-Length if there is one, otherwise in chunks;
        empty items are skipped. If the iterable gives more or fewer bytes than Content-Length says, the call fails with
        ``body``, and the server never gets a complete request. An exception of the iterable leaves this method
        unchanged.

        **Reading.** The head of the response is read by the rules of RFC 9112. 1xx responses other than 101 are
        skipped. Redirects are returned, not followed. A response may come while the request is still being sent. If its
        status is 300 or above, the rest of the request is not sent. Otherwise the rest is sent until the response is
        complete. 1xx, 204, 304 and responses to HEAD have no body, whatever their headers say. It is a failure if a
        body ends before its length or before its content coding does, or if only the end of a TLS connection ends it
        and there was no close_notify. The content coding of a 206 is not decoded, because a 206 is a part.

        **Connections** are kept. If the server has closed a kept connection, a new one is opened. A request that may
        have reached the server is sent again only if its method is idempotent (RFC 9110, section 9.2.2) and its body is
        bytes or None. If a signal handler raises an exception, it leaves this method unchanged, and the connection is
        closed.

        Args:
            request: The request.
            deadline: A reading of :func:`time.monotonic`.
            max_bytes: The largest decoded body. The transport must not hold much more than that in memory.

        Raises:
            TransportFailure: There is no response. Trouble with the peer raises no other exception.
        """
        ...

    def close(self) -> None:
        """Close every connection. May be called more than once."""
        ...
