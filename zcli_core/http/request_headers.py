"""The headers of a request: merge the caller's headers with the defaults, and make them agree with the body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from zcli_core.http.contract import Body, Headers, check_header
from zcli_core.http.values import pairs_of, plain_text

#: What may be given as ``headers``. A value may be str, bytes or int; None leaves out a header that zCLI would send.
HeadersLike = Mapping[str, Any] | Iterable[tuple[str, Any]]

# A proxy and the server behind it may read a request with two of these in different ways.
_ONCE = ("Host", "Content-Length", "Content-Type")


def merge_headers(defaults: list[tuple[str, str]], given: HeadersLike | None) -> Headers:
    """Return the default headers, replaced by the caller's headers of the same name.

    Raises:
        ValueError: A name or value cannot be sent.
        TypeError: ``given`` is not a mapping or an iterable of pairs, or a value has another type.
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
    """Make the headers agree with the body: its multipart boundary, and its length unless the caller gave one.

    Raises:
        ValueError: The caller's Content-Type or Content-Length does not fit the body, there is a Transfer-Encoding, or
            Host, Content-Length or Content-Type is given twice. A proxy and a server could read such a request in
            different ways, for example as two requests (RFC 9112, section 11.2).
    """
    for name in _ONCE:
        if len(fields.get_all(name)) > 1:
            raise ValueError(f"{name} was given more than once: a request has only one")
    if "transfer-encoding" in fields:
        raise ValueError("a Transfer-Encoding header was given: leave it out, zCLI sets it if the body needs it")
    content_type = fields.get("content-type", "")
    agree_with = getattr(body, "agree_with", None)
    if content_type and agree_with is not None:
        fields["Content-Type"] = agree_with(content_type)
    elif body is not None and content_type.lower().startswith("multipart/") and "boundary" not in content_type.lower():
        raise ValueError(
            f"the Content-Type {content_type!r} has no boundary, and the body is not multipart: give the fields as "
            "form= with files={}, or leave out the header"
        )
    length = 0 if body is None else len(body) if isinstance(body, bytes) else getattr(body, "length", None)
    announced = fields.get("content-length")
    if announced is None:
        if length is not None and not isinstance(body, (bytes, type(None))):
            fields.add("Content-Length", str(length))
    elif not (announced.isascii() and announced.isdigit()) or length not in (None, int(announced)):
        raise ValueError(f"Content-Length is {announced}, but the body has {length} bytes")
