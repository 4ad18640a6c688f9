"""Reading URLs as people write them: normalised (RFC 3986), with credentials taken out, or refused with a reason."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlencode, urljoin, urlsplit

from zcli_core.contracts.http import DEFAULT_PORTS, TransportFailure, Url

#: What may be given as ``params`` or ``form``: text that is ready, or names with values. A list of values repeats
#: the name; None leaves it out; True and False are sent as ``true`` and ``false``.
Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]

#: The user and the password that a URL carried.
UserInfo = tuple[str, str]

# A URL that needs no normalising, as nearly all are; the rest takes the long way.
_ORDINARY = re.compile(
    r"(https?)://([a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::([1-9][0-9]{0,4}))?"
    r"((?:/(?:[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)?)*)(\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"
)
# What stands in a port's place and is none: perhaps a password whose @ was forgotten.
_NO_PORT = re.compile(r"^([^/?#]*//[^/?#:]*):(?![0-9]*(?:[/?#]|$))[^/?#]*")
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
_SAFE_IN_PATH = "/%:@!$&'()*+,;=~"
_SAFE_IN_QUERY = _SAFE_IN_PATH + "?"


def parse_url(text: object) -> tuple[Url, UserInfo | None]:
    """Take a URL apart.

    Raises TransportFailure of kind ``invalid_url`` for anything that is no absolute http or https URL; the message
    does not repeat the URL, which may hold a password.
    """
    if not isinstance(text, str):
        raise _invalid(f"the URL must be a string, not {type(text).__name__}")
    ordinary = _ORDINARY.fullmatch(text)
    if ordinary is not None:
        scheme, host, port, path, query = ordinary.groups()
        number = int(port) if port else DEFAULT_PORTS[scheme]
        if number <= 65535 and len(host) <= _LONGEST_LABEL:
            return Url(scheme, host, number, (path or "/") + (query or "")), None
    return _parse_carefully(text.strip())


def _parse_carefully(text: str) -> tuple[Url, UserInfo | None]:
    if not text:
        raise _invalid("the URL is empty")
    if any(character < " " or character == "\x7f" for character in text):
        raise _invalid("the URL contains a control character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _invalid("the URL contains a lone surrogate, which no encoding can carry")
    # Python's own sentences are not passed on: they may repeat a password that was taken for a port.
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _invalid("the URL's host cannot be read") from None
    if parts.scheme not in DEFAULT_PORTS:
        if not parts.scheme or not parts.netloc:
            raise _invalid("the URL must begin with http:// or https://")
        raise _invalid(f"{parts.scheme}:// is not supported: the URL must begin with http:// or https://")
    if not parts.hostname:
        raise _invalid("the URL has no host")
    target = quote(_without_dots(parts.path) or "/", safe=_SAFE_IN_PATH)
    if parts.query:
        target += "?" + quote(parts.query, safe=_SAFE_IN_QUERY)
    target = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", target)
    user_info = (unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None
    return Url(parts.scheme, _host(parts), _port(parts), target), user_info


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _invalid("the URL's port is no number from 1 to 65535")
    return port or DEFAULT_PORTS[parts.scheme]


def _host(parts: SplitResult) -> str:
    """The host as ASCII: an IP address, or a name by IDNA."""
    name = parts.hostname or ""
    if "[" in parts.netloc.rpartition("@")[2]:
        import ipaddress

        try:
            return str(ipaddress.IPv6Address(name.replace("%25", "%", 1)))
        except ValueError:
            raise _invalid("the URL's host is no IPv6 address") from None
    if len(name) > _LONGEST_NAME:
        raise _invalid(f"the URL's host is longer than {_LONGEST_NAME} characters")
    try:
        name = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise _invalid("the URL's host is no domain name: a part of it is empty, too long or not allowed") from None
    if not re.fullmatch(r"[a-z0-9_.-]+", name):
        raise _invalid("the URL's host contains a character that no domain name has")
    return name


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4: resolve ``.`` and ``..``."""
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
    """The URL with a query added to the one it has."""
    query = params.lstrip("?") if isinstance(params, str) else encode_pairs(params, "params")
    if not query:
        return url
    joint = "" if url.target.endswith(("?", "&")) else "&" if "?" in url.target else "?"
    return url._replace(target=url.target + joint + quote(query, safe=_SAFE_IN_QUERY))


def encode_pairs(pairs: Pairs, argument: str) -> str:
    """Names with values as application/x-www-form-urlencoded.

    Raises TypeError, naming the argument, for anything else than names with values.
    """
    return urlencode(list(flat_pairs(pairs, argument)))


def flat_pairs(pairs: Pairs, argument: str) -> Iterable[tuple[str, str | bytes]]:
    """Names with single values: lists spread out, None left out, booleans in lower case."""
    if isinstance(pairs, (str, bytes)):
        raise TypeError(f"{argument} must be a mapping or a list of (name, value) pairs, not {type(pairs).__name__}")
    try:
        items = list(pairs.items()) if isinstance(pairs, Mapping) else [(name, value) for name, value in pairs]
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must be a mapping or a list of (name, value) pairs") from None
    for name, value in items:
        for single in value if isinstance(value, (list, tuple, set, frozenset)) else (value,):
            if single is not None:
                yield str(name), _as_text(single, name, argument)


def _as_text(value: Any, name: object, argument: str) -> str | bytes:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value
    if isinstance(value, (dict, bytearray, memoryview)):
        raise TypeError(f"the value of {name!r} in {argument} cannot be a {type(value).__name__}")
    return str(value)


def resolve(base: Url, location: str) -> Url:
    """The URL that a Location header means, relative to the URL that sent it.

    Raises TransportFailure of kind ``invalid_url``. Credentials in a Location are not used: the other side wrote them.
    """
    # A header arrives as Latin-1; servers that send other characters unencoded send UTF-8.
    with contextlib.suppress(UnicodeError):
        location = location.encode("latin-1").decode("utf-8")
    location = location.strip()
    try:
        is_whole = location.lower().startswith(("http://", "https://"))
        return parse_url(location if is_whole else urljoin(str(base), location))[0]
    except ValueError:
        raise _invalid("redirected to an address that cannot be read") from None
    except TransportFailure as failure:
        raise _invalid(f"redirected to an address that cannot be used: {failure.message}") from None


def shown(text: object) -> str:
    """Something given as a URL, as it may be logged: without credentials, query values and control characters."""
    try:
        return parse_url(text)[0].redacted()
    except TransportFailure:
        if not isinstance(text, str):
            return f"<{type(text).__name__}>"
    # A URL that cannot be read may have its password anywhere before the last @.
    scheme, mark, rest = text.partition("://")
    without_credentials = (f"{scheme}{mark}" if mark else "") + (rest if mark else text).rpartition("@")[2]
    path, question, _ = _NO_PORT.sub(r"\1:***", without_credentials).partition("?")
    return repr((path + question)[:200])[1:-1]


def _invalid(message: str) -> TransportFailure:
    return TransportFailure("invalid_url", message)
