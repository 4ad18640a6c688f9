"""Frames as a client makes them, right and wrong, for the tests of the WebSocket transport."""

from __future__ import annotations

import struct

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def xor(data: bytes, mask: bytes) -> bytes:
    """The plainest unmasking there is, to check the fast ones with."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x11\x22\x33\x44",
    length_bytes: int | None = None,
    declared: int | None = None,
) -> bytes:
    """A frame; ``length_bytes`` (0, 2 or 8) forces a form of the length, ``declared`` lies about it."""
    length = len(payload) if declared is None else declared
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    bit = 0x80 if mask is not None else 0
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if length_bytes == 0:
        head = struct.pack("!BB", first, bit | length)
    elif length_bytes == 2:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    return head + (mask + xor(payload, mask) if mask is not None else payload)


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)
