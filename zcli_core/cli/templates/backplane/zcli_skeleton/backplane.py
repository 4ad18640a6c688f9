"""The backplane: how to be connected to the hub once. zCLI connects again, limits every wait and encodes messages."""

from __future__ import annotations

from collections.abc import Collection

from zcli_core.backplane.contract import Backplane, Capability, EngineConnection, EngineReport, Sink
from zcli_core.backplane.parts.failures import unreachable
from zcli_core.errors import BackplaneFailure
from zcli_core.plugins.contract import Context

from zcli_skeleton.protocol import LARGEST, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, HubStream, frame
from zcli_skeleton.settings import Skeleton


class SkeletonBackplane(Backplane):
    """A hub of Skeleton. It counts who took a message, and does not know who is in a room."""

    capabilities = Capability.REMOTE | Capability.COUNTS

    def __init__(self, context: Context) -> None:
        settings = context.config.section(Skeleton)
        self._host, self._port = settings.host, settings.port
        self._namespace = context.config.backplane.namespace

    @property
    def address(self) -> str:
        """Where the hub is. A password must not be in it."""
        return f"skeleton://{self._host}:{self._port}"

    async def connect(self, process: str, sink: Sink) -> SkeletonConnection:
        """Connect. zCLI cancels this call after ``backplane.connect_timeout``."""
        connection = SkeletonConnection(self.address, f"{self._namespace}:", sink)
        try:
            stream = connection.stream
            await stream.loop.create_connection(lambda: stream, self._host, self._port)
        except OSError as error:
            raise unreachable(self.address, "backplane.skeleton", error) from error
        except BaseException:  # cancelled
            await connection.close()
            raise
        return connection


class SkeletonConnection(EngineConnection):
    """One connection to the hub. The name of a channel there begins with the namespace."""

    max_payload = LARGEST

    def __init__(self, address: str, prefix: str, sink: Sink) -> None:
        self._prefix = prefix
        self._sink = sink
        # The stream calls ``lost`` once, however the connection ends, except by ``close``.
        self.stream = HubStream(address, sink.lost, self._received)

    def _received(self, channel: str, data: bytes) -> None:
        self._sink.message(channel.removeprefix(self._prefix), data)

    async def subscribe(self, channels: Collection[str]) -> None:
        """Subscribe; the hub confirms each channel."""
        await self._each(SUBSCRIBE, channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """End subscriptions."""
        await self._each(UNSUBSCRIBE, channels)

    async def _each(self, kind: bytes, channels: Collection[str]) -> None:
        frames = [frame(kind, self._prefix + channel) for channel in channels]
        if frames:
            await self.stream.request(b"".join(frames), len(frames))

    async def publish(self, channel: str, data: bytes) -> int:
        """Publish once; the hub replies with the number of connections that took it."""
        if len(data) > LARGEST:
            raise BackplaneFailure("too_large", f"the message has {len(data)} bytes; the hub accepts {LARGEST}")
        (count,) = await self.stream.request(frame(PUBLISH, self._prefix + channel, data), droppable=True)
        return int(count)

    async def report(self, largest_message: int) -> EngineReport:
        """Check that the hub accepts the largest message."""
        problems: tuple[str, ...] = ()
        if largest_message > LARGEST:
            problems = (f"a message may have {largest_message} bytes; set backplane.max_message to {LARGEST}",)
        return EngineReport("hub of Skeleton 1.0", problems)

    async def close(self) -> None:
        """Drop the connection."""
        await self.stream.close()
