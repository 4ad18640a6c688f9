"""Resolving names and connecting within a deadline, for everything in zCLI that opens a connection.

A deadline is a reading of :func:`time.monotonic`. Names are looked up in a daemon thread, because ``getaddrinfo`` has
no timeout: a call that cannot wait any longer leaves the thread behind.
"""

from __future__ import annotations

import errno
import os
import queue
import select
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

from zcli_core.errors import raised_by_signal

#: Seconds after which the next address is tried beside one that has not answered (RFC 8305, section 5).
ATTEMPT_DELAY = 0.25

# A socket's timeout cannot hold arbitrarily large numbers.
_LONGEST = 1e6
_IN_PROGRESS = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", errno.EAGAIN)}

#: struct linger {on, 0 seconds}: two ints on POSIX systems, two shorts on Windows.
RESET_ON_CLOSE = (1).to_bytes(2 if sys.platform == "win32" else 4, sys.byteorder)
RESET_ON_CLOSE += bytes(len(RESET_ON_CLOSE))


class Address(NamedTuple):
    """One address of a host, as the socket calls take it. ``sockaddr`` begins with (address, port)."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def host(self) -> str:
        """The address without the port."""
        return str(self.sockaddr[0])

    def at(self, port: int) -> Address:
        """The same address with another port."""
        return Address(self.family, (self.host, port, *self.sockaddr[2:]))


class NoConnectionError(Exception):
    """No address accepted a connection. ``errors`` holds one error for each attempt that failed.

    The last one is a TimeoutError if the deadline passed while an attempt was in progress.
    """

    def __init__(self, errors: Sequence[OSError]) -> None:
        super().__init__(*errors)
        self.errors = tuple(errors) or (OSError(errno.EADDRNOTAVAIL, "the host has no address"),)

    @property
    def cause(self) -> OSError:
        """The error that says most: the deadline, then a refusal, then whatever came first."""
        if is_deadline(self.errors[-1]):
            return self.errors[-1]
        return next((error for error in self.errors if isinstance(error, ConnectionRefusedError)), self.errors[0])


def remaining(deadline: float) -> float:
    """Seconds left until a deadline. Raises TimeoutError if there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the deadline passed")
    return min(seconds, _LONGEST)


def is_deadline(error: BaseException) -> bool:
    """Whether an error means that a deadline of ours passed, or the timeout of a socket.

    The system raises TimeoutError too, with ETIMEDOUT, if the network delivers nothing any more.
    """
    return isinstance(error, TimeoutError) and error.errno is None


def resolve(host: str, port: int, deadline: float) -> list[Address]:
    """The addresses of a host, IPv6 and IPv4 in turn, the system's first choice first (RFC 8305, section 4).

    Raises TimeoutError if the deadline passes first, and socket.gaierror with a readable ``strerror`` if there is no
    address.
    """
    if not host.isascii() or not host:
        # getaddrinfo would encode it by IDNA 2003, which names another host for some names.
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name")
    is_local = host == "localhost" or is_numeric(host)  # which needs no name server
    found = _look_up(host, port) if is_local else _look_up_within(host, port, remaining(deadline))
    first = [address for address in found if address.family == found[0].family]
    others = [address for address in found if address.family != found[0].family]
    return [address for pair in zip_longest(first, others) for address in pair if address is not None]


def is_numeric(host: str) -> bool:
    """Whether a host is an address, IPv6 with or without a zone (``fe80::1%eth0``)."""
    family, address = (socket.AF_INET6, host.partition("%")[0]) if ":" in host else (socket.AF_INET, host)
    try:
        socket.inet_pton(family, address)
    except OSError:
        return False
    return True


def _look_up(host: str, port: int) -> list[Address]:
    # Bytes, because a str is put through the idna codec, whose import costs more than a connection.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    families = (socket.AF_INET, socket.AF_INET6)
    return [Address(int(family), tuple(sockaddr)) for family, *_, sockaddr in found if family in families]


