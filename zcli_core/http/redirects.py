"""Redirects: the request that a redirect leads to, and which headers it keeps (RFC 9110, section 15.4)."""

from __future__ import annotations

from zcli_core.http.contract import Body, Headers, HttpRequest, HttpResponse, TransportFailure, Url
from zcli_core.http.urls import resolve

# Headers that may be sent to another site. We cannot list every header that may carry a credential (X-Api-Key,
# X-Auth-Token, a company's own), so only these are forwarded.
_FORWARDED = frozenset({
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

_BODY_HEADERS = frozenset({
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


def next_request(response: HttpResponse) -> HttpRequest:
    """Return the request that a redirect leads to.

    301 and 302 turn a POST into a GET, 303 every method but HEAD, as browsers do; 307 and 308 repeat the request
    unchanged. Headers that may carry credentials are not sent to another site.

    Raises:
        TransportFailure: ``protocol``, ``invalid_url``, ``insecure_redirect``, ``unrepeatable_body``.
    """
    old = response.request
    locations = set(response.headers.get_all("location"))
    if len(locations) != 1:
        raise TransportFailure("protocol", f"the response redirects to {len(locations)} different addresses")
    url = resolve(old.url, locations.pop())
    if (old.url.scheme, url.scheme) == ("https", "http"):
        raise TransportFailure(
            "insecure_redirect", f"redirected from https:// to {url.redacted()}, which is not encrypted"
        )
    method = _next_method(old.method, response.status_code)
    body = old.body if method == old.method else None
    if not is_repeatable(body):
        raise TransportFailure(
            "unrepeatable_body",
            f"redirected with status {response.status_code} to {url.redacted()}, so the body must be sent again, "
            "but it can be read only once: send bytes or a file",
        )
    fields = old.headers.items()
    if method != old.method:
        fields = [field for field in fields if field[0].lower() not in _BODY_HEADERS]
    if not same_site(old.url, url):
        fields = [field for field in fields if field[0].lower() in _FORWARDED]
    return HttpRequest(method, url, Headers(fields), body)


def same_site(old: Url, new: Url) -> bool:
    """Return whether credentials for one URL may be sent to another: same origin, or the same host's move to https."""
    upgraded = old.host == new.host and (old.scheme, old.port, new.scheme, new.port) == ("http", 80, "https", 443)
    return old.origin == new.origin or upgraded


def _next_method(method: str, status: int) -> str:
    if status == 303 and method != "HEAD":
        return "GET"
    if status in (301, 302) and method == "POST":
        return "GET"
    return method
