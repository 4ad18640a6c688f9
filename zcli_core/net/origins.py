"""Web origins (RFC 6454) and the rules of ``websocket.allowed_origins``: which pages may open a connection.

A browser sends the origin of the page with every upgrade, and no page can forge it: it is what keeps a stranger's
page from using a visitor's browser to get in. Origins are parsed and compared part by part; comparing text by prefix
or pattern has let ``http://localhost.evil.com`` in elsewhere.

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
#: Schemes that are compared as another one.
_SAME_AS = {"ws": "http", "wss": "https"}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_.*-]+)(?::([0-9]{1,5}|\*))?/?", re.IGNORECASE)
#: What a rule or a header may be long, so that nobody makes us parse, keep or log more.
_LONGEST = 300


class Origin(NamedTuple):
    """Scheme, host and port. The port is None where the scheme has no default and none is given."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        """The one spelling that every header with this origin has: lower case, and no default port."""
        shown = "" if self.port in (None, _DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{self.host}{shown}"


class _Rule(NamedTuple):
    """An origin where ``host`` may be ``*.example.com`` and any port will do if ``any_port``."""

    origin: Origin
    any_port: bool

    def admits(self, origin: Origin) -> bool:
        scheme, host, port = self.origin
        if origin.scheme != scheme or not (self.any_port or origin.port == port):
            return False
        return origin.host == host or (host[0] == "*" and origin.host.endswith(host[1:]) and origin.host != host[1:])


def parse_origin(text: str) -> Origin | None:
    """An ``Origin`` header in its parts; None for ``null``, ``file://`` and whatever is no origin with a host."""
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

    - ``https://example.com``, ``http://localhost:3000``: that scheme, host and port; no port is the scheme's own.
    - ``http://localhost:*``: any port.
    - ``https://*.example.com``: any name below example.com, at any depth, but not example.com itself.
    - ``file://``: pages opened from a file. Chromium calls their origin ``file://`` and Firefox ``null``, which is
      also what sandboxed frames of any site have, so this rule is for development.
    - ``null``: that alone. ``*``: every page there is.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """Parse the rules. Raises ValueError with one sentence for every one that is none."""
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
            return f"{pattern!r}: in a host, a * stands for what precedes a domain, as in https://*.example.com"
        self._rules.append(rule)
        return None

    @property
    def admits_null(self) -> bool:
        """Whether pages without an origin of their own are admitted."""
        return not self._literal.isdisjoint({NULL, ANY})

    def admits(self, origin: str) -> bool:
        """Whether the value of one ``Origin`` header is admitted."""
        if origin in self._literal or ANY in self._literal:
            return True
        return self.identify(origin) is not None

    @property
    def name_pages(self) -> bool:
        """Whether a rule names pages: scheme and host."""
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
    """The item of ``allowed_origins`` that would admit it; None if it is no origin at all."""
    if origin in (NULL, FILE):
        return FILE
    return origin if parse_origin(origin) is not None else None
