"""Keepalive: when a ping is sent, and when a silent client is closed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from zcli_core.websocket.contract import Limits
    from zcli_core.websocket.parts.connection import AsyncioConnection


class KeepaliveClock:
    """One timer for all connections of a listener. Connections count its ticks, so a read costs no look at a clock.

    A client is alive while bytes come from it. It is also alive while bytes that were sent before the last ping reach
    it, because it cannot answer a ping that waits behind a large message.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: Limits, connections: Collection[AsyncioConnection]
    ) -> None:
        self._loop = loop
        self._connections = connections
        interval, timeout = limits.ping_interval, limits.ping_timeout
        self._period = min(interval, timeout) / 4
        #: Ticks from one ping to the next.
        self._ping_at = math.ceil(interval / self._period)
        #: Ticks of silence after which a client is closed, and the same in seconds.
        self._lost_at = self._ping_at + math.ceil(timeout / self._period)
        self._silence = interval + timeout
        self._timer = loop.call_later(self._period, self._tick)

    def stop(self) -> None:
        """Stop the clock."""
        self._timer.cancel()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._period, self._tick)
        for connection in list(self._connections):
            self.check(connection)

    def check(self, connection: AsyncioConnection) -> None:
        """Count a tick: send a ping if one is due, and close a client that is silent."""
        connection.quiet_ticks += 1
        connection.ping_ticks += 1
        progress = connection.send_progress
        if connection.quiet_ticks > self._ping_at:  # a ping was sent since the last bytes from the client
            if progress is not None and progress.has_advanced():
                connection.quiet_ticks = self._ping_at
            elif connection.quiet_ticks >= self._lost_at:
                connection.close_silent(self._silence)
        elif connection.ping_ticks >= self._ping_at and (progress is None or progress.is_complete()):
            connection.send_keepalive_ping()
