"""One socket to Redis: commands and their replies, or the messages of subscribed channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zcli_core.backplane.parts.stream import EngineStream
from zcli_core.errors import BackplaneFailure
from zcli_redis_backplane.failures import refusal
from zcli_redis_backplane.resp import ErrorReply, decode


class RedisStream(EngineStream):
    """A connection to Redis."""

    product = "a Redis"
    decode = staticmethod(decode)

    def __init__(
        self,
        address: str,
        ended: Callable[[BackplaneFailure], None],
        received: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        """Make the protocol of a connection; ``received`` gets channel and data of each message."""
        super().__init__(address, ended)
        self._received = received

    async def execute(self, *commands: bytes) -> list[Any]:
        """Send commands and return their replies."""
        return await self.request(b"".join(commands), len(commands))

    def handle(self, reply: Any) -> None:
        """Pass a message on, or give the reply to its command."""
        if type(reply) is tuple:
            if self._received is not None:
                self._received(*reply)
        elif isinstance(reply, ErrorReply) and not self._sent:
            # A server without a free place refuses a connection before any command.
            self.end(refusal(self.address, reply))
        else:
            self.resolve(reply)
