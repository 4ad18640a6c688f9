"""Resolving names and connecting within a deadline, for all code of zCLI that opens connections.

A deadline is a reading of :func:`time.monotonic`. Names are resolved in a daemon thread, because ``getaddrinfo`` has no
timeout. If the deadline passes, the thread is left to finish alone.
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

#: Seconds after which the next address is tried while the last attempt goes on (RFC 8305, section 5).
ATTEMPT_DELAY = 0.25

# A socket's timeout cannot hold arbitrarily large numbers.
_LONGEST = 1e6
_IN_PROGRESS = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", errno.EAGAIN)}

#: struct linger {on, 0 seconds}: two ints on POSIX systems, two shorts on Windows.
RESET_ON_CLOSE = (1).to_bytes(2 if sys.platform == "win32" else 4, sys.byteorder)
RESET_ON_CLOSE += bytes(len(RESET_ON_CLOSE))


class Address(NamedTuple):
    """One address of a host in the form that sockets take. ``sockaddr`` begins with (address, port)."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def host(self) -> str:
        """The address without the port."""
        return str(self.sockaddr[0])

    def at(self, port: int) -> Address:
        """Return the same address with another port."""
        return Address(self.family, (self.host, port, *self.sockaddr[2:]))


class NoConnectionError(Exception):
    """Raised if no address accepts a connection.

    Attributes:
        errors: An error for each attempt that failed. The last one is a TimeoutError if the deadline passed during an
            attempt.
    """

    def __init__(self, errors: Sequence[OSError]) -> None:
        super().__init__(*errors)
        self.errors = tuple(errors) or (OSError(errno.EADDRNOTAVAIL, "the host has no address"),)

    @property
    def cause(self) -> OSError:
        """The most telling error: that of the deadline, otherwise a refusal, otherwise the first."""
        if is_deadline(self.errors[-1]):
            return self.errors[-1]
        return next((error for error in self.errors if isinstance(error, ConnectionRefusedError)), self.errors[0])


def remaining(deadline: float) -> float:
    """Return the seconds left until a deadline.

    Raises:
        TimeoutError: The deadline has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the deadline passed")
    return min(seconds, _LONGEST)


def is_deadline(error: BaseException) -> bool:
    """Return whether an error means that a deadline of zCLI, or the timeout of a socket, passed.

    A TimeoutError with ETIMEDOUT comes from the system: the network delivers nothing any more.
    """
    return isinstance(error, TimeoutError) and error.errno is None


def resolve(host: str, port: int, deadline: float) -> list[Address]:
    """Return the addresses of a host, IPv6 and IPv4 in turn, in the order of the system (RFC 8305, section 4).

    Raises:
        TimeoutError: The deadline passed.
        socket.gaierror: The host has no address. ``strerror`` is the reason.
    """
    if not host.isascii() or not host:
        # getaddrinfo would encode it by IDNA 2003, which leads to another host for some names.
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name")
    is_local = host == "localhost" or is_numeric(host)  # resolved without a name server
    found = _look_up(host, port) if is_local else _look_up_within(host, port, remaining(deadline))
    first = [address for address in found if address.family == found[0].family]
    others = [address for address in found if address.family != found[0].family]
    return [address for pair in zip_longest(first, others) for address in pair if address is not None]


def is_numeric(host: str) -> bool:
    """Return whether a host is an IPv4 address, or an IPv6 address with or without a zone (``fe80::1%eth0``)."""
    family, address = (socket.AF_INET6, host.partition("%")[0]) if ":" in host else (socket.AF_INET, host)
    try:
        socket.inet_pton(family, address)
    except OSError as error:
        if raised_by_signal(error):
            raise
        return False
    return True


def _look_up(host: str, port: int) -> list[Address]:
    # As bytes, because a str is encoded by the idna codec, whose import takes longer than a connection.
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
    except RuntimeError:  # no thread can be started at the end of the program
        work()
    try:
        outcome = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("the host name was not resolved in time") from None
    if isinstance(outcome, UnicodeError):  # a label that is longer than 63 characters
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from outcome
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def connect(addresses: Sequence[Address], deadline: float, delay: float = ATTEMPT_DELAY) -> socket.socket:
    """Connect to the first of these addresses that accepts a TCP connection; return the non-blocking socket.

    A connection of a socket with itself counts as refused.

    Args:
        addresses: The addresses, in the order in which they are tried.
        deadline: Ends all attempts.
        delay: Seconds after which the next address is tried, if the last attempt has not failed before.

    Raises:
        NoConnectionError: No address accepted a connection.
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
                if winner is not None and _disable_delay(winner, errors):
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
    """Begin to connect; return the socket if it connected at once."""
    try:
        attempt = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:  # an unsupported address family, or too many open files
        if raised_by_signal(error):
            raise
        errors.append(error)
        return None
    try:
        attempt.setblocking(False)
        status = attempt.connect_ex(address.sockaddr)
        if status in _IN_PROGRESS:
            selector.register(attempt, selectors.EVENT_WRITE)
            return None
        errors.append(OSError(status, os.strerror(status)))
    except BaseException as error:
        attempt.close()
        if not isinstance(error, OSError) or raised_by_signal(error):
            raise
        errors.append(error)  # an invalid address
    attempt.close()
    return None


