"""As much of the Redis serialisation protocol as a greeting takes. https://redis.io/docs/latest/develop/reference/protocol-spec/"""

from __future__ import annotations

from typing import Any

_DEEPEST = 8
_MOST = 4096


class Incomplete(Exception):  # noqa: N818 - not an error: more may come
    """The reply goes on."""


def is_whole(data: bytes) -> bool:
    """Whether one whole reply is there, or something that is none."""
    try:
        parse(data)
    except Incomplete:
        return False
    except ValueError:
        pass
    return True


def parse(data: bytes) -> Any:
    """The first reply: simple strings and bulk strings as bytes, numbers, lists, None; an error is a ValueError.

    :raises Incomplete: it goes on.
    :raises ValueError: it is no reply, or an error reply.
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
    raise ValueError("an error, or no reply of this protocol")


def _bulk(data: bytes, length: int, start: int) -> tuple[bytes | None, int]:
    if length < 0:
        return None, start
    end = start + length
    if len(data) < end + 2:
        raise Incomplete
    if data[end : end + 2] != b"\r\n":
        raise ValueError("a bulk string of another length")
    return data[start:end], end + 2
