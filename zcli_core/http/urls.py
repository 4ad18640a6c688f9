"""Parsing URLs: they are normalised (RFC 3986), and credentials are taken out."""

from __future__ import annotations

import contextlib
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlencode

from zcli_core.http.contract import DEFAULT_PORTS, TransportFailure, Url
from zcli_core.http.values import Pairs, name_values
from zcli_core.net.hosts import ascii_host
from zcli_core.redaction import redact_invalid_url

#: The user and the password that a URL carried.
UserInfo = tuple[str, str]

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
# A URL that needs no normalising, like most. Every other URL is parsed by _parse_carefully(), such as one whose host is
# an IPv4 address in an unusual form.
_ORDINARY = re.compile(
    rf"(https?)://((?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*|{_OCTET}(?:\.{_OCTET}){{3}})(?::([1-9][0-9]{{0,4}}))?"
    r"((?:/(?:[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)?)*)(\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"
)
# RFC 3986, appendix B. A missing part is None, which differs from an empty one such as "?" without a query.
_PARTS = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(\?[^#]*)?(?:#.*)?", re.DOTALL)
_HOST_AND_PORT = re.compile(r"\[([^\[\]]*)\](?::([^:]*))?|([^:\[\]]*)(?::([^:]*))?")
_MAX_HOST = 63
_SAFE_IN_PATH = "/%:@!$&'()*+,;=~"
_SAFE_IN_QUERY = _SAFE_IN_PATH + "?"


class _Parts(NamedTuple):
    """The parts of a URL or a relative reference. ``query`` begins with its question mark."""

    scheme: str | None
    authority: str | None
    path: str
    query: str | None


def parse_url(text: object) -> tuple[Url, UserInfo | None]:
    """Parse an absolute http or https URL.

    Raises:
        TransportFailure: ``invalid_url``: it is not such a URL, or browsers read it differently. The message does not
            repeat the URL, which may hold a password.
    """
    if not isinstance(text, str):
        raise _invalid(f"the URL must be a str, got {type(text).__name__}")
    ordinary = _ORDINARY.fullmatch(text)
    if ordinary is not None:
        scheme, host, port, path, query = ordinary.groups()
        number = int(port) if port else DEFAULT_PORTS[scheme]
        if number <= 65535 and len(host) <= _MAX_HOST:
            return Url(scheme, host, number, (path or "/") + (query or "")), None
    return _parse_carefully(text.strip(" \t\r\n\f\v"))


def _parse_carefully(text: str) -> tuple[Url, UserInfo | None]:
    if not text:
        raise _invalid("the URL is empty")
    scheme, authority, path, query = _split(text)
    if scheme is None or scheme not in DEFAULT_PORTS:
        if not scheme or not authority:
            raise _invalid("the URL must begin with http:// or https://, as in http://example.com/path")
        raise _invalid(f"{scheme}:// is not supported: the URL must begin with http:// or https://")
    if not authority:
        raise _invalid("the URL has no host")
    user_info, _, host_and_port = authority.rpartition("@")
    if "@" in user_info:
        raise _invalid("the URL has more than one @ before its host: write an @ in a user name or password as %40")
    host, port = _host_and_port(host_and_port)
    return Url(scheme, host, port or DEFAULT_PORTS[scheme], _target(path, query)), _credentials(user_info)


def _split(text: str) -> _Parts:
    """Split a URL or a relative reference, and refuse one that browsers read differently."""
    if any(character < " " or character == "\x7f" for character in text):
        raise _invalid("the URL contains a control character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _invalid("the URL contains a lone surrogate, which cannot be encoded")
    found = _PARTS.fullmatch(text)
    assert found is not None  # the pattern matches any text
    scheme, authority, path, query = found.groups()
    if "\\" in (authority or "") + path:
        raise _invalid("the URL contains a backslash, which browsers read as a slash: write %5C or /")
    return _Parts(scheme and scheme.lower(), authority, path, query)


def _host_and_port(text: str) -> tuple[str, int | None]:
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None:
        raise _invalid("the URL's host is invalid")
    address, port_after_address, name, port_after_name = found.groups()
    host = name if address is None else address
    if not host:
        raise _invalid("the URL has no host")
    if address is not None and ":" not in address:
        raise _invalid("the URL's host is invalid: only an IPv6 address may be in brackets")
    try:
        host = ascii_host(host)
    except ValueError as error:
        raise _invalid(f"the URL's host is invalid: {error}") from None
    return host, _port(port_after_address or port_after_name or "")


def _port(text: str) -> int | None:
    if not text:
        return None
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit()) or not 1 <= len(digits) <= 5 or int(digits) > 65535:
        raise _invalid("the URL's port must be an integer between 1 and 65535")
    return int(digits)


def _credentials(user_info: str) -> UserInfo | None:
    if not user_info:
        return None
    user, _, password = user_info.partition(":")
    try:
        return unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise _invalid("the URL's user name or password is not UTF-8") from None


def _target(path: str, query: str | None) -> str:
    """Return the path and query as they are sent in a request line."""
    target = quote(_without_dots(path) or "/", safe=_SAFE_IN_PATH) + quote(query or "", safe=_SAFE_IN_QUERY)
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", target)


def _without_dots(path: str) -> str:
    """Resolve ``.`` and ``..`` in a path (RFC 3986, section 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def with_params(url: Url, params: Pairs | str) -> Url:
    """Return the URL with names and values, or an encoded query, added to its query."""
    if isinstance(params, str):
        query = quote(params.lstrip("?"), safe=_SAFE_IN_QUERY)
    else:
        query = encode_pairs(params, "params")
    if not query:
        return url
    joint = "" if url.target.endswith(("?", "&")) else "&" if "?" in url.target else "?"
    return url._replace(target=url.target + joint + query)


def encode_pairs(pairs: Pairs, argument: str) -> str:
    """Encode names and values as application/x-www-form-urlencoded.

    Raises:
        TypeError, ValueError: See :func:`~zcli_core.http.values.name_values`.
    """
    return urlencode(name_values(pairs, argument))


def resolve(base: Url, location: str) -> Url:
    """Resolve a Location header relative to the URL that sent it (RFC 3986, section 5.2).

    Credentials in a Location are ignored, because the server wrote them.

    Raises:
        TransportFailure: ``invalid_url``.
    """
    # Headers are decoded as Latin-1, but servers that do not percent-encode a Location send UTF-8.
    with contextlib.suppress(UnicodeError):
        location = location.encode("latin-1").decode("utf-8")
    location = location.strip(" \t")
    try:
        scheme, authority, path, query = _split(location)
        if scheme is None and authority is None:
            return base._replace(target=_relative_target(base.target, path, query))
        url, _ = _parse_carefully(location if scheme else f"{base.scheme}:{location}")
    except TransportFailure as failure:
        raise _invalid(f"the server redirected to an invalid URL: {failure.message}") from None
    if url.host == base.host.partition("%")[0]:
        # The zone of a link-local address has a meaning on this machine only, so the server cannot send it.
        return url._replace(host=base.host)
    return url


def _relative_target(base: str, path: str, query: str | None) -> str:
    old_path, mark, old_query = base.partition("?")
    if not path:
        return _target(old_path, mark + old_query if query is None else query)
    if not path.startswith("/"):
        path = f"{old_path.rpartition('/')[0]}/{path}"
    return _target(path, query)


def shown(text: object) -> str:
    """Return an argument ``url`` for a log: without credentials, query values and control characters."""
    try:
        return parse_url(text)[0].redacted()
    except TransportFailure:
        if not isinstance(text, str):
            return f"<{type(text).__name__}>"
    return redact_invalid_url(text)


def _invalid(message: str) -> TransportFailure:
    return TransportFailure("invalid_url", message)
