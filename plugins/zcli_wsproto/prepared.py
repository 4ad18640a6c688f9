"""A message that is encoded once for a whole broadcast."""

from __future__ import annotations

from zcli_core.contracts.websocket_parts.frames import BINARY, FIN, RSV1, TEXT, frame, message_frame
from zcli_wsproto.deflate import deflate


class PreparedMessage:
    """A message and its frames: the plain one, and one per compression window that a receiver has agreed on."""

    __slots__ = ("_deflated", "_first", "_memory_level", "_payload", "_threshold", "plain", "size")

    def __init__(self, message: str | bytes, threshold: int, memory_level: int) -> None:
        self.plain = message_frame(message)
        self._payload = message.encode() if isinstance(message, str) else bytes(message)
        self._first = FIN | RSV1 | (TEXT if isinstance(message, str) else BINARY)
        self._threshold = threshold
        self._memory_level = memory_level
        self._deflated: dict[int, bytes] = {}
        self.size = len(self._payload)

    def compressed(self, window_bits: int) -> bytes:
        """The frame for a client with that window: compressed, unless that is not worth it."""
        if self.size < self._threshold:
            return self.plain
        found = self._deflated.get(window_bits)
        if found is None:
            found = frame(self._first, deflate(self._payload, window_bits, self._memory_level))
            if len(found) >= len(self.plain):
                found = self.plain
            self._deflated[window_bits] = found
        return found
