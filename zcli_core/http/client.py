"""``z.comm.http``: the HTTP client. It sends requests over the transport that the configuration selects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from zcli_core import __version__
from zcli_core.http.auth import Auth, authorize, basic
from zcli_core.http.call import Call, CertificateHosts
from zcli_core.http.contract import Headers, HttpFailure, HttpRequest, HttpResponse, HttpTransport, TransportFailure
from zcli_core.http.counters import HttpCounters
from zcli_core.http.guarded_transport import GuardedTransport
from zcli_core.http.options import Timeout, checked_method, checked_retries, checked_timeout, unknown_argument
from zcli_core.http.request_body import MISSING, Data, encode_body
from zcli_core.http.request_headers import HeadersLike, describe_body, merge_headers
from zcli_core.http.retries import Retries
from zcli_core.http.streamed_body import BodySourceError
from zcli_core.http.urls import UserInfo, parse_url, shown, with_params
from zcli_core.http.values import Pairs
from zcli_core.last_failure import LastFailure
from zcli_core.printable import printable

if TYPE_CHECKING:
    from zcli_core.config.sections import Http
    from zcli_core.http.multipart import Files
    from zcli_core.types import HttpMetrics

RequestHook = Callable[[HttpRequest], Any]
ResponseHook = Callable[[HttpRequest, "HttpResponse | HttpFailure"], Any]


class HttpClient:
    """Sends HTTP requests. One object serves any number of threads.

    Every call returns an :class:`~zcli_core.http.contract.HttpResponse` for every response, including 404 and 500. If
    there is no response it returns None, logs the reason in one line and keeps it in :attr:`last_failure`. An invalid
    argument raises TypeError or ValueError before anything is sent.

    Certificates are verified. Redirects are followed; headers that may carry credentials are not sent to another site,
    and the client certificate is
    shown only to the hosts of ``http.client_cert_hosts``. Cookies are kept within one call only.
    Credentials come from ``auth`` or from the URL; ``~/.netrc`` is not read.
    """

    def __init__(
        self,
        settings: Http,
        transport_factory: Callable[[], HttpTransport],
        log: logging.Logger,
        on_request: RequestHook | None = None,
        on_response: ResponseHook | None = None,
    ) -> None:
        """Make a client that opens no connection yet.

        Args:
            settings: The settings of the section ``http``.
            transport_factory: Makes the transport; called once, for the first request.
            log: The application's logger.
            on_request: Called once for each call, before its request is sent. Not called if the URL is invalid.
            on_response: Called after the end of a call with the request and the response or failure. Not called if the
                URL is invalid.
        """
        self._settings = settings
        self._transport = GuardedTransport(settings.transport, transport_factory, log)
        self._log = log
        self._on_request = on_request
        self._on_response = on_response
        self._last_failure = LastFailure[HttpFailure]()
        self._counters = HttpCounters()
        self._user_agent = f"zcli-core/{__version__}" if settings.user_agent is None else settings.user_agent
        self._defaults: list[tuple[str, str]] = []
        hosts = settings.client_cert_hosts
        self._certificate_hosts = None if hosts is None else CertificateHosts(hosts)

    @property
    def last_failure(self) -> HttpFailure | None:
        """Why the last call of this thread or asyncio task returned None; None if it got a response.

        After a call inside ``asyncio.to_thread``, read it in the function that runs there.
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
        """Send a request and return the response, or None if no response arrived.

        :meth:`zcli_core.comm.Comm.http_request` describes the arguments and the errors.
        """
        started = time.monotonic()
        if unknown:
            raise unknown_argument(next(iter(unknown)))
        settings = self._settings
        method = checked_method(method)
        allowed = settings.retries if retries is None else checked_retries(retries)
        timeouts = checked_timeout(timeout, settings.timeout, 1 + allowed)
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
            self._transport,
            settings,
            self._log,
            started=started,
            timeouts=timeouts,
            retries=Retries(allowed, settings.retry_all_methods if retry_all_methods is None else retry_all_methods),
            follow_redirects=follow_redirects,
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
            raise source_error  # outside of the except clause, which would change its cause and context
        self._last_failure.clear()
        self._counters.count_response(response.status_code, response.elapsed)
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

    def metrics(self) -> HttpMetrics:
        """Return what the client has counted so far, for monitoring, in a new dict."""
        return self._counters.read()

    def use_transport(self, transport: HttpTransport) -> None:
        """Send all later requests over this transport instead of the one that ``http.transport`` selects.

        For tests: see :class:`zcli_core.testing.MockTransport`. The transport used so far is closed.

        Raises:
            RuntimeError: The client is closed.
        """
        self._transport.replace(transport)
        self._defaults = []

    def close(self) -> None:
        """Close every connection. Calls made afterwards raise RuntimeError."""
        self._transport.close()

    def _call_hooks(self, on_request: RequestHook, request: HttpRequest) -> None:
        """Call the hooks. If the headers then contradict the body or each other, the changes are dropped."""
        given = request.headers.copy()
        on_request(request)
        try:
            describe_body(request.headers, request.body)
        except ValueError as error:
            request.headers = given
            self._log.error("zcli_http_request: the headers set by hooks are invalid and not sent: %s", error)

    def _default_headers(self) -> list[tuple[str, str]]:
        # Without Accept-Encoding a server may use any coding (RFC 9110, section 12.5.3).
        codings = ", ".join(self._transport.content_codings) or "identity"
        self._defaults = [("User-Agent", self._user_agent), ("Accept", "*/*"), ("Accept-Encoding", codings)]
        return self._defaults

    def _failed(
        self, cause: TransportFailure, method: str, url: str, started: float, request: HttpRequest | None = None
    ) -> None:
        failure = HttpFailure(cause.kind, printable(cause.message), method, url, time.monotonic() - started)
        self._last_failure.set(failure)
        self._counters.count_failure(failure.kind, failure.elapsed)
        self._log.warning("%s", failure)
        if self._on_response is not None and request is not None:
            self._on_response(request, failure)


def _authorizer(auth: Auth | None, fields: Headers) -> Callable[[HttpRequest], Any] | None:
    if auth is None:
        return None
    if not callable(auth) and "authorization" in fields:
        raise ValueError("auth and an Authorization header were given: give only one of them")
    return authorize(auth)


def _url_authorizer(user_info: UserInfo) -> Callable[[HttpRequest], Any]:
    """Raise TransportFailure if the credentials are invalid, because an invalid URL is a failure of the call."""
    try:
        return basic(*user_info)
    except ValueError:
        raise TransportFailure(
            "invalid_url",
            "the user name in the URL contains a colon, which Basic credentials cannot contain (RFC 7617)",
        ) from None
