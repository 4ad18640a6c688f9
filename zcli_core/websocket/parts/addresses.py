"""Addresses of clients, and which of them count as one client."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address

#: The key of the clients of a Unix socket, in counts and in ``websocket.trusted_proxies``.
UNIX = "unix"

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_key(address: Address) -> str:
    """Return the key of a client's address in counts and limits.

    All addresses of an IPv6 /64 count as one, because providers assign at least that many to one customer (RFC 6177).
    All clients of a Unix socket count as one.
    """
    if address is None:
        return UNIX
    host = address[0]
    if ":" not in host:
        return host
    parsed = parse_ip(host)
    if parsed is None or parsed.version == 4:
        return str(parsed or host)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


def parse_ip(text: str) -> _IP | None:
    """Parse an IP address without its zone, an IPv4-mapped IPv6 address as IPv4; return None for any other text."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
