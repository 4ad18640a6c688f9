"""Resolving, binding and connecting for :mod:`zcli_core.net.ports`, which validates the arguments."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from zcli_core.errors import raised_by_signal
from zcli_core.net import connecting
from zcli_core.net.connecting import Address
from zcli_core.net.port_holder import tcp_sockets

# Addresses that are treated as one host: both are probed if one is given.
_LOOPBACK = ("127.0.0.1", "::1")
_WILDCARD = ("0.0.0.0", "::")  # noqa: S104 - compared and probed, never served on

_LOCAL_TIMEOUT = 0.25
_SECOND_LOOK_AFTER = 0.005
_FREE_PORT_TRIES = 100

_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EINVAL}


@dataclass(frozen=True)
class Verdict:
    """The result of probing; see ``PortState`` in :mod:`zcli_core.net.ports`."""

    status: Literal["available", "in use", "unknown"]
    detail: str
    privileged: bool = False


# --- names -------------------------------------------------------------------------------------------------


def resolve(host: str, port: int, timeout: float) -> list[Address]:
    """Return the addresses of a host, each once. A loopback or wildcard address is returned with its counterpart.

    Raises:
        OSError: There are no addresses, or the name was not resolved within ``timeout`` seconds. ``strerror`` is the
            reason.
    """
    if host.lower().rstrip(".") == "localhost":  # RFC 6761, section 6.3: resolved without a name server
        found = [_endpoint("127.0.0.1", port)]
    else:
        try:
            found = [_unmapped(address) for address in connecting.resolve(host, port, time.monotonic() + timeout)]
        except socket.gaierror as error:
            raise OSError(error.errno, f"the name cannot be resolved ({error.strerror or error})") from error
        if not found:
            raise OSError(errno.EADDRNOTAVAIL, "the name has no IP address")
    for pair in (_LOOPBACK, _WILDCARD):
        if any(address.host in pair for address in found):
            found += [_endpoint(host, port) for host in pair]
    return list(dict.fromkeys(found))


def _endpoint(host: str, port: int) -> Address:
    if ":" in host:
        return Address(socket.AF_INET6, (host, port, 0, 0))
    return Address(socket.AF_INET, (host, port))


def _unmapped(address: Address) -> Address:
    """Return an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) as an IPv4 address, others unchanged."""
    mapped = address.host.lower().removeprefix("::ffff:")
    is_mapped = address.family == socket.AF_INET6 and "." in mapped
    return _endpoint(mapped, address.sockaddr[1]) if is_mapped else address


# --- binding -----------------------------------------------------------------------------------------------

# One probe at a time: two threads that bind the same port would each find it in use.
_probing = threading.Lock()


def _renew_lock() -> None:
    global _probing  # noqa: PLW0603 - after a fork the lock may be held by a thread of the parent
    _probing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def examine(host: str, port: int, remote_timeout: float) -> Verdict:
    """Find out whether a port is in use: by binding it on this machine, by connecting to another machine."""
    deadline = time.monotonic() + remote_timeout
    try:
        endpoints = resolve(host, port, remote_timeout)
        verdicts = []
        for endpoint in endpoints:
            verdict = _judge_local(endpoint)
            if verdict is not None:
                verdicts.append(verdict)
            if verdict is not None and verdict.status == "in use":
                return verdict
        if not verdicts:
            return _judge_remote(endpoints, deadline - time.monotonic())
    except OSError as error:
        if raised_by_signal(error):
            raise
        return Verdict("unknown", error.strerror or str(error))
    # Unknown wins over available, and available with a reservation over free.
    return min(verdicts, key=lambda each: (each.status != "unknown", each == _FREE))


_FREE = Verdict("available", "no program uses it")
_LINGERING = Verdict(
    "available",
    "no program uses it, but connections of the last program are still closing, so binding it may fail for a minute",
)


def _judge_local(endpoint: Address) -> Verdict | None:
    """Return the verdict for one address; None if it is not an address of this machine."""
    strict, lenient = bind_options(sys.platform)
    code = _bind(endpoint, strict)
    if code in _NOT_HERE:
        return None
    if code == errno.EADDRINUSE:
        return _judge_taken(endpoint, strict, lenient)
    if code in (errno.EACCES, errno.EPERM):
        return _judge_forbidden(endpoint)
    if code:
        return Verdict("unknown", explain({code}))
    # Windows allows binding a loopback address, even exclusively, while another program has the wildcard address.
    if sys.platform == "win32" and connect([endpoint], _LOCAL_TIMEOUT)[0]:
        return _in_use(endpoint)
    return _FREE


def _judge_taken(endpoint: Address, strict: int | None, lenient: int | None) -> Verdict:
    """Return the verdict after a strict bind failed: a program has the port, or only closed connections do.

    If there are closed connections, a socket that is bound with SO_REUSEADDR and not listening cannot be detected.
    """
    entries = tcp_sockets(endpoint.sockaddr[1], [endpoint.host])
    if entries is None:
        only_closed = not _bind(endpoint, lenient) and not connect([endpoint], _LOCAL_TIMEOUT)[0]
    elif any(entry.listening for entry in entries):
        only_closed = False
    elif any(entry.held for entry in entries):
        # Open connections. If the server that accepted them has ended, another server can bind the port.
        only_closed = not _bind(endpoint, lenient)
    elif entries:
        only_closed = True  # sockets of no process, such as those in TIME_WAIT
    else:
        # Another program has bound it without listening, or it was the short probe of another process.
        time.sleep(_SECOND_LOOK_AFTER)
        return _in_use(endpoint) if _bind(endpoint, strict) else _FREE
    return _LINGERING if only_closed else _in_use(endpoint)


def _judge_forbidden(endpoint: Address) -> Verdict:
    """Return the verdict for a port that this user may not bind."""
    if sys.platform == "win32":  # a program has it exclusively, or the system reserves it
        return _in_use(endpoint)
    entries = tcp_sockets(endpoint.sockaddr[1], [endpoint.host])
    listed = entries is not None and any(entry.held for entry in entries)
    if listed or (entries is None and connect([endpoint], _LOCAL_TIMEOUT)[0]):
        return Verdict("in use", _in_use(endpoint).detail, privileged=True)
    return Verdict("available", "no program uses it, but this user may not bind it", privileged=True)


def _in_use(endpoint: Address) -> Verdict:
    return Verdict("in use", f"in use at {endpoint.host}")


def bind_options(platform: str) -> tuple[int | None, int | None]:
    """Return the socket options of a strict and of a lenient bind. Only the lenient one ignores closed connections.

    On POSIX systems SO_REUSEADDR makes a bind lenient. On Windows that option would take the port from a running
    server; there a bind is lenient without an option, and SO_EXCLUSIVEADDRUSE makes it strict.
    """
    if platform == "win32":
        return int(getattr(socket, "SO_EXCLUSIVEADDRUSE", ~socket.SO_REUSEADDR)), None
    return None, socket.SO_REUSEADDR


def _bind(endpoint: Address, option: int | None) -> int:
    """Bind an address and release it at once; return 0 or the error number."""
    with _probing:
        try:
            with _bound(endpoint, option):
                return 0
        except OSError as error:
            if raised_by_signal(error):
                raise
            return error.errno or errno.EIO


def _bound(endpoint: Address, option: int | None) -> socket.socket:
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        if endpoint.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if option is not None:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind(endpoint.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def free_port(endpoints: Sequence[Address]) -> int | None:
    """Return a port that is free at all of these addresses, or None if none of them is an address of this machine.

    Raises:
        OSError: The system has no free port.
    """
    strict, _ = bind_options(sys.platform)
    local = [endpoint for endpoint in endpoints if _bind(endpoint.at(0), strict) not in _NOT_HERE]
    if not local:
        return None
    for _ in range(_FREE_PORT_TRIES):
        with _probing, _bound(local[0].at(0), strict) as sock:
            port = int(sock.getsockname()[1])
        if all(_judge_local(endpoint.at(port)) == _FREE for endpoint in local):
            return port
    raise OSError(errno.EADDRINUSE, f"no port was free at all of {', '.join(each.host for each in local)}")


# --- connecting --------------------------------------------------------------------------------------------


def _judge_remote(endpoints: Sequence[Address], timeout: float) -> Verdict:
    serving, failures = connect(endpoints, timeout)
    if serving:
        return Verdict("in use", "a server accepts connections there")
    if errno.ECONNREFUSED in failures and errno.ETIMEDOUT not in failures:
        return Verdict("available", "the host refuses connections to it")
    return Verdict("unknown", explain(failures))


def connect(endpoints: Sequence[Address], timeout: float) -> tuple[bool, set[int]]:
    """Try all addresses at once for at most ``timeout`` seconds; return whether one accepted, and the error numbers."""
    try:
        connecting.connect(
            [_reachable(endpoint) for endpoint in endpoints], time.monotonic() + timeout, delay=0
        ).close()
    except connecting.NoConnectionError as error:
        return False, {
            each.errno or (errno.ETIMEDOUT if connecting.is_deadline(each) else errno.EIO) for each in error.errors
        }
    return True, set()


def _reachable(endpoint: Address) -> Address:
    """Return the address to connect to. Not every system can connect to a wildcard address."""
    if endpoint.host not in _WILDCARD:
        return endpoint
    return _endpoint(_LOOPBACK[_WILDCARD.index(endpoint.host)], endpoint.sockaddr[1])


def explain(failures: Collection[int]) -> str:
    """Return the reason why no address could be reached."""
    if not failures:
        return "it has no address"
    names: dict[int, str] = getattr(socket, "errorTab", {})  # Windows: strerror does not know its codes
    return ", ".join(sorted(names.get(code, os.strerror(code)).lower().rstrip(".") for code in failures))
