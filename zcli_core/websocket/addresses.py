"""Addresses of clients: which ones are local, which ones are throttled together, and who is behind a proxy."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.websocket.parts.addresses import UNIX, address_key, parse_ip

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address, Request

#: What stands between commas, and between semicolons, outside quoted strings (RFC 7239, 4).
_ELEMENT = re.compile(r'(?:"(?:\\.|[^"\\])*(?:"|\\?$)|[^,"])+')
_PAIR = re.compile(r'(?:"(?:\\.|[^"\\])*(?:"|\\?$)|[^;"])+')


class Network(NamedTuple):
    """An address or a network whose wrong credentials are counted together."""

    key: str
    #: How many times as many as one address may send.
    share: int


Networks = tuple[Network, ...]

#: Prefix length and share of the IPv6 networks that a customer may be given (RFC 6177) besides a /64. A /48 has 65,536
#: of those, but it may also have more than one customer.
_LARGER = ((56, 4), (48, 16))


def throttled_networks(address: Address) -> Networks:
    """The networks whose wrong credentials a client's count towards: :func:`address_key`, and larger IPv6 networks."""
    key = address_key(address)
    own = Network(key, 1)
    if address is None or not key.endswith("/64"):
        return (own,)
    base = key.removesuffix("/64")
    return own, *(Network(str(ipaddress.IPv6Network((base, size), strict=False)), share) for size, share in _LARGER)


def widest_network(address: Address) -> str:
    """The largest of :func:`throttled_networks`: what refusals are counted by, so that no customer fills the log."""
    return throttled_networks(address)[-1].key


def is_loopback_host(host: str) -> bool:
    """Whether a host is ``localhost`` or a loopback address. Another name is not, wherever it leads now."""
    parsed = parse_ip(host)
    return host.lower().rstrip(".") == "localhost" if parsed is None else parsed.is_loopback


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

        It is the same request where the peer is not a trusted proxy, or does not tell its client. If both kinds of
        header are there and tell different clients, neither is believed: a proxy maintains one of them and passes the
        other on as its client has sent it.
        """
        if not self._trusts(request.remote_address):
            return request
        headers = request.headers
        old = _listed(headers.get_all("x-forwarded-for"))
        new = [element for value in headers.get_all("forwarded") for element in _ELEMENT.findall(value)]
        found = [
            self._follow(request, hops)
            for hops in (
                _x_forwarded(old, _listed(headers.get_all("x-forwarded-proto"))) if old else None,
                _forwarded(new) if new else None,
            )
            if hops is not None
        ]
        if not found or (len(found) == 2 and _host(found[0]) != _host(found[1])):
            return request
        return found[-1]

    def _follow(self, request: Request, hops: Iterator[_Hop]) -> Request:
        """The request of the last hop, from the right, whose teller is trusted."""
        address, tls = request.remote_address, request.tls
        for hop in hops:
            if hop.scheme is not None:
                tls = hop.scheme in ("https", "wss")
            if hop.client is None:
                break
            address = hop.client
            if not self._trusts(address):
                break
        return replace(request, remote_address=address, tls=tls)

    def _trusts(self, address: Address) -> bool:
        if address is None:
            return self._unix
        if not self._networks:
            return False  # the usual case, which costs nothing
        parsed = parse_ip(address[0])
        return parsed is not None and any(parsed in network for network in self._networks)


def _host(request: Request) -> str | None:
    return request.remote_address[0] if request.remote_address else None


def _listed(values: list[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",") if item.strip()]


# Both give the nearest hop first and parse no more than is asked for: whoever connects may have sent a long header.


def _x_forwarded(clients: list[str], schemes: list[str]) -> Iterator[_Hop]:
    if len(schemes) != len(clients):
        # Most proxies replace X-Forwarded-Proto instead of adding to it: the last one said is the nearest proxy's.
        schemes = schemes[-1:] * len(clients)
    for place in reversed(range(len(clients))):
        yield _Hop(_node(clients[place]), schemes[place].lower() if schemes else None)


def _forwarded(elements: list[str]) -> Iterator[_Hop]:
    """An element that breaks the grammar tells nothing."""
    for element in reversed(elements):
        if not element.strip():
            continue
        pairs: dict[str, str] = {}
        for pair in _PAIR.findall(element):
            name, found, value = pair.strip().partition("=")
            pairs[name.lower()] = "" if name.lower() in pairs or not found else _unquoted(value)
        yield _Hop(_node(pairs.get("for", "")), pairs.get("proto", "").lower() or None)


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
    parsed = parse_ip(host)
    if parsed is None:
        return None
    return str(parsed), int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
