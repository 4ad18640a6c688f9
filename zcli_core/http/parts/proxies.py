"""Proxies from the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in lower or upper case.

Transports use this module if ``http.trust_env`` is on. HTTP libraries read these variables in different ways, and a
program should use the same proxies with every transport.
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
    """The address of a proxy. ``authorization`` is the value of the Proxy-Authorization header, or None."""

    scheme: str
    host: str
    port: int
    authorization: str | None

    def __repr__(self) -> str:
        return f"<Proxy {self.scheme}://{self.host}:{self.port}>"


def proxy_for(url: Url) -> Proxy | None:
    """Return the proxy that the environment names for a URL now, or None for a direct connection.

    Raises:
        TransportFailure: ``proxy``: the environment names a proxy that cannot be used.
    """
    value, variable = _variable(url.scheme)
    if not value or _is_exempt(url, os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""):
        return None
    return _parse(value, variable)


def _variable(scheme: str) -> tuple[str | None, str]:
    get = os.environ.get
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        # Web servers pass a request's header "Proxy" to CGI programs as HTTP_PROXY (CVE-2016-5385).
        if (value := get(name)) is not None and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            return value.strip(), name
    return None, ""


def _parse(value: str, variable: str) -> Proxy:
    """Parse the value of a variable. It may hold a password, so no message repeats it."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname and ascii_host(parts.hostname), parts.port
    except ValueError:
        host = port = None
        parts = SplitResult("http", "", "", "", "")
    if parts.scheme not in ("http", "https"):
        raise TransportFailure(
            "proxy", f"{variable} names a {parts.scheme}:// proxy, but only http:// and https:// proxies are supported"
        )
    if not host or not value.isprintable():  # os.environ has lone surrogates for bytes that are not UTF-8
        raise TransportFailure("proxy", f"{variable} must be the address of a proxy such as http://proxy.example:3128")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode("ascii")
    return Proxy(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), authorization)


def _is_exempt(url: Url, no_proxy: str) -> bool:
    """Return whether NO_PROXY names the host.

    An entry is ``*``, a domain (which includes its subdomains), an address or a network, each with or without a port.
    """
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
    """Return a name in the form of ``Url.host``; other text, such as a network, unchanged."""
    try:
        return ascii_host(name)
    except ValueError:
        return name


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