def _disable_delay(sock: socket.socket, errors: list[OSError]) -> bool:
    """Turn off Nagle's algorithm; return False if that failed, as on macOS if the peer has reset the connection."""
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
        status = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status == 0 and is_self_connected(attempt):
            # Closed by a reset, because in TIME_WAIT no server could bind the port that the caller may wait for.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            status = errno.ECONNREFUSED
        selector.unregister(attempt)
        if status == 0:
            return attempt
        attempt.close()
        errors.append(OSError(status, os.strerror(status)))
    return None


def is_self_connected(sock: socket.socket) -> bool:
    """Return whether a socket is connected to itself (RFC 9293, section 3.5, simultaneous open).

    This happens if the system chooses the free port that is connected to as the source port. A connection whose peer
    has closed it is not one of these.
    """
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError as error:
        if raised_by_signal(error):
            raise
        return False


# --- waiting ---

#: The events of poll(2), which :mod:`select` does not name on Windows.
READABLE, WRITABLE = 1, 4


class Poll(Protocol):
    """The methods of ``select.poll`` that zCLI uses."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Wait for these events of a descriptor from now on."""
        ...

    def unregister(self, fd: int, /) -> None:
        """Stop waiting for events of a descriptor."""
        ...

    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]:
        """Wait at most ``timeout`` milliseconds, or without a limit if it is None; return the events that occurred."""
        ...


class SelectPoll:
    """``select.poll`` on top of ``select.select``, for Windows, which does not limit descriptor numbers."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, eventmask: int, /) -> None:
        """Wait for these events of a descriptor from now on."""
        self._wanted[fd] = eventmask

    def unregister(self, fd: int, /) -> None:
        """Stop waiting for events of a descriptor."""
        del self._wanted[fd]

    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]:
        """Wait at most ``timeout`` milliseconds, or without a limit if it is None; return the events that occurred."""
        seconds = None if timeout is None else timeout / 1000
        if not any(self._wanted.values()):
            time.sleep(_LONGEST if seconds is None else seconds)
            return []
        writers = [fd for fd, wanted in self._wanted.items() if wanted & WRITABLE]
        found = select.select(
            [fd for fd, wanted in self._wanted.items() if wanted & READABLE],
            writers,
            writers,  # Windows reports a failed connection here
            seconds,
        )
        events: dict[int, int] = {}
        for fds, event in zip(found, (READABLE, WRITABLE, WRITABLE), strict=True):
            for fd in fds:
                events[fd] = events.get(fd, 0) | event
        return list(events.items())


#: Makes an object that waits for sockets.
new_poll: Callable[[], Poll] = getattr(select, "poll", SelectPoll)


def wait_for(fd: int, events: int, seconds: float | None) -> int:
    """Wait until one of the events occurs.

    Args:
        fd: A file descriptor.
        events: :data:`READABLE`, :data:`WRITABLE` or both.
        seconds: The longest wait; None stands for no limit.

    Returns:
        The events that occurred, 0 if there were none.
    """
    poll = new_poll()
    poll.register(fd, events)
    return next((found for _, found in poll.poll(None if seconds is None else seconds * 1000)), 0)


def is_readable(fd: int) -> bool:
    """Return whether there is data to read now, or the end of the connection."""
    poll = new_poll()
    poll.register(fd, READABLE)
    return bool(poll.poll(0))
