"""Finding the client's close frame in data that is not decoded any more."""

from __future__ import annotations

from zcli_core.websocket.parts.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT


class CloseFrameScanner:
    """Goes from frame header to frame header and keeps nothing of the payloads.

    It is for a connection on which the server has sent its close frame: the messages that still come are dropped until
    the client's close frame, without the cost of decoding them. The first frame may violate the protocol. After another
    invalid frame no close frame is found, because the start of the next frame is unknown.
    """

    __slots__ = ("_closing", "_first", "_header", "_lost", "_missing")

    def __init__(self, missing: int = 0) -> None:
        """Begin in the middle of a frame.

        Args:
            missing: Bytes of that frame that have not come; 0 begins in front of a frame.
        """
        self._missing = missing
        #: The beginning of a frame header that is not complete.
        self._header = b""
        self._first = True
        self._lost = False
        #: Whether the missing bytes are those of a close frame.
        self._closing = False

    def feed(self, data: bytes | memoryview) -> bool:
        """Take received bytes; return whether a whole close frame was among them."""
        if self._header:
            data = self._header + data
            self._header = b""
        position, size = self._missing, len(data)
        while position <= size and not self._lost:
            if self._closing:
                return True
            end = _end_of_frame(data, position)
            if end is None:
                self._header = bytes(data[position:])
                position = size
                break
            valid = data[position] & 0x0F in _OPCODES and data[position + 1] & 0x80
            self._lost = not valid and not self._first
            self._first = False
            self._closing = data[position] == FIN | CLOSE and 0x80 <= data[position + 1] <= 0xFD
            position = end
        self._missing = position - size
        return False


_OPCODES = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)


def _end_of_frame(data: bytes | memoryview, start: int) -> int | None:
    """Return the end of the frame that begins there; None if its header is not complete (RFC 6455, 5.2)."""
    have = len(data) - start
    if have < 2:
        return None
    second = data[start + 1]
    length, payload = second & 0x7F, start + (6 if second & 0x80 else 2)
    if length < 126:
        return payload + length
    size = 2 if length == 126 else 8
    if have < 2 + size:
        return None
    return payload + size + int.from_bytes(data[start + 2 : start + 2 + size], "big")
