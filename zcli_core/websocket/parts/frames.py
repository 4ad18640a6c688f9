"""Encoding of frames, and the codes of close frames (RFC 6455, sections 5 and 7.4)."""

from __future__ import annotations

import struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
RSV1 = 0x40

#: The whole header of every short, final, unmasked frame, by its length: one lookup instead of an encoding.
TEXT_HEADERS = [bytes((FIN | TEXT, length)) for length in range(126)]
BINARY_HEADERS = [bytes((FIN | BINARY, length)) for length in range(126)]

_pack_2 = struct.Struct("!BBH").pack
_pack_8 = struct.Struct("!BBQ").pack


def frame(first: int, payload: bytes) -> bytes:
    """Encode a server's frame, which is not masked (RFC 6455, 5.1).

    Args:
        first: The first byte of the frame: FIN, RSV bits and opcode.
        payload: The payload.
    """
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65536:
        return _pack_2(first, 126, length) + payload
    return _pack_8(first, 127, length) + payload


def message_frame(message: str | bytes) -> bytes:
    """Encode a whole message, uncompressed. Raises TypeError if it is neither text nor bytes."""
    if isinstance(message, str):
        payload = message.encode()
        length = len(payload)
        return TEXT_HEADERS[length] + payload if length < 126 else frame(FIN | TEXT, payload)
    if isinstance(message, (bytes, bytearray, memoryview)):
        payload = bytes(message)
        length = len(payload)
        return BINARY_HEADERS[length] + payload if length < 126 else frame(FIN | BINARY, payload)
    raise TypeError(f"message must be str or bytes, got {type(message).__name__}")


# Close frames --------------------------------------------------------------------------------------------------

#: Codes that IANA has registered for close frames; 1004 to 1006 and 1015 must not be sent (RFC 6455, 7.4.1).
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def may_be_sent(code: int) -> bool:
    """Return whether a close frame may carry that code (RFC 6455, 7.4)."""
    return code in _REGISTERED or 3000 <= code <= 4999


def check_close(code: int, reason: str) -> None:
    """Check a code and a reason with which this side closes a connection.

    Raises:
        ValueError: The code is not allowed in a close frame, or the reason is too long.
    """
    if not may_be_sent(code):
        raise ValueError(f"close code must be 1000 or 3000 to 4999, got {code} (RFC 6455, 7.4)")
    size = len(reason.encode())
    if size > 123:
        raise ValueError(f"close reason must be at most 123 bytes, got {size} (RFC 6455, 5.5.1)")


def close_frame(code: int, reason: str = "") -> bytes:
    """Encode a close frame, without a code for 1005. The reason is cut to 123 bytes, between two characters."""
    if code == 1005:
        return frame(FIN | CLOSE, b"")
    text = reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore").encode()
    return frame(FIN | CLOSE, code.to_bytes(2, "big") + text)
