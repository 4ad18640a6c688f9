"""The connections of one ``zCLI`` object, which pass messages to each other."""

from __future__ import annotations

from collections.abc import Collection

from zcli_core.backplane.contract import Backplane, Capability, EngineConnection, EngineReport, Sink
from zcli_core.errors import BackplaneFailure


class LocalBackplane(Backplane):
    """Carries messages between its own connections. It has no engine."""

    capabilities = Capability.COUNTS

    def __init__(self) -> None:
        self.connections: list[LocalConnection] = []

    @property
    def address(self) -> str:
        """There is only this process."""
        return "this process"

    async def connect(self, process: str, sink: Sink) -> LocalConnection:
        """Make a connection; it never fails."""
        connection = LocalConnection(self, sink)
        self.connections.append(connection)
        return connection


class LocalConnection(EngineConnection):
    """One connection of a :class:`LocalBackplane`."""

    def __init__(self, backplane: LocalBackplane, sink: Sink) -> None:
        self._backplane = backplane
        self._sink = sink
        self._channels: set[str] = set()
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise BackplaneFailure("down", "the connection is closed")

    async def subscribe(self, channels: Collection[str]) -> None:
        """Subscribe."""
        self._check_open()
        self._channels.update(channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """End subscriptions."""
        self._check_open()
        self._channels.difference_update(channels)

    async def publish(self, channel: str, data: bytes) -> int:
        """Pass a message to every connection that has subscribed."""
        self._check_open()
        takers = [each for each in self._backplane.connections if channel in each._channels]
        for each in takers:
            each._sink.message(channel, data)
        return len(takers)

    async def close(self) -> None:
        """Take no further messages."""
        if not self._closed:
            self._closed = True
            self._backplane.connections.remove(self)

    async def report(self, largest_message: int) -> EngineReport:
        """There is no engine."""
        return EngineReport("no engine")
