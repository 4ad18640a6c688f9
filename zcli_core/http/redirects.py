"""Redirects: when to follow one, and what of the request may travel along (RFC 9110, section 15.4)."""

from __future__ import annotations

from zcli_core.http.contract import Body, Headers, HttpRequest, HttpResponse, TransportFailure, Url
from zcli_core.http.urls import resolve

# What may go to another site. Every other header is left out, because a list of headers that may hold a key (X-Api-Key,
# X-Auth-Token, a company's own) can never be complete.
_HARMLESS = frozenset({
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "range",
    "user-agent",
})  # fmt: skip

_ABOUT_THE_BODY = frozenset({
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "transfer-encoding",
})  # fmt: skip


def is_repeatable(body: Body) -> bool:
    """Return whether a body can be sent a second time."""
    return body is None or isinstance(body, bytes) or getattr(body, "repeatable", False)


def follow(response: HttpResponse) -> HttpRequest:
    """Return the request that a redirect asks for.

    301 and 302 turn a POST into a GET, 303 every method but HEAD, as browsers do; 307 and 308 repeat the request
    unchanged. Headers that may be credentials are sent only to the site that they were given for.

    Raises:
        TransportFailure: ``protocol``, ``invalid_url``, ``insecure_redirect``, ``unrepeatable_body``.
    """
    old = response.request
    locations = set(response.headers.get_all("location"))
    if len(locations) != 1:
        raise TransportFailure("protocol", f"redirected to {len(locations)} different addresses at the same time")
    url = resolve(old.url, locations.pop())
    if (old.url.scheme, url.scheme) == ("https", "http"):
        raise TransportFailure(
            "insecure_redirect",
            f"redirected from https:// to {url.redacted()}, where anybody could read and change what is sent",
        )
    method = _next_method(old.method, response.status_code)
    body = old.body if method == old.method else None
    if not is_repeatable(body):
        raise TransportFailure(
            "unrepeatable_body",
            f"redirected with status {response.status_code} to {url.redacted()}, which needs the body again, but it "
            "can be read only once: send bytes or a file",
        )
    fields = old.headers.items()
    if method != old.method:
        fields = [field for field in fields if field[0].lower() not in _ABOUT_THE_BODY]
    if not same_site(old.url, url):
        fields = [field for field in fields if field[0].lower() in _HARMLESS]
    return HttpRequest(method, url, Headers(fields), body)


def same_site(old: Url, new: Url) -> bool:
    """Whether credentials meant for one URL may go to another: the same origin, or its own move to https."""
    upgraded = old.host == new.host and (old.scheme, old.port, new.scheme, new.port) == ("http", 80, "https", 443)
    return old.origin == new.origin or upgraded


def _next_method(method: str, status: int) -> str:
    if status == 303 and method != "HEAD":
        return "GET"
    if status in (301, 302) and method == "POST":
        return "GET"
    return method
