"""Frames of a client, valid and invalid, to send to a transport under test (RFC 6455, 5.2)."""

from __future__ import annotations

import struct
import zlib

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


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
    """Return a frame.

    Args:
        opcode: The opcode.
        payload: The payload, which is masked here.
        fin: Whether it is the last fragment.
        rsv: The three reserved bits as a number, of which RSV1 is 4.
        mask: The mask; None sends the frame unmasked.
        length_bytes: The size of the extended length (0, 2 or 8); by default the shortest.
        declared: A length to declare instead of that of the payload.
    """
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
    return head + (mask + _masked(payload, mask) if mask is not None else payload)


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """Return a close frame; code None makes one without code and reason."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def deflated(payload: bytes, bits: int = 15, level: int = 6) -> bytes:
    """Return the payload of a compressed message, for a frame with RSV1 (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _masked(payload: bytes, mask: bytes) -> bytes:
    # RFC 6455, 5.3, in one operation, because messages may have megabytes.
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")
