"""What the engine should know of this process: the channels that it subscribes to, and its members of rooms.

Both classes hold what is wanted and what the engine has confirmed. They do not talk to the engine.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Member

#: Room and connection identifier.
MemberKey = tuple[str, str]


class WantedChannels:
    """The channels that a link subscribes to."""

    def __init__(self, always: Collection[str]) -> None:
        """Begin with channels that are never removed."""
        self._wanted = set(always)
        #: Wanted channels that the engine has not confirmed on this connection.
        self.missing = set(always)
        #: What the engine has confirmed.
        self.subscribed: set[str] = set()
        #: When to unsubscribe from channels that are no longer wanted; the earliest first.
        self._expiring: dict[str, float] = {}
        self._waiters: dict[str, asyncio.Future[None]] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, channel: str) -> asyncio.Future[None] | None:
        """Want a channel. Returns a future that ends when it is confirmed; None if it is confirmed already."""
        self._wanted.add(channel)
        self._expiring.pop(channel, None)
        if channel in self.subscribed:
            return None
        self.missing.add(channel)
        waiter = self._waiters.get(channel)
        if waiter is None:
            waiter = self._waiters[channel] = asyncio.get_running_loop().create_future()
        return waiter

    def remove(self, channel: str, expiry: float | None) -> None:
        """Want a channel no longer.

        Args:
            channel: The channel.
            expiry: When to unsubscribe, as a time of the event loop's clock; None if there is no connection.
        """
        if channel in self._wanted:
            self._wanted.discard(channel)
            self.missing.discard(channel)
            if expiry is not None:
                self._expiring[channel] = expiry
            self._release(channel)

    def reset(self) -> None:
        """Forget what an earlier connection has confirmed."""
        self.subscribed.clear()
        self._expiring.clear()
        self.missing = set(self._wanted)

    def confirm(self, channels: Collection[str]) -> None:
        """Note that the engine has confirmed channels."""
        self.subscribed.update(channels)
        self.missing.difference_update(channels)
        for channel in channels:
            self._release(channel)

    def give_up(self, channel: str) -> None:
        """Note that the engine refuses a channel. It is missing again after :meth:`add` or :meth:`reset`."""
        self.missing.discard(channel)
        self._release(channel)

    def take_expired(self, now: float) -> list[str]:
        """Return the channels to unsubscribe from now. They count as not subscribed at once."""
        found = []
        expired = list(itertools.takewhile(lambda channel: self._expiring[channel] <= now, self._expiring))
        for channel in expired:
            del self._expiring[channel]
            if channel in self.subscribed:
                self.subscribed.discard(channel)
                found.append(channel)
        return found

    @property
    def next_expiry(self) -> float | None:
        """When :meth:`take_expired` has the next channel; None if no channel waits for that."""
        return next(iter(self._expiring.values()), None)

    def release(self) -> None:
        """End all futures of :meth:`add`, because the link is closed."""
        for channel in list(self._waiters):
            self._release(channel)

    def _release(self, channel: str) -> None:
        waiter = self._waiters.pop(channel, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class WantedMembers:
    """The members of rooms that this process serves."""

    def __init__(self) -> None:
        self._members: dict[MemberKey, Member] = {}
        self._entering: dict[MemberKey, None] = {}
        self._leaving: dict[MemberKey, None] = {}
        #: Members that the engine may have.
        self._known: set[MemberKey] = set()

    def enter(self, room: str, member: Member) -> None:
        """Want a member in a room, or give it new data."""
        key = room, member.connection
        self._members[key] = member
        self._entering[key] = None
        self._leaving.pop(key, None)

    def leave(self, room: str, connection: str) -> None:
        """Want a member in a room no longer."""
        key = room, connection
        self._members.pop(key, None)
        self._entering.pop(key, None)
        if key in self._known:
            self._leaving[key] = None

    def renew(self) -> None:
        """Enter all members again, because the engine may have lost them."""
        self._entering = dict.fromkeys(self._members)

    def next_entering(self, count: int) -> list[tuple[str, Member]]:
        """Return at most so many members that must be entered, as pairs of room and member."""
        keys = list(itertools.islice(self._entering, count))
        self._known.update(keys)
        return [(room, self._members[room, connection]) for room, connection in keys]

    def entered(self, members: Sequence[tuple[str, Member]]) -> None:
        """Note that the engine has these members."""
        for room, member in members:
            key = room, member.connection
            if self._members.get(key) is member:
                self._entering.pop(key, None)

    def next_leaving(self, count: int) -> list[MemberKey]:
        """Return at most so many members that must be removed."""
        return list(itertools.islice(self._leaving, count))

    def left(self, keys: Sequence[MemberKey]) -> None:
        """Note that the engine does not have these members."""
        for key in keys:
            self._leaving.pop(key, None)
            if key not in self._members:  # else it has come back meanwhile, and may have been entered already
                self._known.discard(key)
