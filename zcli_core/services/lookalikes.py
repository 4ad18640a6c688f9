"""Naming what answered where a service was expected: another protocol, or a process that holds the port."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from zcli_core.net.connecting import Address
from zcli_core.services.contract import Exchange, Reply
from zcli_core.services.probe_connection import NoConnectionError, Wire

# Whoever greets first has done so by then; on this machine it takes a millisecond.
_GREETING = 0.15
# HTTP answers this properly and line-based protocols (Redis, memcached, SMTP) with an error of their own kind.
_NEUTRAL = b"GET / HTTP/1.0\r\n\r\n"
# PostgreSQL answers nothing but its own protocol, and this part of it with one letter.
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")

_BEGINNINGS = (
    (b"HTTP/", "an HTTP server"),
    (b"<!DOCTYPE HTML", "an HTTP server"),
    (b"<html", "an HTTP server"),
    (b"SSH-", "an SSH server"),
    (b"+PONG", "Redis"),
    (b"-NOAUTH", "Redis"),
    (b"-DENIED", "Redis"),
    (b"-LOADING", "Redis"),
    (b"-ERR", "Redis"),
    (b"AMQP", "an AMQP broker"),
    (b"INFO {", "NATS"),
    (b"ERROR\r\n", "memcached"),
    (b"220 ", "a mail or FTP server"),
    (b"220-", "a mail or FTP server"),
    (b"* OK", "an IMAP server"),
    (b"\x15\x03", "a TLS server"),
)


def name_of(data: bytes) -> str | None:
    """Whose protocol these first bytes are, with an article: ``"an HTTP server"``; None if it is not known."""
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    if data in (b"S", b"N"):
        return "PostgreSQL"
    # MySQL's greeting: a packet's length in 3 bytes, its number 0, protocol version 10, a version in digits.
    if len(data) > 6 and data[3] == 0 and data[4] == 10 and data[5:6].isdigit():
        return "MySQL or MariaDB"
    if len(data) > 4 and data[0:1] in (b"E", b"R") and 8 <= int.from_bytes(data[1:5], "big") < 65536:
        return "PostgreSQL"
    if len(data) >= 16 and int.from_bytes(data[12:16], "little") in (1, 2013):
        return "MongoDB"
    return None


def shown(data: bytes) -> str:
    """Unknown bytes as they may be shown: short, printable."""
    return repr(data[:24])[1:] + ("..." if len(data) > 24 else "")


def who_answers(
    addresses: Sequence[Address], port: int, timeout: float, seen: bytes = b"", own: str = ""
) -> tuple[str, bool, bool]:
    """What answers at a port: a clause such as ``"an HTTP server answers there"``, whether anything was said, and
    whether connections were closed.

    :param seen: what was already received there, if anything.
    :param own: the name that it cannot have, because the probe of that service said so.
    """
    name, closes = name_of(seen), False
    if name is None:
        replies = _provoke(addresses, port, timeout)
        name = next(filter(None, map(name_of, replies)), None)
        seen = next((bytes(each) for each in (seen, *replies) if each), b"")
        closes = bool(replies) and any(reply.closed for reply in replies)
    if name is not None and name != own:
        return f"{name} answers there", True, False
    if seen:
        return f"something answers there with {shown(seen)}", True, closes
    if closes:
        return "it closes connections without a word, as a server does that accepts no more of them", False, True
    return "it accepts connections and says nothing", False, False


def _provoke(addresses: Sequence[Address], port: int, timeout: float) -> list[Reply]:
    """The greeting, then the replies to what many protocols answer, each on a connection of its own."""
    deadline = time.monotonic() + timeout
    replies: list[Reply] = []
    for send, longest in ((b"", _GREETING), (_NEUTRAL, timeout), (_SSL_REQUEST, timeout)):
        remaining = min(longest, deadline - time.monotonic())
        if remaining <= 0:
            break
        try:
            with Wire("", port, remaining, addresses=addresses) as wire:
                replies.append(wire.exchange(Exchange(send, bool)))
        except NoConnectionError:
            break
        if replies[-1]:
            break
    return replies


def holder_clause(addresses: Sequence[Address], port: int) -> str:
    """``" (nginx (pid 812) holds the port)"`` where the system tells, otherwise nothing."""
    from zcli_core.net.ports import port_holder

    for address in addresses:
        with contextlib.suppress(ValueError, OSError):
            holder = port_holder(port, address.host)
            if holder is not None:
                return f" ({holder} holds the port)"
    return ""
