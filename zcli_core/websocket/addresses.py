"""Client addresses: how they are written, which hosts are loopback, and which networks are throttled together."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.websocket.parts.addresses import address_key, parse_ip

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address


class Network(NamedTuple):
    """An address or a network whose wrong credentials are counted together."""

    key: str
    #: The network's limit as a multiple of the limit of one address.
    share: int


Networks = tuple[Network, ...]

#: Prefix length and share of the IPv6 networks that a provider may assign to one customer (RFC 6177) besides a /64. A
#: /48 contains 65,536 of those, but it may also have several customers.
_LARGER = ((56, 4), (48, 16))


def throttled_networks(address: Address) -> Networks:
    """Return the networks that a client's wrong credentials count for: :func:`address_key` and larger IPv6 networks."""
    key = address_key(address)
    own = Network(key, 1)
    if address is None or not key.endswith("/64"):
        return (own,)
    base = key.removesuffix("/64")
    return own, *(Network(str(ipaddress.IPv6Network((base, size), strict=False)), share) for size, share in _LARGER)


def widest_network(address: Address) -> str:
    """Return the largest of :func:`throttled_networks`, by which refusals are counted."""
    return throttled_networks(address)[-1].key


def is_loopback_host(host: str) -> bool:
    """Whether a host is ``localhost`` or a loopback address. No other name is, even if it resolves to one."""
    parsed = parse_ip(host)
    return host.lower().rstrip(".") == "localhost" if parsed is None else parsed.is_loopback


def format_address(address: Address) -> str:
    """Write an address as in a URL: ``127.0.0.1:8765``, ``[::1]:8765``."""
    if address is None:
        return "a Unix socket"
    host, port = address[:2]
    if port == 0:  # a proxy stated only the host
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
