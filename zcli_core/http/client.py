"""``z.comm.http``: one call from a URL to a response, over the transport that the configuration selects."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from zcli_core import __version__
from zcli_core.errors import raised_by_signal
from zcli_core.http.auth import Auth, authorize, basic
from zcli_core.http.bodies import MISSING, Data, encode_body
from zcli_core.http.call import Call
from zcli_core.http.contract import (
    Headers,
    HttpFailure,
    HttpRequest,
    HttpResponse,
    HttpTransport,
    RawResponse,
    TransportFailure,
)
from zcli_core.http.failures import LastFailure
from zcli_core.http.options import (
    HeadersLike,
    Timeout,
    checked_method,
    checked_retries,
    checked_timeout,
    describe_body,
    merge_headers,
    unknown_argument,
)
from zcli_core.http.retries import Retries
from zcli_core.http.streamed_body import BodySourceError
from zcli_core.http.urls import UserInfo, parse_url, shown, with_params
from zcli_core.http.values import Pairs
from zcli_core.printable import printable
from zcli_core.system.forks import call_after_fork

if TYPE_CHECKING:
    from zcli_core.config.sections import Http
    from zcli_core.http.certificate_hosts import CertificateHosts
    from zcli_core.http.multipart import Files

RequestHook = Callable[[HttpRequest], Any]
ResponseHook = Callable[[HttpRequest, "HttpResponse | HttpFailure"], Any]


class HttpClient:
    """Sends HTTP requests. One object serves any number of threads.

    Every call returns an :class:`~zcli_core.http.contract.HttpResponse` for any response, 404 and 500 included, and
    None if there is none; :attr:`last_failure` and one line of the log then say why. A mistake in an argument raises
    TypeError or ValueError at once, before anything is sent.

    Certificates are verified. Redirects are followed; headers that might be credentials are not sent on to another
    site, and the client certificate is shown only where ``http.client_cert_hosts`` allows it. Cookies live within one
    call only. Credentials come from ``auth`` or the URL: ``~/.netrc`` is never read.
    """

    def __init__(
        self,
        settings: Http,
        transport_factory: Callable[[], HttpTransport],
        log: logging.Logger,
        on_request: RequestHook | None = None,
        on_response: ResponseHook | None = None,
    ) -> None:
        """``transport_factory`` is called once, for the first request.

        ``on_request(request)`` is called before a call's first request, and ``on_response(request, outcome)`` after its
        end with the response or the failure. Neither is called if the URL is invalid.
        """
        self._settings = settings
        self._make_transport = transport_factory
        self._log = log
        self._on_request = on_request
        self._on_response = on_response
        self._transport: HttpTransport | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._last_failure = LastFailure()
        call_after_fork(self)
        self._user_agent = f"zcli-core/{__version__}" if settings.user_agent is None else settings.user_agent
        self._defaults: list[tuple[str, str]] = []
        self._certificate_hosts: CertificateHosts | None = None
        if settings.client_cert_hosts is not None:
            from zcli_core.http.certificate_hosts import CertificateHosts

            self._certificate_hosts = CertificateHosts(settings.client_cert_hosts)

    @property
    def last_failure(self) -> HttpFailure | None:
        """Why the last call of this thread or asyncio task gave None; None if it got a response.

        A call inside ``asyncio.to_thread`` belongs to that function: read it there.
        """
        return self._last_failure.get()

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Pairs | str | None = None,
        data: Data | None = None,
        json: Any = MISSING,
        form: Pairs | None = None,
        files: Files | None = None,
        headers: HeadersLike | None = None,
        auth: Auth | None = None,
        timeout: Timeout | None = None,
        retries: int | None = None,
        retry_all_methods: bool | None = None,
        follow_redirects: bool = True,
        **unknown: NoReturn,
    ) -> HttpResponse | None:
        """Send a request and return the response, or None if there is none.

        :meth:`zcli_core.comm.Comm.http_request` describes the arguments and the errors.
        """
        started = time.monotonic()
        if unknown:
            raise unknown_argument(next(iter(unknown)))
        settings = self._settings
        method = checked_method(method)
        allowed = settings.retries if retries is None else checked_retries(retries)
        timeouts = checked_timeout(timeout, settings.timeout, 1 + allowed)
        deadline = started + timeouts.total
        body, content_type = encode_body(data, json, form, files)
        defaults = self._defaults or self._default_headers()
        if content_type is not None:
            defaults = [*defaults, ("Content-Type", content_type)]
        fields = merge_headers(defaults, headers)
        if body is not None or headers is not None:
            describe_body(fields, body)
        authorizer = _authorizer(auth, fields)
        try:
            address, user_info = parse_url(url)
            if params is not None:
                address = with_params(address, params)
            if user_info is not None and auth is None and "authorization" not in fields:
                authorizer = _url_authorizer(user_info)
        except TransportFailure as failure:
            self._failed(failure, method, shown(url), started)
            return None
        request = HttpRequest(method, address, fields, body)
        if self._on_request is not None:
            self._call_hooks(self._on_request, request)
        call = Call(
            self._send,
            self._log,
            started=started,
            deadline=deadline,
            timeouts=timeouts,
            max_bytes=settings.max_bytes,
            max_redirects=settings.max_redirects if follow_redirects else 0,
            retries=Retries(
                allowed,
                settings.retry_all_methods if retry_all_methods is None else retry_all_methods,
                deadline,
            ),
            authorize=authorizer,
            certificate_hosts=self._certificate_hosts,
        )
        source_error: BaseException | None = None
        try:
            response = call.run(request)
        except TransportFailure as failure:
            self._failed(failure, method, address.redacted(), started, request)
            return None
        except BodySourceError as error:
            source_error = error.__cause__ or error
        if source_error is not None:
            raise source_error  # here, so that its own cause and context stay as they are
        self._last_failure.clear()
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug(
                "%s %s: %d %s, %d bytes in %.3f s",
                method,
                address.redacted(),
                response.status_code,
                response.reason,
                len(response.content),
                response.elapsed,
            )
        if self._on_response is not None:
            self._on_response(request, response)
        return response

    def use_transport(self, transport: HttpTransport) -> None:
        """Send all later requests over this transport instead of the one that ``http.transport`` selects.

        For tests: see :class:`zcli_core.testing.MockTransport`. The transport used so far is closed.

        :raises RuntimeError: the client is closed.
        """
        with self._lock:
            self._check_open()
            previous, self._transport = self._transport, transport
            self._defaults = []
        if previous is not None:
            previous.close()

    def close(self) -> None:
        """Close every connection. Calls made afterwards raise RuntimeError."""
        with self._lock:
            self._closed = True
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def after_fork(self) -> None:
        """In the child after a fork: a lock that another thread held has nothing left to release it."""
        self._lock = threading.Lock()

    def _call_hooks(self, on_request: RequestHook, request: HttpRequest) -> None:
        """Call the hooks. Their changes are dropped if the headers do not describe one request any more."""
        given = request.headers.copy()
        on_request(request)
        try:
            describe_body(request.headers, request.body)
        except ValueError as error:
            request.headers = given
            self._log.error("zcli_http_request: the headers that the hooks set are not sent: %s", error)

    def _send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        transport = self._transport or self._first_transport()
        try:
            raw = transport.exchange(request, deadline, max_bytes)
            # It goes into logs and onto terminals.
            return raw if raw.reason.isprintable() else raw._replace(reason=printable(raw.reason))
        except (TransportFailure, BodySourceError):
            raise
        except Exception as error:
            if raised_by_signal(error):
                raise
            name = self._settings.transport
            self._log.exception("the HTTP transport %r failed", name)
            raise TransportFailure(
                "transport", f"the transport {name!r} failed with {type(error).__name__}; the log has the details"
            ) from error

    def _default_headers(self) -> list[tuple[str, str]]:
        transport = self._transport or self._first_transport()
        # Without an Accept-Encoding any coding would do (RFC 9110, section 12.5.3).
        codings = ", ".join(getattr(transport, "content_codings", ())) or "identity"
        self._defaults = [("User-Agent", self._user_agent), ("Accept", "*/*"), ("Accept-Encoding", codings)]
        return self._defaults

    def _first_transport(self) -> HttpTransport:
        with self._lock:
            self._check_open()
            if self._transport is None:
                self._transport = self._make_transport()
            return self._transport

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this HTTP client is closed, and no request can be sent any more")

    def _failed(
        self, cause: TransportFailure, method: str, url: str, started: float, request: HttpRequest | None = None
    ) -> None:
        failure = HttpFailure(cause.kind, printable(cause.message), method, url, time.monotonic() - started)
        self._last_failure.set(failure)
        self._log.warning("%s", failure)
        if self._on_response is not None and request is not None:
            self._on_response(request, failure)


def _authorizer(auth: Auth | None, fields: Headers) -> Callable[[HttpRequest], Any] | None:
    if auth is None:
        return None
    if not callable(auth) and "authorization" in fields:
        raise ValueError("auth and an Authorization header were given: give one of them")
    return authorize(auth)


def _url_authorizer(user_info: UserInfo) -> Callable[[HttpRequest], Any]:
    """Raises TransportFailure, because an invalid URL is a failure of the call in every one of its parts."""
    try:
        return basic(*user_info)
    except ValueError:
        raise TransportFailure(
            "invalid_url", "the URL's user name has a colon in it, which Basic credentials cannot have (RFC 7617)"
        ) from None
