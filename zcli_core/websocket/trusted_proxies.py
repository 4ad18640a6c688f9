"""Proxies that we trust: find the client's address in the headers that they add."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.websocket.parts.addresses import UNIX, parse_ip

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address, Request

#: The text between commas, and between semicolons, outside quoted strings (RFC 7239, 4).
_ELEMENT = re.compile(r'(?:"(?:\\.|[^"\\])*(?:"|\\?$)|[^,"])+')
_PAIR = re.compile(r'(?:"(?:\\.|[^"\\])*(?:"|\\?$)|[^;"])+')


class _Hop(NamedTuple):
    """What one proxy states about its client."""

    #: ``(host, port)``, with port 0 if none is stated; None if the proxy hides or does not know the client.
    client: tuple[str, int] | None
    #: For example ``"https"``; None if it is not stated.
    scheme: str | None


class TrustedProxies:
    """The proxies that ``websocket.trusted_proxies`` lists.

    A proxy adds its client to the right end of ``X-Forwarded-For`` or ``Forwarded`` (RFC 7239). The client may have
    sent such a header itself, so only the entries that trusted proxies added are used: the header is read from the
    right, as long as the address found so far is that of a trusted proxy.
    """

    def __init__(self, items: Iterable[str]) -> None:
        """Parse the setting.

        Args:
            items: Addresses, networks, and ``unix`` for the clients of a Unix socket.

        Raises:
            ValueError: Some items are invalid; one argument of the error for each.
        """
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
        """Return the request with the client's address, and with whether the client used TLS.

        The request is returned unchanged if the peer is not a trusted proxy or does not state its client. If both
        headers are there and name different clients, neither is used, because a proxy maintains one of them and passes
        the other on as its client has sent it.
        """
        if not self._trusts(request.remote_address):
            return request
        headers = request.headers
        old = _split_list(headers.get_all("x-forwarded-for"))
        new = [element for value in headers.get_all("forwarded") for element in _ELEMENT.findall(value)]
        found = [
            self._follow(request, hops)
            for hops in (
                _x_forwarded(old, _split_list(headers.get_all("x-forwarded-proto"))) if old else None,
                _forwarded(new) if new else None,
            )
            if hops is not None
        ]
        if not found or (len(found) == 2 and _host(found[0]) != _host(found[1])):
            return request
        return found[-1]

    def _follow(self, request: Request, hops: Iterator[_Hop]) -> Request:
        """Return the request with the address of the first hop, from the right, that is not a trusted proxy."""
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
            return False  # the usual case, so skip parsing
        parsed = parse_ip(address[0])
        return parsed is not None and any(parsed in network for network in self._networks)


def _host(request: Request) -> str | None:
    return request.remote_address[0] if request.remote_address else None


def _split_list(values: list[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",") if item.strip()]


# Both yield the nearest hop first and parse lazily, because a client may send a long header.


def _x_forwarded(clients: list[str], schemes: list[str]) -> Iterator[_Hop]:
    if len(schemes) != len(clients):
        # Most proxies replace X-Forwarded-Proto instead of adding to it, so the last value is the nearest proxy's.
        schemes = schemes[-1:] * len(clients)
    for index in reversed(range(len(clients))):
        yield _Hop(_node(clients[index]), schemes[index].lower() if schemes else None)


def _forwarded(elements: list[str]) -> Iterator[_Hop]:
    """Yield the hops of ``Forwarded``. A malformed element gives a hop without client and scheme."""
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
    """Parse the address of a node: ``192.0.2.1``, ``192.0.2.1:4711``, ``2001:db8::1``, ``[2001:db8::1]:4711``.

    Returns None for a node that is hidden or unknown (RFC 7239, 6.2 and 6.3) and for any other text.
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
