"""One call from its first request to its response: redirects, retries and authentication under one deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zcli_core.http.contract import HttpRequest, HttpResponse, RawResponse, TransportFailure, sooner
from zcli_core.http.redirects import follow, same_site
from zcli_core.http.retries import Retries

if TYPE_CHECKING:
    from zcli_core.http.certificate_hosts import CertificateHosts
    from zcli_core.http.cookies import RedirectCookies
    from zcli_core.http.options import Timeouts

Send = Callable[[HttpRequest, float, int], RawResponse]


class Call:
    """What one call may do and has done so far."""

    __slots__ = (
        "_authorize",
        "_certificate_hosts",
        "_deadline",
        "_log",
        "_max_bytes",
        "_max_redirects",
        "_retries",
        "_send",
        "_started",
        "_timeouts",
    )

    def __init__(
        self,
        send: Send,
        log: logging.Logger,
        *,
        started: float,
        deadline: float,
        timeouts: Timeouts,
        max_bytes: int,
        max_redirects: int,
        retries: Retries,
        authorize: Callable[[HttpRequest], Any] | None,
        certificate_hosts: CertificateHosts | None,
    ) -> None:
        self._send = send
        self._log = log
        self._started = started
        self._deadline = deadline
        self._timeouts = timeouts
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects
        self._retries = retries
        self._authorize = authorize
        self._certificate_hosts = certificate_hosts

    def run(self, request: HttpRequest) -> HttpResponse:
        """Send the request, follow redirects, and return the last response.

        Raises:
            TransportFailure: There is no response.
        """
        if self._authorize is not None:
            self._authorize(request)
        request.shows_certificate = self._certificate_hosts is None or request.url in self._certificate_hosts
        response = self._exchange(request, ())
        if self._max_redirects and response.is_redirect:
            return self._follow(request, response)
        return response

    def _exchange(self, request: HttpRequest, history: tuple[HttpResponse, ...]) -> HttpResponse:
        """Send one request, repeated as often as the call allows, and return its response."""
        retries = self._retries
        _, request.connect_timeout, request.read_timeout = self._timeouts
        while True:
            try:
                raw = self._send(request, self._attempt_deadline(), self._max_bytes)
            except TransportFailure as failure:
                pause = retries.pause(request, failure)
                if pause is None:
                    raise
                outcome = str(failure)
            else:
                pause = retries.pause(request, raw) if retries.left else None
                if pause is None:
                    return HttpResponse(raw, request, time.monotonic() - self._started, history)
                outcome = f"{raw.status} {raw.reason}"
            self._log.info("%s %s: %s; trying again in %.2f s", request.method, request.url.redacted(), outcome, pause)
            time.sleep(pause)

    def _attempt_deadline(self) -> float:
        """The deadline of the next attempt, also for a transport that does not know the limits of the request."""
        _, connect, read = self._timeouts
        return self._deadline if connect is None or read is None else sooner(self._deadline, connect + read)

    def _follow(self, first: HttpRequest, response: HttpResponse) -> HttpResponse:
        cookies: RedirectCookies | None = None
        authorize = self._authorize
        while response.is_redirect:
            if len(response.history) == self._max_redirects:
                raise TransportFailure(
                    "too_many_redirects",
                    f"redirected more than {self._max_redirects} times (http.max_redirects), at last to "
                    f"{follow(response).url.redacted()}",
                )
            request = follow(response)
            if cookies is None and "set-cookie" in response.headers:
                from zcli_core.http.cookies import RedirectCookies

                cookies = RedirectCookies(first)
            if cookies is not None:
                cookies.take(response)
                cookies.put(request)
            is_same_site = same_site(response.request.url, request.url)
            if not is_same_site:
                authorize = None
            # Not shown again later either: a site in between decides where the next request goes.
            may_see = is_same_site if self._certificate_hosts is None else request.url in self._certificate_hosts
            request.shows_certificate = response.request.shows_certificate and may_see
            if authorize is not None:
                authorize(request)
            response = self._exchange(request, (*response.history, response))
        return response
