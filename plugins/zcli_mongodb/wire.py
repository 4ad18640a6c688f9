"""The part of MongoDB's wire protocol and of BSON that a probe needs.

https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/ and https://bsonspec.org/spec.html
"""

from __future__ import annotations

import struct
from typing import Any

OP_MSG = 2013
_HEADER = struct.Struct("<iiii")
_MOST = 48_000_000
_DEEPEST = 20

# Sizes of BSON types with a fixed size whose value is not needed.
_FIXED = {0x06: 0, 0x07: 12, 0x09: 8, 0x0A: 0, 0x11: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}


def command(number: int, name: str, **options: bool) -> bytes:
    """Return an OP_MSG with one command to the database admin: ``{name: 1, ..., $db: "admin"}``."""
    elements = b"\x10" + _cstring(name) + struct.pack("<i", 1)
    for option, value in options.items():
        elements += b"\x08" + _cstring(option) + bytes([value])
    text = _cstring("admin")
    elements += b"\x02" + _cstring("$db") + struct.pack("<i", len(text)) + text
    document = struct.pack("<i", len(elements) + 5) + elements + b"\0"
    body = struct.pack("<i", 0) + b"\0" + document  # flag bits, section kind 0
    return _HEADER.pack(_HEADER.size + len(body), number, 0, OP_MSG) + body


def _cstring(text: str) -> bytes:
    return text.encode() + b"\0"


def is_complete(data: bytes) -> bool:
    """Return whether ``data`` begins with a complete message, or is not a message."""
    if len(data) < _HEADER.size:
        return False
    length, _, _, opcode = _HEADER.unpack_from(data)
    return opcode != OP_MSG or not _HEADER.size <= length <= _MOST or len(data) >= length


def reply_to(number: int, data: bytes) -> dict[str, Any]:
    """Return the document of the reply to the command with the request id ``number``.

    Values of types that a probe does not need are None.

    Raises:
        ValueError: it is not the reply to that command.
    """
    try:
        length, _, response_to, opcode = _HEADER.unpack_from(data)
        if opcode != OP_MSG or response_to != number or length > len(data) or data[_HEADER.size + 4] != 0:
            raise ValueError("not the reply to the command")
        document, _ = _document(data, _HEADER.size + 5, 0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError("the message is incomplete") from error
    return document


def _document(data: bytes, start: int, depth: int) -> tuple[dict[str, Any], int]:
    (size,) = struct.unpack_from("<i", data, start)
    end = start + size
    if size < 5 or end > len(data) or depth > _DEEPEST or data[end - 1] != 0:
        raise ValueError("invalid size of a document")
    found: dict[str, Any] = {}
    position = start + 4
    while position < end - 1:
        kind = data[position]
        name_end = data.index(b"\0", position + 1, end)
        name = data[position + 1 : name_end].decode()
        found[name], position = _element(data, kind, name_end + 1, depth)
        if position >= end:
            raise ValueError("an element beyond the end of its document")
    return found, end


def _element(data: bytes, kind: int, start: int, depth: int) -> tuple[Any, int]:
    if kind == 0x01:
        return struct.unpack_from("<d", data, start)[0], start + 8
    if kind in (0x02, 0x0D, 0x0E):
        (size,) = struct.unpack_from("<i", data, start)
        if size < 1 or start + 4 + size > len(data):
            raise ValueError("invalid size of a string")
        return data[start + 4 : start + 3 + size].decode(), start + 4 + size
    if kind in (0x03, 0x04):
        return _document(data, start, depth + 1)
    if kind == 0x05:
        (size,) = struct.unpack_from("<i", data, start)
        if size < 0:
            raise ValueError("negative size of a binary")
        return None, start + 5 + size
    if kind == 0x08:
        return data[start] == 1, start + 1
    if kind == 0x10:
        return struct.unpack_from("<i", data, start)[0], start + 4
    if kind == 0x12:
        return struct.unpack_from("<q", data, start)[0], start + 8
    if kind == 0x0B:
        pattern_end = data.index(b"\0", start)
        return None, data.index(b"\0", pattern_end + 1) + 1
    if kind in _FIXED:
        return None, start + _FIXED[kind]
    raise ValueError("an unknown type")
