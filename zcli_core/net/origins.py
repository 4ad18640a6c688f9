"""Web origins (RFC 6454) and the rules of ``websocket.allowed_origins``, which decide whose pages may connect.

A browser sends the origin of a page with every WebSocket handshake, and the page cannot change it. Checking it keeps
the page of another site from connecting with the visitor's browser. Origins are parsed and compared part by part.
Comparing prefixes or patterns of text has let origins such as ``http://localhost.evil.com`` pass in other programs.

Some client libraries send an Origin that no browser sends: with a slash at its end (``http://localhost/``), or with
the scheme of the WebSocket URL (``ws://``). The slash is ignored, and ``ws`` and ``wss`` are compared as ``http`` and
``https``. This admits no further page, because a page's Origin never has either form.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

NULL = "null"
FILE = "file://"
ANY = "*"

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Schemes that are compared as another scheme.
_SAME_AS = {"ws": "http", "wss": "https"}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_.*-]+)(?::([0-9]{1,5}|\*))?/?", re.IGNORECASE)
#: The longest rule or header in characters, which bounds what a client can make the server parse, keep or log.
_LONGEST = 300


class Origin(NamedTuple):
    """Scheme, host and port. The port is None if none is given and the scheme has no default."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        """Return the origin in lower case and without a default port."""
        shown = "" if self.port in (None, _DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{self.host}{shown}"


class _Rule(NamedTuple):
    """An origin whose host may be ``*.example.com``. ``any_port`` admits every port."""

    origin: Origin
    any_port: bool

    def admits(self, origin: Origin) -> bool:
        scheme, host, port = self.origin
        if origin.scheme != scheme or not (self.any_port or origin.port == port):
            return False
        return origin.host == host or (host[0] == "*" and origin.host.endswith(host[1:]) and origin.host != host[1:])


def parse_origin(text: str) -> Origin | None:
    """Return the origin in an ``Origin`` header, or None if it has no host, such as ``null`` and ``file://``."""
    parsed = _parse(text)
    if parsed is None or parsed.any_port or "*" in parsed.origin.host:
        return None
    return parsed.origin


def _parse(text: str) -> _Rule | None:
    match = _ORIGIN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    scheme, host, port = match.group(1).lower(), match.group(2).lower(), match.group(3)
    scheme = _SAME_AS.get(scheme, scheme)
    if host[0] == "[":
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    if port == "*":
        return _Rule(Origin(scheme, host, None), True)
    number = _DEFAULT_PORTS.get(scheme) if port is None else int(port)
    if number is not None and not 0 < number <= 65535:
        return None
    return _Rule(Origin(scheme, host, number), False)


class OriginRules:
    """The rules of ``allowed_origins``.

    - ``https://example.com``, ``http://localhost:3000``: that scheme, host and port; the scheme's default port if none
      is given.
    - ``http://localhost:*``: any port.
    - ``https://*.example.com``: any name below example.com, at any depth, but not example.com itself.
    - ``file://``: pages opened from a file. Their origin is ``file://`` in Chromium and ``null`` in Firefox. Sandboxed
      frames of any site also have the origin ``null``, so use this rule for development only.
    - ``null``: only the origin ``null``. ``*``: every page.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """Parse the rules.

        Raises:
            ValueError: Rules are invalid; it has an argument for each, which is a sentence.
        """
        self._literal: set[str] = set()
        self._rules: list[_Rule] = []
        problems = []
        for pattern in patterns:
            problem = self._add(pattern)
            if problem:
                problems.append(problem)
        if problems:
            raise ValueError(*problems)

    def _add(self, pattern: str) -> str | None:
        if pattern == FILE:
            self._literal |= {FILE, NULL}
            return None
        if pattern in (NULL, ANY):
            self._literal.add(pattern)
            return None
        rule = _parse(pattern)
        if rule is None:
            return (
                f"{pattern[:_LONGEST]!r} is not an origin; expected scheme://host or scheme://host:port, without a path"
            )
        host = rule.origin.host
        if "*" in host and (host.count("*") > 1 or not re.match(r"\*\.[^.]", host)):
            return f"{pattern!r}: a * may stand only for the labels before a domain, as in https://*.example.com"
        self._rules.append(rule)
        return None

    @property
    def admits_null(self) -> bool:
        """Whether pages with the origin ``null`` are admitted."""
        return not self._literal.isdisjoint({NULL, ANY})

    def admits(self, origin: str) -> bool:
        """Return whether the value of an ``Origin`` header is admitted."""
        if origin in self._literal or ANY in self._literal:
            return True
        return self.identify(origin) is not None

    @property
    def name_pages(self) -> bool:
        """Whether a rule has a scheme and a host."""
        return bool(self._rules)

    def identify(self, origin: str) -> Origin | None:
        """Return the origin that an ``Origin`` header names, if a rule with a host admits it.

        Returns:
            The origin. None if only ``*``, ``null`` or ``file://`` admits the header, because pages of any site can
            have that origin, and a program can send any text.
        """
        parsed = parse_origin(origin)
        return parsed if parsed is not None and any(rule.admits(parsed) for rule in self._rules) else None


def setting_that_admits(origin: str) -> str | None:
    """Return the item of ``allowed_origins`` that would admit an origin; None if it is not a valid origin."""
    if origin in (NULL, FILE):
        return FILE
    return origin if parse_origin(origin) is not None else None
