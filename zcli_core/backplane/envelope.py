"""The binary form of what zCLI publishes on a backplane.

========== =============================================================================
bytes      content
========== =============================================================================
2          ``zC``, so that bytes of other programs are recognised
1          version of this format: 1
1          kind (bits 0 and 1) and whether the payload is text (bit 2); other bits are 0
8          origin: the ``zCLI`` object that published it
varint     number: counts up within the origin
list       ``without``: identities whose clients do not get the message
list       ``rooms``: the rooms of a message for several rooms; empty for one room
2          close code, big-endian; only in the kind ``DISCONNECT``
the rest   payload: a message as it is, or the reason of a close
========== =============================================================================

A varint has 7 bits in each byte, the lowest first; the highest bit of a byte says that another byte follows. A list is
a varint with the number of items, and for each item a varint with its length in bytes and its UTF-8.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

_MAGIC = b"zC\x01"
_TEXT = 4
_KIND = 3
_ORIGIN = 8
#: Most bits of a varint.
_LONGEST_NUMBER = 63


class EnvelopeError(ValueError):
    """The bytes are not an envelope of this version."""


class Kind(enum.IntEnum):
    """What an envelope is for."""

    #: A message for clients.
    MESSAGE = 0
    #: Close the connections of clients.
    DISCONNECT = 1
    #: A message of a process to itself, which proves that the path works.
    PROBE = 2
    #: Call the functions that wait for a topic, which is the payload.
    WAKE = 3


class Envelope(NamedTuple):
    """What is published on a channel. The channel says for whom it is."""

    kind: Kind
    #: 8 bytes that name the ``zCLI`` object that published it.
    origin: bytes
    #: Counts up within the origin.
    number: int
    #: A message, str for text, the reason of a close, or a topic.
    payload: str | bytes = b""
    #: Identities whose clients do not get it.
    without: tuple[str, ...] = ()
    #: All rooms of a message that is published on the channels of several rooms; otherwise empty.
    rooms: tuple[str, ...] = ()
    #: Close code (RFC 6455, section 7.4); 0 except in ``DISCONNECT``.
    code: int = 0

    def encode(self) -> bytes:
        """Return the binary form."""
        flags, payload = int(self.kind), self.payload
        if isinstance(payload, str):
            flags, payload = flags | _TEXT, payload.encode()
        parts = [_MAGIC, bytes((flags,)), self.origin, _number(self.number), _list(self.without), _list(self.rooms)]
        if self.kind is Kind.DISCONNECT:
            parts.append(self.code.to_bytes(2, "big"))
        return b"".join((*parts, payload))


def decode(data: bytes) -> Envelope:
    """Return the envelope of a binary form.

    Raises:
        EnvelopeError: The bytes are not an envelope of this version. No other error is raised.
    """
    if not data.startswith(_MAGIC):
        raise EnvelopeError("it does not begin as a message of zCLI does")
    reader = _Reader(data, len(_MAGIC))
    flags = reader.take(1)[0]
    if flags & ~(_TEXT | _KIND):
        raise EnvelopeError(f"its flags are {flags:#04x}")
    kind = Kind(flags & _KIND)
    origin = reader.take(_ORIGIN)
    number = reader.number()
    without = reader.list()
    rooms = reader.list()
    code = int.from_bytes(reader.take(2), "big") if kind is Kind.DISCONNECT else 0
    payload: str | bytes = reader.rest()
    if flags & _TEXT:
        payload = _text(payload)
    return Envelope(kind, origin, number, payload, without, rooms, code)


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _list(items: Sequence[str]) -> bytes:
    if not items:
        return b"\0"
    encoded = [item.encode() for item in items]
    return _number(len(encoded)) + b"".join(_number(len(item)) + item for item in encoded)


def _text(data: bytes | str) -> str:
    try:
        return str(data, "utf-8")  # type: ignore[arg-type]  # slices of bytes are bytes
    except UnicodeDecodeError:
        raise EnvelopeError("a text in it is not UTF-8") from None


class _Reader:
    """Reads an envelope from left to right."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        end = self._position + length
        if end > len(self._data):
            raise EnvelopeError("it is cut off")
        found = self._data[self._position : end]
        self._position = end
        return found

    def number(self) -> int:
        """Return the next varint."""
        value = 0
        for shift in range(0, _LONGEST_NUMBER, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise EnvelopeError("a number in it is too large")

    def list(self) -> tuple[str, ...]:
        """Return the next list of texts."""
        count = self.number()
        if count > len(self._data):  # each item has at least one byte
            raise EnvelopeError("it is cut off")
        return tuple(_text(self.take(self.number())) for _ in range(count))

    def rest(self) -> bytes:
        """Return what is left."""
        return self._data[self._position :]
