"""The events of a decoder: messages, which are plain ``str`` and ``bytes``, control frames, and failures."""

from __future__ import annotations

from typing import NamedTuple

from zcli_core.websocket.parts.frames import may_be_sent


class Ping(NamedTuple):
    """A ping: the client expects a pong with the same payload."""

    payload: bytes


class Pong(NamedTuple):
    """A pong."""

    payload: bytes


class Close(NamedTuple):
    """The client's close frame; the code is 1005 if it has none. No event follows."""

    code: int
    reason: str


class Failure(NamedTuple):
    """A violation of the protocol or of a limit, with the close code and reason to send. No event follows."""

    code: int
    reason: str


Event = str | bytes | Ping | Pong | Close | Failure

NOT_UTF8 = Failure(1007, "text is not valid UTF-8")


def too_big(size: int, limit: int) -> Failure:
    """Return the failure of a message over ``max_size``. It has both numbers, which show how to set the limit."""
    return Failure(1009, f"message of {size} bytes or more, the limit is {limit} (websocket.max_size)")


def inflates_too_big(limit: int) -> Failure:
    """Return the failure of a message that is over ``max_size`` when it is decompressed."""
    return Failure(1009, f"message inflates beyond the limit of {limit} bytes (websocket.max_size)")


def too_many_fragments(limit: int) -> Failure:
    """Return the failure of a message with more than ``max_fragments`` empty fragments."""
    return Failure(1009, f"message of more than {limit} empty fragments (websocket.max_fragments)")


def read_close(payload: bytes) -> Close | Failure:
    """Decode the payload of a close frame (RFC 6455, 5.5.1 and 7.4)."""
    if not payload:
        return Close(1005, "")
    if len(payload) == 1:
        return Failure(1002, "close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        return Failure(1002, f"close frame with the invalid code {code}")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        return Failure(1007, "reason of the close frame is not valid UTF-8")
