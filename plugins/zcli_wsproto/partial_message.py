"""A message of which only a part has come: in fragments, in an incomplete frame, or not decompressed yet."""

from __future__ import annotations

from codecs import utf_8_decode

from zcli_core.websocket.parts.frames import BINARY, FIN, RSV1, TEXT
from zcli_wsproto.masking import unmask

#: The end of a compressed message, which is not sent (RFC 7692, 7.2.2).
TAIL = b"\x00\x00\xff\xff"


def begins_as_utf8(data: bytes) -> bool:
    """Return whether bytes may be the beginning of a text in UTF-8."""
    try:
        utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


class PartialMessage:
    """A message that has begun and not ended, and its current frame."""

    __slots__ = (
        "compressed", "compressed_size", "data", "empty", "final", "mask", "missing", "more", "raw", "room", "text",
        "valid", "waiting",
    )  # fmt: skip

    def __init__(self, first: int, room: int) -> None:
        self.text = bool(first & TEXT)
        self.compressed = bool(first & RSV1)
        #: Whether the payload is unmasked as a whole, once all of it has come: :attr:`data` is masked until then.
        self.raw = first == FIN | BINARY
        #: The payload so far, decompressed; ``bytes`` if it came in one piece.
        self.data: bytearray | bytes = bytearray()
        #: Bytes by which :attr:`data` may still grow.
        self.room = room
        #: The number of bytes of :attr:`data` that are checked to be whole UTF-8 characters.
        self.valid = 0
        #: The number of fragments without payload, and of final deflate blocks without output.
        self.empty = 0
        #: The number of compressed bytes so far, and those that wait to be decompressed.
        self.compressed_size = 0
        self.waiting = b""
        #: Whether zlib may hold output although no compressed bytes wait.
        self.more = False
        #: The current frame: whether it is the last, how many bytes have not come, and the mask for the next ones.
        self.final = False
        self.missing = 0
        self.mask = b""

    def begin_frame(self, first: int, length: int, mask: bytes) -> None:
        """Take the header of the next frame."""
        self.final = first >= FIN
        self.missing = length
        self.mask = mask
        if not length:
            self.empty += 1
        if self.compressed:
            self.compressed_size += length
            if self.final and not length and self.compressed_size:
                self.waiting = TAIL
        else:
            self.room -= length

    def take(self, piece: bytes | memoryview) -> None:
        """Take a masked piece of the current frame. Raises UnicodeDecodeError if it is text and not UTF-8."""
        length = len(piece)
        self.missing -= length
        if self.raw:
            if self.missing or self.data:
                self.data += piece
                if not self.missing:
                    self.data = unmask(self.data, self.mask)
            else:
                self.data = unmask(piece, self.mask)
            return
        plain = unmask(piece, self.mask)
        if self.missing:
            turn = length & 3
            self.mask = self.mask[turn:] + self.mask[:turn]
        if self.compressed:
            self.waiting = plain if self.missing or not self.final else plain + TAIL
        elif self.data or self.missing or not self.final:
            self.append(plain, self.final and not self.missing)
        else:
            self.data = plain

    def append(self, plain: bytes, last: bool) -> None:
        """Add decompressed payload. Text is checked as it comes, so that an error is found at once (RFC 6455, 8.1)."""
        data = self.data
        assert isinstance(data, bytearray)
        if not self.text or last:
            data += plain  # the last piece of a text is checked when the whole text is decoded
        elif self.valid == len(data) and plain.isascii():
            data += plain
            self.valid += len(plain)
        else:
            data += plain
            self.valid += utf_8_decode(data[self.valid :], "strict", False)[1]
