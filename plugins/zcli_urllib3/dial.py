"""Connecting: names resolved and addresses tried, all before one deadline."""

from __future__ import annotations

import errno
import ipaddress
import os
import queue
import selectors
import socket
import threading
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from zcli_core.contracts.http import TransportFailure
from zcli_urllib3.failures import network_failure
from zcli_urllib3.sockets import DeadlineSocket, remaining

#: How long an address may keep us waiting before the next is tried beside it (RFC 8305, section 5).
ATTEMPT_DELAY = 0.25

_Address = tuple[int, int, int, Any]
_UNDER_WAY = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", errno.EAGAIN)}


def dial(host: str, port: int, deadline: float) -> DeadlineSocket:
    """A connection to a host. Raises TransportFailure: timeout, dns, refused, unreachable."""
    addresses = _resolve(host, port, deadline)
    peer = f"{host}:{port}"
    try:
        connected = _connect(addresses[0], deadline) if len(addresses) == 1 else _race(addresses, deadline)
        if connected.getsockname() == connected.getpeername():
            # Both ends of a connection to a free local port can turn out to be the same socket.
            connected.close()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except OSError as error:
        raise network_failure(error, peer, f"connecting to {peer}") from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _resolve(host: str, port: int, deadline: float) -> list[_Address]:
    """The addresses of a host, IPv6 and IPv4 in turn. Raises TransportFailure: dns, timeout."""
    try:
        if host == "localhost" or _is_address(host):
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        else:
            found = _look_up(host, port, remaining(deadline))
    except (TimeoutError, queue.Empty):
        raise TransportFailure("timeout", f"the deadline passed while looking up the address of {host}") from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no domain name"
        raise TransportFailure("dns", f"{host} has no address: {reason}") from error
    return list(_alternating([(family, kind, protocol, address) for family, kind, protocol, _, address in found]))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str, port: int, seconds: float) -> Any:
    """``getaddrinfo`` within a time limit, which it has none of its own: in a thread that is left behind if it must."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    try:
        threading.Thread(target=ask, name=f"zcli-lookup-{host}", daemon=True).start()
    except RuntimeError:  # no new thread can be had, as at the end of the program
        ask()
    answer = answers.get(timeout=seconds)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _alternating(addresses: list[_Address]) -> Iterator[_Address]:
    """RFC 8305, section 4: the families in turn, the system's first choice first."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    for pair in zip_longest(first, others):
        yield from (address for address in pair if address is not None)


def _connect(address: _Address, deadline: float) -> DeadlineSocket:
    family, kind, protocol, place = address
    attempt = DeadlineSocket(family, kind, protocol)
    attempt.deadline = deadline
    try:
        attempt.connect(place)
    except BaseException:
        attempt.close()
        raise
    return attempt


def _race(addresses: list[_Address], deadline: float) -> DeadlineSocket:
    """Try the addresses one after another, not waiting long for any; the first that connects is taken."""
    waiting = list(addresses)
    errors: list[OSError] = []
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or selector.get_map():
                winner = _start(waiting.pop(0), deadline, selector, errors) if waiting else None
                if winner is None and selector.get_map():
                    pause = min(ATTEMPT_DELAY, remaining(deadline)) if waiting else remaining(deadline)
                    winner = _first_connected(selector, pause, errors)
                if winner is not None:
                    return winner
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
    raise next((error for error in errors if isinstance(error, ConnectionRefusedError)), errors[0])


def _start(
    address: _Address, deadline: float, selector: selectors.BaseSelector, errors: list[OSError]
) -> DeadlineSocket | None:
    """Begin to connect; the socket if that succeeded at once."""
    family, kind, protocol, place = address
    try:
        attempt = DeadlineSocket(family, kind, protocol)
    except OSError as error:  # a family that this machine does not have
        errors.append(error)
        return None
    attempt.deadline = deadline
    attempt.setblocking(False)
    status = attempt.connect_ex(place)
    if status == 0:
        return attempt
    if status in _UNDER_WAY:
        selector.register(attempt, selectors.EVENT_WRITE)
    else:
        attempt.close()
        errors.append(OSError(status, os.strerror(status)))
    return None


def _first_connected(selector: selectors.BaseSelector, pause: float, errors: list[OSError]) -> DeadlineSocket | None:
    for key, _ in selector.select(pause):
        attempt = key.fileobj
        assert isinstance(attempt, DeadlineSocket)
        selector.unregister(attempt)
        status = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status == 0:
            return attempt
        attempt.close()
        errors.append(OSError(status, os.strerror(status)))
    return None
