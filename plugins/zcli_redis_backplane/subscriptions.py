"""The connection to Redis that receives messages."""

from __future__ import annotations

from collections.abc import Callable, Collection

from zcli_redis_backplane.failures import refusal
from zcli_redis_backplane.resp import ErrorReply, encode
from zcli_redis_backplane.stream import RedisStream


class Subscriptions:
    """Subscribes, and translates the engine's names of channels back to those of the core."""

    def __init__(self, address: str, prefix: str, message: Callable[[str, bytes], None]) -> None:
        self._address = address
        self._prefix = prefix.encode("utf-8", "surrogatepass")
        self._message = message
        #: By the engine's name of a channel.
        self._channels: dict[bytes, str] = {}

    def received(self, name: bytes, data: bytes) -> None:
        """Pass a message on."""
        channel = self._channels.get(name)
        if channel is not None:
            self._message(channel, data)

    async def subscribe(self, stream: RedisStream, channels: Collection[str]) -> None:
        """Subscribe; returns when the engine has confirmed each channel."""
        names = {self._prefix + channel.encode("utf-8", "surrogatepass"): channel for channel in channels}
        # Before the confirmation, because messages may follow it in the same packet.
        self._channels.update(names)
        await self._run(stream, "SUBSCRIBE", names)

    async def unsubscribe(self, stream: RedisStream, channels: Collection[str]) -> None:
        """End subscriptions; returns when the engine has confirmed each channel."""
        names = {self._prefix + channel.encode("utf-8", "surrogatepass"): channel for channel in channels}
        for name in names:
            self._channels.pop(name, None)
        await self._run(stream, "UNSUBSCRIBE", names)

    async def _run(self, stream: RedisStream, command: str, names: Collection[bytes]) -> None:
        # One command for each channel, so that each has exactly one reply, also if an ACL refuses some of them.
        if names:
            for reply in await stream.execute(*(encode(command, name) for name in names)):
                if isinstance(reply, ErrorReply):
                    raise refusal(self._address, reply)
