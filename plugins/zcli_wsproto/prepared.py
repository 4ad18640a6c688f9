"""A message that is encoded once for a whole broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.websocket.parts.frames import BINARY, FIN, TEXT, message_frame

if TYPE_CHECKING:
    from zcli_wsproto.deflate import Deflater


class PreparedMessage:
    """A message and its frames: the plain one, and one per compression window that a receiver has agreed on."""

    __slots__ = ("_deflated", "_deflater", "_first", "_payload", "plain", "size")

    def __init__(self, message: str | bytes, deflater: Deflater | None) -> None:
        self.plain = message_frame(message)
        self._payload = message.encode() if isinstance(message, str) else bytes(message)
        self._first = FIN | (TEXT if isinstance(message, str) else BINARY)
        self._deflater = deflater
        self._deflated: dict[int, bytes] = {}
        self.size = len(self._payload)

    def compressed(self, window_bits: int) -> bytes:
        """The frame for a client with that window: compressed, unless that is not worth it."""
        found = self._deflated.get(window_bits)
        if found is None:
            assert self._deflater is not None  # or no client would have agreed on a window
            found = self._deflated[window_bits] = self._deflater.frame(self._first, self._payload, window_bits)
        return found
