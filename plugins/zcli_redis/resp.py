"""The part of the Redis serialization protocol (RESP) that a probe needs.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from typing import Any

_DEEPEST = 8
_MOST = 4096


class Incomplete(Exception):  # noqa: N818 - not an error
    """More bytes of the reply are expected."""


def is_complete(data: bytes) -> bool:
    """Return whether ``data`` begins with a complete reply, or is not a reply."""
    try:
        parse(data)
    except Incomplete:
        return False
    except ValueError:
        pass
    return True


def parse(data: bytes) -> Any:
    """Return the first reply: bytes for a string, an int, a list, or None.

    Raises:
        Incomplete: the reply is not complete.
        ValueError: it is not a reply, or an error reply.
    """
    return _value(data, 0, 0)[0]


def _value(data: bytes, start: int, depth: int) -> tuple[Any, int]:
    end = data.find(b"\r\n", start)
    if end < 0:
        raise Incomplete
    kind, text = data[start : start + 1], data[start + 1 : end]
    after = end + 2
    if kind == b"+":
        return text, after
    if kind == b":":
        return int(text), after
    if kind == b"$":
        return _bulk(data, int(text), after)
    if kind == b"*" and depth < _DEEPEST and int(text) <= _MOST:
        items = []
        for _ in range(int(text)):
            item, after = _value(data, after, depth + 1)
            items.append(item)
        return items, after
    raise ValueError("an error reply, or another protocol")


def _bulk(data: bytes, length: int, start: int) -> tuple[bytes | None, int]:
    if length < 0:
        return None, start
    end = start + length
    if len(data) < end + 2:
        raise Incomplete
    if data[end : end + 2] != b"\r\n":
        raise ValueError("invalid length of a bulk string")
    return data[start:end], end + 2
