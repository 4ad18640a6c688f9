"""The connections that are not let in: how many there may be, and which of them is closed for a new one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from zcli_core.websocket.parts.addresses import address_key

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address


class Unadmitted(Protocol):
    """A connection in the TLS handshake or the upgrade, or one that was answered and not gone yet."""

    def abort(self) -> None:
        """Drop it at once."""

    def drop(self) -> None:
        """Close it, because the listener stops."""


class Openings:
    """Counts the connections that are not let in, from the moment in which their socket is accepted.

    Whoever connects may hold such a connection, so their number is limited. Over the limit, the address with most of
    them loses its oldest one. So a stranger cannot shut out the clients of other addresses, and a proxy, behind which
    all clients have one address, may use the whole limit.
    """

    def __init__(self, limit: int) -> None:
        #: How many there may be.
        self.limit = limit
        #: What stands for the address of each connection.
        self._keys: dict[Unadmitted, str] = {}
        #: The connections of each address, the oldest first.
        self._of_address: dict[str, dict[Unadmitted, None]] = {}
        #: The addresses that have so many connections each, and the largest such number.
        self._with_count: dict[int, dict[str, None]] = {}
        self._largest = 0
        #: Connections that were closed for new ones.
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Unadmitted]:
        return iter(tuple(self._keys))

    def add(self, opening: Unadmitted, address: Address) -> bool:
        """Count a connection; whether another one was closed for it."""
        key = address_key(address)
        self._keys[opening] = key
        of_address = self._of_address.setdefault(key, {})
        of_address[opening] = None
        self._count(key, len(of_address) - 1, len(of_address))
        return len(self._keys) > self.limit and self.evict()

    def discard(self, opening: Unadmitted) -> None:
        """Count a connection no more: it was let in, or is gone."""
        key = self._keys.pop(opening, None)
        if key is None:
            return
        of_address = self._of_address[key]
        del of_address[opening]
        self._count(key, len(of_address) + 1, len(of_address))
        if not of_address:
            del self._of_address[key]

    def evict(self) -> bool:
        """Drop the oldest connection of the address that has most of them; False if there is none."""
        if not self._keys:
            return False
        opening = next(iter(self._of_address[next(iter(self._with_count[self._largest]))]))
        self.discard(opening)
        self.evicted += 1
        opening.abort()
        return True

    def _count(self, key: str, before: int, now: int) -> None:
        """Note that an address has one more connection, or one less."""
        if before:
            others = self._with_count[before]
            del others[key]
            if not others:
                del self._with_count[before]
        if now:
            self._with_count.setdefault(now, {})[key] = None
        if now > self._largest or self._largest not in self._with_count:
            self._largest = now
