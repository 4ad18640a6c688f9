"""One call from its first request to its response: redirects, retries and authentication under one deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zcli_core.http.contract import HttpRequest, HttpResponse, TransportFailure, Url, sooner
from zcli_core.http.redirects import next_request, same_site
from zcli_core.http.retries import Retries
from zcli_core.net.hosts import split_host

if TYPE_CHECKING:
    from zcli_core.config.sections import Http
    from zcli_core.http.cookies import RedirectCookies
    from zcli_core.http.guarded_transport import GuardedTransport
    from zcli_core.http.options import Timeouts


class CertificateHosts:
    """The hosts that the client certificate is shown to, from the setting ``http.client_cert_hosts``.

    ``url in hosts`` is true if the URL's host is listed, with the URL's port or without a port.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        """Parse the hosts.

        Raises:
            ValueError: One of them is not a host.
        """
        self._listed = frozenset(map(split_host, hosts))

    def __contains__(self, url: Url) -> bool:
        return not self._listed.isdisjoint(((url.host, None), (url.host, url.port)))


@dataclass(slots=True)
class Call:
    """The requests of one call, one after another.

    Attributes:
        transport: What sends each request.
        settings: The settings of the section ``http``.
        log: Where a retry is logged.
        started: When the call began, as a reading of :func:`time.monotonic`.
        timeouts: How long the call and each attempt may take.
        retries: How often requests of this call may be repeated.
        follow_redirects: Whether a redirect is followed or returned.
        authorize: Adds the caller's credentials to a request; None if there are none.
        certificate_hosts: The hosts that the client certificate is shown to; None stands for the host of the first
            request.
    """

    transport: GuardedTransport
    settings: Http
    log: logging.Logger
    started: float
    timeouts: Timeouts
    retries: Retries
    follow_redirects: bool
    authorize: Callable[[HttpRequest], Any] | None
    certificate_hosts: CertificateHosts | None

    @property
    def _deadline(self) -> float:
        return self.started + self.timeouts.total

    def run(self, request: HttpRequest) -> HttpResponse:
        """Send the request, follow redirects, and return the last response.

        Raises:
            TransportFailure: There is no response.
        """
        if self.authorize is not None:
            self.authorize(request)
        request.shows_certificate = self.certificate_hosts is None or request.url in self.certificate_hosts
        response = self._send(request, ())
        if self.follow_redirects and response.is_redirect and self.settings.max_redirects:
            return self._follow(request, response)
        return response

    def _send(self, request: HttpRequest, history: tuple[HttpResponse, ...]) -> HttpResponse:
        """Send one request, repeat it as often as the call allows, and return its response."""
        retries = self.retries
        _, request.connect_timeout, request.read_timeout = self.timeouts
        while True:
            try:
                raw = self.transport.send(request, self._attempt_deadline(), self.settings.max_response_bytes)
            except TransportFailure as failure:
                pause = retries.pause(request, failure)
                if pause is None or not self._has_time_for(pause):
                    raise
                outcome = str(failure)
            else:
                pause = retries.pause(request, raw) if retries.left else None
                if pause is None or not self._has_time_for(pause):
                    return HttpResponse(raw, request, time.monotonic() - self.started, history)
                outcome = f"{raw.status} {raw.reason}"
            self.log.info("%s %s: %s; trying again in %.2f s", request.method, request.url.redacted(), outcome, pause)
            time.sleep(pause)

    def _has_time_for(self, pause: float) -> bool:
        return time.monotonic() + pause < self._deadline

    def _attempt_deadline(self) -> float:
        """Return the deadline of the next attempt, which also serves transports that ignore the request's limits."""
        _, connect, read = self.timeouts
        return self._deadline if connect is None or read is None else sooner(self._deadline, connect + read)

    def _follow(self, first: HttpRequest, response: HttpResponse) -> HttpResponse:
        cookies: RedirectCookies | None = None
        authorize = self.authorize
        while response.is_redirect:
            request = next_request(response)
            if len(response.history) == self.settings.max_redirects:
                raise TransportFailure(
                    "too_many_redirects",
                    f"redirected more than {self.settings.max_redirects} times (http.max_redirects), the last time to "
                    f"{request.url.redacted()}",
                )
            if cookies is None and "set-cookie" in response.headers:
                from zcli_core.http.cookies import RedirectCookies

                cookies = RedirectCookies(first)
            if cookies is not None:
                cookies.store(response)
                cookies.add_to(request)
            is_same_site = same_site(response.request.url, request.url)
            if not is_same_site:
                authorize = None
            # Once hidden, the certificate stays hidden: a site in between decided where the next request goes.
            may_see = is_same_site if self.certificate_hosts is None else request.url in self.certificate_hosts
            request.shows_certificate = response.request.shows_certificate and may_see
            if authorize is not None:
                authorize(request)
            response = self._send(request, (*response.history, response))
        return response
