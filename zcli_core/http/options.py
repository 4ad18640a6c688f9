"""The arguments of a call: their types, and the checks that turn a caller's mistake into a clear error at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from zcli_core.http.contract import Body, Headers, check_header
from zcli_core.http.streamed_body import StreamedBody
from zcli_core.http.values import Pairs, pairs_of, plain_text
from zcli_core.net.validation import LONGEST_TIMEOUT, valid_timeout

if TYPE_CHECKING:
    from zcli_core.http.auth import Auth
    from zcli_core.http.multipart import Files

#: What may be given as ``headers``. A value may be str, bytes or int; None leaves out a header that zCLI would send.
HeadersLike = Mapping[str, Any] | Iterable[tuple[str, Any]]

#: Seconds for the whole call, or (connect, read): limits of each attempt, None for one that is not limited.
Timeout = float | tuple[float | None, float | None]


class RequestOptions(TypedDict, total=False):
    """What every call of the HTTP client takes by keyword only; :meth:`HttpClient.request` explains them."""

    json: Any
    form: Pairs | None
    files: Files | None
    auth: Auth | None
    retries: int | None
    retry_all_methods: bool | None
    follow_redirects: bool


# What scripts that used requests, httpx or aiohttp pass, and what zCLI has in its place.
_INSTEAD = {
    "verify": "certificates are always verified; set http.ca_file to trust an authority of your own",
    "ssl": "certificates are always verified; set http.ca_file to trust an authority of your own",
    "cert": "set http.client_cert, http.client_key and, for more hosts than the first, http.client_cert_hosts",
    "proxies": "set HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment, or http.trust_env: false to ignore them",
    "cookies": "use headers={'Cookie': 'name=value'}; a cookie that a redirect sets is kept within the call",
    "stream": "the whole body is read within the timeout; http.max_response_bytes limits its size",
    "allow_redirects": "use follow_redirects=",
    "max_redirects": "set http.max_redirects",
    "content": "use data=",
    "body": "use data=",
    "query": "use params=",
    "trust_env": "set http.trust_env",
    "max_bytes": "set http.max_response_bytes",
    "raise_for_status": "call raise_for_status() on the response",
}
_INSTEAD["proxy"] = _INSTEAD["proxies"]


def unknown_argument(name: str) -> TypeError:
    """Return the error for a keyword argument that calls do not have: what to use in its place, or the nearest name."""
    if name in _INSTEAD:
        return TypeError(f"{name}= is not an argument of HTTP calls: {_INSTEAD[name]}")
    from zcli_core.suggestions import suggestion

    known = ("params", "data", "headers", "timeout", *RequestOptions.__annotations__)
    return TypeError(f"{name}= is not an argument of HTTP calls{suggestion(name, known)}")


def checked_method(method: object) -> str:
    """Return the method in upper case. Raises TypeError or ValueError if it is invalid (RFC 9110, section 9.1)."""
    if not isinstance(method, str):
        raise TypeError(f"the method must be a str such as 'GET', got {type(method).__name__}")
    upper = method.upper()
    if upper in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        return upper
    if not (upper.isascii() and upper.replace("-", "").isalpha()) or upper == "CONNECT":
        raise ValueError(f"the method must be letters and hyphens such as 'GET', and not CONNECT, got {method!r}")
    return upper


class Timeouts(NamedTuple):
    """How long a call and each of its attempts may take, in seconds; None where only the call is limited."""

    total: float
    connect: float | None = None
    read: float | None = None


def checked_timeout(timeout: object, default: float, attempts: int) -> Timeouts:
    """Return the limits that an argument ``timeout`` means.

    Args:
        timeout: See :data:`Timeout`; None stands for ``default``.
        default: The setting ``http.timeout``, in seconds.
        attempts: How often each request may be sent. With a pair (connect, read) the whole call has ``default`` seconds,
            or as long as that many attempts need if that is longer.

    Raises:
        ValueError: It is neither a finite number above 0 nor a pair of such numbers.
    """
    if timeout is None:
        return Timeouts(default)
    if not isinstance(timeout, (tuple, list)):
        return Timeouts(valid_timeout(timeout))
    if len(timeout) != 2:
        raise ValueError(
            f"timeout must be a number of seconds above 0 for the whole call, or (connect, read), got {timeout!r}"
        )
    connect, read = (
        None if limit is None else valid_timeout(limit, name)
        for limit, name in zip(timeout, ("the connect timeout", "the read timeout"))
    )
    needed = attempts * ((connect or 0) + (read or 0))
    return Timeouts(min(max(default, needed), LONGEST_TIMEOUT), connect, read)


def checked_retries(retries: object) -> int:
    """Return the number of retries. Raises ValueError if it is not a whole number from 0."""
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries must be a whole number from 0, got {retries!r}")
    return retries


# Two of these are read in different ways by a proxy and the server behind it.
_ONCE = ("Host", "Content-Length", "Content-Type")


def merge_headers(defaults: list[tuple[str, str]], given: HeadersLike | None) -> Headers:
    """Return the caller's headers laid over the defaults.

    Raises:
        ValueError: A name or value cannot be sent.
        TypeError: The argument does not consist of headers.
    """
    merged = Headers(defaults)
    if given is None:
        return merged
    fields = pairs_of(given, "headers")
    for name, _ in fields:
        if isinstance(name, str):
            merged.pop(name)
    for name, value in fields:
        if value is not None:
            merged.add(plain_text(name) if isinstance(name, str) else name, _header_text(name, value))
        else:
            check_header(name, "")
    return merged


def _header_text(name: str, value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return value.strip(" \t")
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value)
    raise TypeError(f"the value of header {name} must be str, bytes or int, got {type(value).__name__}")


def describe_body(fields: Headers, body: Body) -> None:
    """Make the headers agree with the body: its multipart boundary, and its length unless the caller gave it.

    Raises:
        ValueError: The caller's Content-Type or Content-Length does not fit the body, there is a Transfer-Encoding, or
            a header is given twice that has one value. Two statements of where a body ends, or to whom it goes, let one
            request pass for two (RFC 9112, section 11.2).
    """
    for name in _ONCE:
        if len(fields.get_all(name)) > 1:
            raise ValueError(f"{name} was given more than once: a request has one")
    if "transfer-encoding" in fields:
        raise ValueError("a Transfer-Encoding header was given: how a body is sent follows from what it is")
    content_type = fields.get("content-type", "")
    agree_with = getattr(body, "agree_with", None)
    if content_type and agree_with is not None:
        fields["Content-Type"] = agree_with(content_type)
    elif body is not None and content_type.lower().startswith("multipart/") and "boundary" not in content_type.lower():
        raise ValueError(
            f"the Content-Type {content_type!r} was given without a boundary, and the body is not multipart: give the "
            "fields as form= with files={}, or leave out the header"
        )
    length = 0 if body is None else len(body) if isinstance(body, bytes) else getattr(body, "length", None)
    announced = fields.get("content-length")
    if announced is None:
        if length is not None and not isinstance(body, (bytes, type(None))):
            fields.add("Content-Length", str(length))
    elif not (announced.isascii() and announced.isdigit()) or length not in (None, int(announced)):
        raise ValueError(f"Content-Length {announced} was given, and the body has {length} bytes")
    elif isinstance(body, StreamedBody):
        body.length = int(announced)
