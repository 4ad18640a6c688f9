"""The limit on pending connections: those that are not admitted yet or are being refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from zcli_core.websocket.parts.addresses import address_key

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address


class PendingConnection(Protocol):
    """A connection in the TLS handshake or the upgrade, or one that was refused and is still open."""

    def abort(self) -> None:
        """Drop it at once."""

    def drop(self) -> None:
        """Close it, because the listener stops."""


class PendingConnections:
    """Counts the connections that are not admitted, from the moment in which their socket is accepted.

    Any client can open such a connection, so their number is limited. Over the limit, the oldest connection of the
    address with most of them is closed. So one client cannot block the clients of other addresses, and a proxy, behind
    which all clients have one address, may use the whole limit.
    """

    def __init__(self, limit: int) -> None:
        #: The largest allowed number of connections.
        self.limit = limit
        #: The key of the address of each connection.
        self._keys: dict[PendingConnection, str] = {}
        #: The connections of each address, the oldest first.
        self._of_address: dict[str, dict[PendingConnection, None]] = {}
        #: The addresses that have so many connections each, and the largest such number.
        self._with_count: dict[int, dict[str, None]] = {}
        self._largest = 0
        #: The number of connections that were closed for new ones.
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[PendingConnection]:
        return iter(tuple(self._keys))

    def add(self, connection: PendingConnection, address: Address) -> bool:
        """Count a connection; return whether another one was closed for it."""
        key = address_key(address)
        self._keys[connection] = key
        of_address = self._of_address.setdefault(key, {})
        of_address[connection] = None
        self._count(key, len(of_address) - 1, len(of_address))
        return len(self._keys) > self.limit and self.evict()

    def discard(self, connection: PendingConnection) -> None:
        """Stop counting a connection, because it was admitted or is gone."""
        key = self._keys.pop(connection, None)
        if key is None:
            return
        of_address = self._of_address[key]
        del of_address[connection]
        self._count(key, len(of_address) + 1, len(of_address))
        if not of_address:
            del self._of_address[key]

    def evict(self) -> bool:
        """Drop the oldest connection of the address that has most of them; return False if there is none."""
        if not self._keys:
            return False
        connection = next(iter(self._of_address[next(iter(self._with_count[self._largest]))]))
        self.discard(connection)
        self.evicted += 1
        connection.abort()
        return True

    def _count(self, key: str, before: int, now: int) -> None:
        """Note that an address has one connection more or less."""
        if before:
            others = self._with_count[before]
            del others[key]
            if not others:
                del self._with_count[before]
        if now:
            self._with_count.setdefault(now, {})[key] = None
        if now > self._largest or self._largest not in self._with_count:
            self._largest = now
