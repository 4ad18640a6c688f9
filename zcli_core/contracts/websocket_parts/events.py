"""What the engine decodes besides messages, which are plain ``str`` and ``bytes``."""

from __future__ import annotations

from typing import NamedTuple


class Ping(NamedTuple):
    """The client asks for a pong with the same payload."""

    payload: bytes


class Pong(NamedTuple):
    """The client answers a ping."""

    payload: bytes


class Close(NamedTuple):
    """The client's close frame; 1005 if it has no code. Nothing follows."""

    code: int
    reason: str


class Failure(NamedTuple):
    """The client broke the protocol or a limit: close with this. Nothing follows."""

    code: int
    reason: str


Event = str | bytes | Ping | Pong | Close | Failure


def too_big(size: int, limit: int) -> Failure:
    """The failure of a message over ``max_size``; people need both numbers to know what to set."""
    return Failure(1009, f"message of {size} bytes or more, the limit is {limit} (websocket.max_size)")
