"""What a decoder gives: messages, which are plain ``str`` and ``bytes``, control frames, and the end of it all."""

from __future__ import annotations

from typing import NamedTuple

from zcli_core.websocket.parts.frames import may_be_sent


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

NOT_UTF8 = Failure(1007, "text is not valid UTF-8")


def too_big(size: int, limit: int) -> Failure:
    """The failure of a message over ``max_size``; people need both numbers to know what to set."""
    return Failure(1009, f"message of {size} bytes or more, the limit is {limit} (websocket.max_size)")


def inflates_too_big(limit: int) -> Failure:
    """The failure of a compressed message that is over ``max_size`` when it is decompressed."""
    return Failure(1009, f"message inflates beyond the limit of {limit} bytes (websocket.max_size)")


def too_many_fragments(limit: int) -> Failure:
    """The failure of a message with more than ``max_fragments`` empty fragments."""
    return Failure(1009, f"message of more than {limit} empty fragments (websocket.max_fragments)")


def read_close(payload: bytes) -> Close | Failure:
    """What a close frame says (RFC 6455, 5.5.1 and 7.4)."""
    if not payload:
        return Close(1005, "")
    if len(payload) == 1:
        return Failure(1002, "close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        return Failure(1002, f"close frame with the code {code}")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        return Failure(1007, "reason of the close frame is not valid UTF-8")
