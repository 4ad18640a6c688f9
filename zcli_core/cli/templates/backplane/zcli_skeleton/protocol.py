"""The protocol of the hub: frames in both directions.

A frame is its length (4 bytes), its kind (1 byte), the length of the channel (2 bytes), the channel, and data. The hub
replies to each frame of a client with a count, in order, and sends messages in between.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from zcli_core.backplane.parts.stream import EngineStream, Incomplete
from zcli_core.errors import BackplaneFailure

SUBSCRIBE, UNSUBSCRIBE, PUBLISH, MESSAGE, COUNT = b"+", b"-", b"!", b"m", b"="
#: Largest message, in bytes.
LARGEST = 1024 * 1024
#: Length of the frame, kind, and length of the channel.
HEADER = struct.Struct("!IcH")
_LONGEST_FRAME = HEADER.size + 1024 + LARGEST


class Frame(NamedTuple):
    """A frame that has arrived."""

    kind: bytes
    channel: str
    data: bytes


def frame(kind: bytes, channel: str = "", data: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    name = channel.encode()
    return HEADER.pack(HEADER.size + len(name) + len(data), kind, len(name)) + name + data


def read_frame(data: bytes, start: int) -> tuple[Frame, int]:
    """Return the frame that begins at ``start``, and where the next one begins.

    Raises:
        Incomplete: More bytes are needed.
        ValueError: It is not a frame.
    """
    if len(data) - start < HEADER.size:
        raise Incomplete(HEADER.size)
    length, kind, size = HEADER.unpack_from(data, start)
    if not HEADER.size + size <= length <= _LONGEST_FRAME:
        raise ValueError("not a frame")
    if len(data) - start < length:
        raise Incomplete(length)
    begin = start + HEADER.size
    return Frame(kind, data[begin : begin + size].decode(), data[begin + size : start + length]), start + length


class HubStream(EngineStream):
    """A connection to the hub. The base class writes requests, gives replies to them and reports the end."""

    product = "a hub of Skeleton"

    def __init__(
        self, address: str, ended: Callable[[BackplaneFailure], None], received: Callable[[str, bytes], None]
    ) -> None:
        super().__init__(address, ended)
        self._received = received

    def decode(self, data: bytes, start: int) -> tuple[Frame, int]:
        """Return the next frame."""
        return read_frame(data, start)

    def handle(self, reply: Frame) -> None:
        """Pass a message on, or end a request."""
        if reply.kind == MESSAGE:
            self._received(reply.channel, reply.data)
        elif reply.kind == COUNT:
            self.resolve(int.from_bytes(reply.data, "big"))
        else:
            raise ValueError("an unknown frame")
