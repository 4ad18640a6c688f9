"""Addresses of clients: which ones count as one client, and who is behind a trusted proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from zcli_core.contracts.websocket import Address, Request

#: What ``websocket.trusted_proxies`` calls the clients of a Unix socket.
UNIX = "unix"

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_key(address: Address) -> str:
    """What stands for a client's address in counts and limits.

    All addresses of an IPv6 /64 count as one, because one customer is given that many (RFC 6177). All clients of a
    Unix socket count as one.
    """
    if address is None:
        return UNIX
    host = address[0]
    if ":" not in host:
        return host
    parsed = _parse_ip(host)
    if parsed is None or parsed.version == 4:
        return str(parsed or host)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


def _parse_ip(text: str) -> _IP | None:
    """An IP address without its zone, as IPv4 where an IPv6 address stands for one; None for any other text."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


# Proxies ---------------------------------------------------------------------------------------------------------


class _Hop(NamedTuple):
    """What one proxy says of its client."""

    #: ``(host, port)`` with port 0 if it is not told; None if the proxy hides or does not know the client.
    client: tuple[str, int] | None
    #: ``"https"``, say; None if it is not told.
    scheme: str | None


class TrustedProxies:
    """The proxies whose word on their clients is believed: ``websocket.trusted_proxies``.

    A proxy adds its client to the right end of ``X-Forwarded-For`` or ``Forwarded`` (RFC 7239). Whoever connects may
    have sent such a header before, so only the part of the chain that trusted proxies added is believed: it is read
    from the right, for as long as the address found so far is that of a trusted proxy.
    """

    def __init__(self, items: Iterable[str]) -> None:
        """Take addresses, networks and ``unix``. Raises ValueError with a sentence for each item that is neither."""
        self._unix = False
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        problems = []
        for item in items:
            if item == UNIX:
                self._unix = True
                continue
            try:
                self._networks.append(ipaddress.ip_network(item))
            except ValueError as error:
                problems.append(
                    f"{item!r} is not an address (10.0.0.5), a network (10.0.0.0/8) or the word {UNIX}: {error}"
                )
        if problems:
            raise ValueError(*problems)

    def client_of(self, request: Request) -> Request:
        """The request as its client sent it: with the client's address, and whether the client used TLS.

        It is the same request where the peer is not a trusted proxy, or does not tell its client.
        """
        if not self._trusts(request.remote_address):
            return request
        address, tls = request.remote_address, request.tls
        hops = _hops(request)
        while hops and self._trusts(address):
            hop = hops.pop()
            if hop.scheme is not None:
                tls = hop.scheme in ("https", "wss")
            if hop.client is None:
                break
            address = hop.client
        if address is request.remote_address and tls == request.tls:
            return request
        return replace(request, remote_address=address, tls=tls)

    def _trusts(self, address: Address) -> bool:
        if address is None:
            return self._unix
        if not self._networks:
            return False  # the usual case, which costs nothing
        parsed = _parse_ip(address[0])
        return parsed is not None and any(parsed in network for network in self._networks)


def _hops(request: Request) -> list[_Hop]:
    """The chain of a request, the nearest client last.

    If both kinds of header are there and tell different clients, neither is believed: a proxy maintains one of them
    and passes the other on as its client has sent it.
    """
    headers = request.headers
    old = _x_forwarded(headers.get_all("x-forwarded-for"), headers.get_all("x-forwarded-proto"))
    new = _forwarded(headers.get_all("forwarded"))
    if old and new:
        same = [hop.client and hop.client[0] for hop in old] == [hop.client and hop.client[0] for hop in new]
        return new if same else []
    return old or new


def _x_forwarded(clients: list[str], schemes: list[str]) -> list[_Hop]:
    found = [_node(item) for item in _listed(clients)]
    told = [item.lower() for item in _listed(schemes)]
    if len(told) != len(found):
        # Most proxies replace X-Forwarded-Proto instead of adding to it: the last one said is the nearest proxy's.
        told = [told[-1]] * len(found) if told else []
    return [_Hop(client, told[place] if told else None) for place, client in enumerate(found)]


def _listed(values: list[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",") if item.strip()]


def _forwarded(values: list[str]) -> list[_Hop]:
    """The elements of ``Forwarded`` headers. An element that breaks the grammar tells nothing."""
    hops = []
    for element in (part for value in values for part in _split(value, ",") if part.strip()):
        pairs: dict[str, str] = {}
        for pair in _split(element, ";"):
            name, found, value = pair.strip().partition("=")
            pairs[name.lower()] = "" if name.lower() in pairs or not found else _unquoted(value)
        scheme = pairs.get("proto", "").lower() or None
        hops.append(_Hop(_node(pairs.get("for", "")), scheme))
    return hops


def _split(text: str, separator: str) -> list[str]:
    """Split where the separator stands outside a quoted string."""
    parts, quoted, escaped, start = [], False, False, 0
    for place, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\" and quoted:
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _unquoted(value: str) -> str:
    return value[1:-1].replace("\\", "") if len(value) > 1 and value[0] == value[-1] == '"' else value


def _node(text: str) -> tuple[str, int] | None:
    """The address of a node: ``192.0.2.1``, ``192.0.2.1:4711``, ``2001:db8::1``, ``[2001:db8::1]:4711``.

    None for a node that is hidden or unknown (RFC 7239, 6.2 and 6.3) and for any other text.
    """
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    parsed = _parse_ip(host)
    if parsed is None:
        return None
    return str(parsed), int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