def _look_up_within(host: str, port: int, seconds: float) -> list[Address]:
    outcomes: queue.SimpleQueue[list[Address] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcomes.put(_look_up(host, port))
        except (OSError, UnicodeError) as error:
            outcomes.put(error)

    try:
        threading.Thread(target=work, name=f"zcli-resolve-{host}", daemon=True).start()
    except RuntimeError:  # no new thread can be had, as at the end of the program
        work()
    try:
        outcome = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(outcome, UnicodeError):  # a label that is longer than 63 characters
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from outcome
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def connect(addresses: Sequence[Address], deadline: float, delay: float = ATTEMPT_DELAY) -> socket.socket:
    """A TCP connection to the first of these addresses that accepts one. The socket does not block.

    The next address is tried ``delay`` seconds after the last one, or as soon as that has failed. A connection of a
    socket with itself counts as refused. Raises :class:`NoConnectionError`.
    """
    waiting = list(addresses)
    errors: list[OSError] = []
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or selector.get_map():
                winner = _begin(waiting.pop(0), selector, errors) if waiting else None
                if winner is None and selector.get_map():
                    left = remaining(deadline)
                    winner = _first_connected(selector, min(delay, left) if waiting else left, errors)
                if winner is not None and _send_at_once(winner, errors):
                    return winner
        except TimeoutError as error:
            if raised_by_signal(error):
                raise
            errors.append(error)
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
    raise NoConnectionError(errors)


def _begin(address: Address, selector: selectors.BaseSelector, errors: list[OSError]) -> socket.socket | None:
    """Begin to connect; the socket if that succeeded at once."""
    try:
        attempt = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:  # a family that this machine does not have, or too many open files
        errors.append(error)
        return None
    try:
        attempt.setblocking(False)
        status = attempt.connect_ex(address.sockaddr)
        if status in _IN_PROGRESS:
            selector.register(attempt, selectors.EVENT_WRITE)
            return None
        errors.append(OSError(status, os.strerror(status)))
    except OSError as error:  # an address that cannot be connected to
        errors.append(error)
    attempt.close()
    return None


def _send_at_once(sock: socket.socket, errors: list[OSError]) -> bool:
    """Turn off Nagle's algorithm; False if that failed, as it does on macOS if the peer has reset the connection."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException as error:
        sock.close()
        if not isinstance(error, OSError) or raised_by_signal(error):
            raise
        errors.append(error)
        return False
    return True


def _first_connected(selector: selectors.BaseSelector, pause: float, errors: list[OSError]) -> socket.socket | None:
    for key, _ in selector.select(pause):
        attempt = key.fileobj
        assert isinstance(attempt, socket.socket)
        selector.unregister(attempt)
        status = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status == 0 and is_self_connected(attempt):
            # Reset it: TIME_WAIT would keep the port from the server that the caller may be waiting for.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            status = errno.ECONNREFUSED
        if status == 0:
            return attempt
        attempt.close()
        errors.append(OSError(status, os.strerror(status)))
    return None


def is_self_connected(sock: socket.socket) -> bool:
    """Whether both ends of a connection are the same socket.

    A free port of the ephemeral range may be chosen as the source of a connection to itself: simultaneous open
    (RFC 9293, section 3.5). A peer that has gone again was somebody.
    """
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False


# --- waiting ---

#: What ``Poll`` waits for, as poll(2) has them, also where :mod:`select` has no names for them.
READABLE, WRITABLE = 1, 4


class Poll(Protocol):
    """What is used of ``select.poll``."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Wait for these events from now on."""
        ...

    def unregister(self, fd: int, /) -> None:
        """Wait for none any more."""
        ...

    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]:
        """Wait at most that many milliseconds, without a limit if it is None; return what is ready."""
        ...


class SelectPoll:
    """``select.poll`` over ``select.select``, for Windows, where there is no other and numbers are not limited."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, eventmask: int, /) -> None:
        """Wait for these events from now on."""
        self._wanted[fd] = eventmask

    def unregister(self, fd: int, /) -> None:
        """Wait for none any more."""
        del self._wanted[fd]

    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]:
        """Wait at most that many milliseconds, without a limit if it is None; return what is ready."""
        seconds = None if timeout is None else timeout / 1000
        if not any(self._wanted.values()):
            time.sleep(_LONGEST if seconds is None else seconds)
            return []
        writers = [fd for fd, wanted in self._wanted.items() if wanted & WRITABLE]
        found = select.select(
            [fd for fd, wanted in self._wanted.items() if wanted & READABLE],
            writers,
            writers,  # a connection that failed is told here
            seconds,
        )
        events: dict[int, int] = {}
        for fds, event in zip(found, (READABLE, WRITABLE, WRITABLE), strict=True):
            for fd in fds:
                events[fd] = events.get(fd, 0) | event
        return list(events.items())


#: Makes what waits for sockets.
new_poll: Callable[[], Poll] = getattr(select, "poll", SelectPoll)


def wait_for(fd: int, events: int, seconds: float | None) -> int:
    """Wait until one of the events occurs, at most ``seconds``, or without a limit if that is None.

    Returns the events that occurred, 0 if none did in time.
    """
    poll = new_poll()
    poll.register(fd, events)
    return next((found for _, found in poll.poll(None if seconds is None else seconds * 1000)), 0)


def is_readable(fd: int) -> bool:
    """Whether there is anything to read now, be it the end."""
    poll = new_poll()
    poll.register(fd, READABLE)
    return bool(poll.poll(0))
