"""Cookies within one call: a cookie that a redirect sets is sent with the next request. None is kept after the call.

A cookie goes to the host that set it and to no other: without a list of public suffixes, ``evil.github.io`` could set
one for ``victim.github.io``.
"""

from __future__ import annotations

import email.message
import urllib.request
from http.cookiejar import CookieJar

from zcli_core.http.contract import HttpRequest, HttpResponse


class RedirectCookies:
    """The cookies of one chain of redirects, under the rules of path and Secure that browsers follow."""

    def __init__(self, first: HttpRequest) -> None:
        self._jar = CookieJar()
        self._own = "; ".join(first.headers.get_all("cookie"))

    def store(self, response: HttpResponse) -> None:
        """Keep the cookies that a response sets."""
        self._jar.extract_cookies(_JarResponse(response), _jar_request(response.request))  # type: ignore[arg-type]

    def add_to(self, request: HttpRequest) -> None:
        """Write the Cookie header: the cookies set for this URL, and the caller's own if the request still has them."""
        own = self._own if request.headers.pop("cookie") else ""
        jar_request = _jar_request(request)
        self._jar.add_cookie_header(jar_request)
        stored = jar_request.get_header("Cookie", "") or ""
        names = {cookie.partition("=")[0] for cookie in stored.split("; ")}
        kept = [cookie for cookie in own.split("; ") if cookie.partition("=")[0] not in names]
        cookies = "; ".join(cookie for cookie in (*kept, stored) if cookie)
        if cookies:
            request.headers["Cookie"] = cookies


def _jar_request(request: HttpRequest) -> urllib.request.Request:
    return urllib.request.Request(str(request.url), method=request.method)  # noqa: S310 - it is never opened


class _JarResponse:
    """A response as ``http.cookiejar`` reads it."""

    def __init__(self, response: HttpResponse) -> None:
        self._response = response

    def info(self) -> email.message.Message:
        message = email.message.Message()
        host = self._response.request.url.host
        for field in self._response.headers.get_all("set-cookie"):
            own = _host_only(field, host)
            if own is not None:
                message["Set-Cookie"] = own
        return message


def _host_only(field: str, host: str) -> str | None:
    """Return a Set-Cookie field without Domain; None if its Domain is not the host's (RFC 6265, section 5.3)."""
    pair, *attributes = field.split(";")
    kept = [pair]
    for attribute in attributes:
        name, _, value = attribute.partition("=")
        if name.strip().lower() != "domain":
            kept.append(attribute)
            continue
        domain = value.strip().strip(".").lower()
        if domain and host != domain and not host.endswith(f".{domain}"):
            return None
    return ";".join(kept)
