"""Proxies from the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in lower or upper case.

For transports, where ``http.trust_env`` is on. Every engine reads these variables in a way of its own, and a program
should not reach other hosts when its transport is swapped.
"""

from __future__ import annotations

import ipaddress
import os
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from zcli_core.http.contract import TransportFailure, Url
from zcli_core.net.hosts import ascii_host


class Proxy(NamedTuple):
    """Where a proxy is. ``authorization`` is the Proxy-Authorization header that it wants, or None."""

    scheme: str
    host: str
    port: int
    authorization: str | None

    def __repr__(self) -> str:
        return f"<Proxy {self.scheme}://{self.host}:{self.port}>"


def proxy_for(url: Url) -> Proxy | None:
    """The proxy that the environment names for a URL, as of now; None for a direct connection.

    Raises TransportFailure of kind ``proxy`` if it names one that cannot be used.
    """
    value, variable = _variable(url.scheme)
    if not value or _is_exempt(url, os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""):
        return None
    return _parse(value, variable)


def _variable(scheme: str) -> tuple[str | None, str]:
    get = os.environ.get
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        # A web server hands a request's "Proxy" header to CGI programs as HTTP_PROXY (CVE-2016-5385).
        if (value := get(name)) is not None and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            return value.strip(), name
    return None, ""


def _parse(value: str, variable: str) -> Proxy:
    """The value may hold a password and is never repeated."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname and ascii_host(parts.hostname), parts.port
    except ValueError:
        host = port = None
        parts = SplitResult("http", "", "", "", "")
    if parts.scheme not in ("http", "https"):
        raise TransportFailure(
            "proxy", f"{variable} names a {parts.scheme}:// proxy; this transport knows http:// and https:// ones"
        )
    if not host or not value.isprintable():  # os.environ has lone surrogates for what is no UTF-8
        raise TransportFailure("proxy", f"{variable} is no address of a proxy such as http://proxy.example:3128")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode("ascii")
    return Proxy(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), authorization)


def _is_exempt(url: Url, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host: ``*``, a domain with everything below it, an address, a network, each with or
    without a port."""
    host = url.host.rstrip(".")
    for entry in no_proxy.replace(",", " ").lower().split():
        if entry == "*":
            return True
        name, port = _split_port(entry)
        if port is not None and port != url.port:
            continue
        name = _normalised(name.removeprefix("*").strip("."))
        if name and (host == name or host.endswith("." + name) or _in_network(host, name)):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isascii() and port.isdigit() else None


def _normalised(name: str) -> str:
    """A name as it stands in ``Url.host``; anything else, such as a network, as it is."""
    try:
        return ascii_host(name)
    except ValueError:
        return name


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
