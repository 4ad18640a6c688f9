"""The link of one running server to the servers of other processes: its rooms on one side, messages on the other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from zcli_core.backplane.envelope import Envelope, EnvelopeError, Kind
from zcli_core.backplane.link import ALL, room_channel
from zcli_core.websocket.parts.frames import check_close
from zcli_core.websocket.recipients import NONE, Recipients
from zcli_core.websocket.rooms import IDENTITY_MARK

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Member
    from zcli_core.backplane.link import Link
    from zcli_core.websocket.loop_bridge import LoopBridge
    from zcli_core.websocket.server_core import ServerCore

#: Number of messages for several rooms that are remembered. Each of them arrives once for each of its rooms that has a
#: local client, one soon after the other.
_REMEMBERED = 1024


class ServerLink:
    """The link of one running server. Implements :class:`zcli_core.websocket.rooms.RoomLink`.

    Attributes:
        link: The link to the engine.
        bridge: Runs a coroutine in the link's event loop, from any thread.
        core: The server; None until it listens.
        is_closing: Whether nothing further may be published with it.
    """

    link: Link

    def __init__(self, bridge: LoopBridge, ended: Callable[[ServerLink], None], woken: Callable[[str], None]) -> None:
        """Make a link without its :attr:`link`.

        Args:
            bridge: Runs coroutines in the event loop.
            ended: Called when the link is used no longer.
            woken: Called with a topic when another process wakes those that wait for it.
        """
        self.bridge = bridge
        self._ended = ended
        self._woken = woken
        self.core: ServerCore | None = None
        self.is_closing = False
        self._seen: OrderedDict[tuple[bytes, int], None] = OrderedDict()

    async def close(self) -> None:
        """End the link; see :meth:`Link.close`."""
        self.is_closing = True
        try:
            await self.link.close()
        finally:
            self._ended(self)  # not before, because what was still published is counted

    def abort(self) -> None:
        """End the link without waiting; see :meth:`Link.abort`."""
        self.is_closing = True
        self._ended(self)
        self.link.abort()

    # --- rooms ---

    async def add(self, room: str) -> None:
        """Receive the messages of a room from now on.

        Returns when the engine has confirmed it, or after ``backplane.timeout``. For an identity it does not wait while
        the link is down, so that an outage does not delay every client that connects.
        """
        if room.startswith(IDENTITY_MARK) and not self.link.is_up:
            self.link.want(room_channel(room))
        else:
            await self.link.add(room_channel(room))

    def remove(self, room: str) -> None:
        """Receive the messages of a room no longer."""
        self.link.remove(room_channel(room))

    def enter(self, room: str, member: Member) -> None:
        """Show a client as present."""
        self.link.enter(room, member)

    def leave(self, room: str, connection: str) -> None:
        """Show a client as present no longer."""
        self.link.leave(room, connection)

    # --- messages of other processes ---

    def receive(self, channel: str, envelope: Envelope) -> None:
        """Deliver what another process has published to the clients of this server.

        Raises:
            EnvelopeError: Its content is invalid.
        """
        core = self.core
        if core is None or self._is_repeated(envelope):
            return
        rooms = envelope.rooms or (channel.removeprefix(room_channel("")),)
        to = None if channel == ALL and not envelope.rooms else Recipients(rooms)
        if envelope.kind is Kind.MESSAGE:
            core.deliver(envelope.payload, to, Recipients(envelope.without) if envelope.without else NONE)
        elif envelope.kind is Kind.WAKE and isinstance(envelope.payload, str):
            self._woken(envelope.payload)
        elif to is not None and isinstance(envelope.payload, str):
            try:
                check_close(envelope.code, envelope.payload)
            except ValueError as error:
                raise EnvelopeError(f"it closes connections with an invalid code or reason: {error}") from None
            core.close_clients(to, envelope.code, envelope.payload)

    def _is_repeated(self, envelope: Envelope) -> bool:
        """Return whether a message for several rooms has arrived already, for another of its rooms."""
        if not envelope.rooms:
            return False
        key = envelope.origin, envelope.number
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False
