"""The sockets behind :mod:`zcli_core.net.ports`: resolve, bind, connect. Arguments come in checked."""

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

# What names the same place for whoever binds or connects: both are looked at when one is asked for.
_LOOPBACK = ("127.0.0.1", "::1")
_WILDCARD = ("0.0.0.0", "::")  # noqa: S104 - compared and probed, never served on

_LOCAL_TIMEOUT = 0.25
_SECOND_LOOK_AFTER = 0.005
_FREE_PORT_TRIES = 100

_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EINVAL}


@dataclass(frozen=True)
class Verdict:
    """What probing found: see ``PortState`` in :mod:`zcli_core.net.ports`."""

    status: Literal["available", "in use", "unknown"]
    detail: str
    privileged: bool = False


# --- names -------------------------------------------------------------------------------------------------


def resolve(host: str, port: int, timeout: float) -> list[Address]:
    """The addresses of a host, each once, loopback and wildcard addresses with their pair.

    Raises OSError with a readable ``strerror`` if there are none, or none within ``timeout`` seconds.
    """
    if host.lower().rstrip(".") == "localhost":  # RFC 6761 section 6.3: no need to ask anybody
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
    """An IPv4 address that was written as IPv6 (RFC 4291, section 2.5.5.2) as what it is."""
    mapped = address.host.lower().removeprefix("::ffff:")
    is_mapped = address.family == socket.AF_INET6 and "." in mapped
    return _endpoint(mapped, address.sockaddr[1]) if is_mapped else address


# --- binding -----------------------------------------------------------------------------------------------

# One probe at a time: two threads that bind one port would each take the other for its holder.
_probing = threading.Lock()


def _renew_lock() -> None:
    global _probing  # noqa: PLW0603 - the copy a forked child gets may be locked by a thread it has not
    _probing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def examine(host: str, port: int, remote_timeout: float) -> Verdict:
    """Tell whether the port is taken: by binding where the host is us, by connecting where it is not."""
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
    # The one that has most to say: unknown before available, and available with a reservation before free.
    return min(verdicts, key=lambda each: (each.status != "unknown", each == _FREE))


_FREE = Verdict("available", "nothing holds it")
_LINGERING = Verdict(
    "available",
    "no program holds it, though connections of the last one are still closing, which may keep it from being "
    "bound for a minute",
)


def _judge_local(endpoint: Address) -> Verdict | None:
    """The verdict at one address; None if it is not an address of this machine."""
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
    # Windows lets a loopback address be bound beside somebody's wildcard address, even exclusively.
    if sys.platform == "win32" and connect([endpoint], _LOCAL_TIMEOUT)[0]:
        return _in_use(endpoint)
    return _FREE


def _judge_taken(endpoint: Address, strict: int | None, lenient: int | None) -> Verdict:
    """Tell a holder from leftovers, where a strict bind failed.

    A socket that is bound with SO_REUSEADDR and not listening cannot be told from leftovers beside it.
    """
    entries = tcp_sockets(endpoint.sockaddr[1], [endpoint.host])
    if entries is None:
        leftovers = not _bind(endpoint, lenient) and not connect([endpoint], _LOCAL_TIMEOUT)[0]
    elif any(entry.listening for entry in entries):
        leftovers = False
    elif any(entry.held for entry in entries):
        # Connections. If they were accepted by a server that is gone, its successor may share the port.
        leftovers = not _bind(endpoint, lenient)
    elif entries:
        leftovers = True  # only what no process owns, such as TIME_WAIT
    else:
        # Somebody has bound it without listening; or it was another process's probe, which is over by now.
        time.sleep(_SECOND_LOOK_AFTER)
        return _in_use(endpoint) if _bind(endpoint, strict) else _FREE
    return _LINGERING if leftovers else _in_use(endpoint)


def _judge_forbidden(endpoint: Address) -> Verdict:
    """Tell whether anybody has a port that we may not bind."""
    if sys.platform == "win32":  # there it means that somebody holds it exclusively or the system reserves it
        return _in_use(endpoint)
    entries = tcp_sockets(endpoint.sockaddr[1], [endpoint.host])
    listed = entries is not None and any(entry.held for entry in entries)
    if listed or (entries is None and connect([endpoint], _LOCAL_TIMEOUT)[0]):
        return Verdict("in use", _in_use(endpoint).detail, privileged=True)
    return Verdict("available", "nothing holds it, but this user may not bind it", privileged=True)


def _in_use(endpoint: Address) -> Verdict:
    return Verdict("in use", f"in use at {endpoint.host}")


def bind_options(platform: str) -> tuple[int | None, int | None]:
    """The socket options of a bind that tolerates nothing, and of one that tolerates leftovers.

    SO_REUSEADDR is the tolerant one on POSIX systems. On Windows it would take the port from a running
    server; there SO_EXCLUSIVEADDRUSE is the strict one and no option the tolerant.
    """
    if platform == "win32":
        return int(getattr(socket, "SO_EXCLUSIVEADDRUSE", ~socket.SO_REUSEADDR)), None
    return None, socket.SO_REUSEADDR


def _bind(endpoint: Address, option: int | None) -> int:
    """Bind and let go at once; 0, or the error's number."""
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
    """A port that is free at all of these addresses; None if none of them is this machine's.

    Raises OSError if the system has no port to give.
    """
    strict, _ = bind_options(sys.platform)
    ours = [endpoint for endpoint in endpoints if _bind(endpoint.at(0), strict) not in _NOT_HERE]
    if not ours:
        return None
    for _ in range(_FREE_PORT_TRIES):
        with _probing, _bound(ours[0].at(0), strict) as sock:
            port = int(sock.getsockname()[1])
        if all(_judge_local(endpoint.at(port)) == _FREE for endpoint in ours):
            return port
    raise OSError(errno.EADDRINUSE, f"no port was free at all of {', '.join(each.host for each in ours)}")


# --- connecting --------------------------------------------------------------------------------------------


def _judge_remote(endpoints: Sequence[Address], timeout: float) -> Verdict:
    serving, failures = connect(endpoints, timeout)
    if serving:
        return Verdict("in use", "something answers there")
    if errno.ECONNREFUSED in failures and errno.ETIMEDOUT not in failures:
        return Verdict("available", "the host refuses connections to it, so nothing serves there")
    return Verdict("unknown", explain(failures))


def connect(endpoints: Sequence[Address], timeout: float) -> tuple[bool, set[int]]:
    """Try all addresses at once, for at most ``timeout`` seconds: (whether one accepted, errors met)."""
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
    """Where a client finds who is bound to this address: a wildcard one is no destination everywhere."""
    if endpoint.host not in _WILDCARD:
        return endpoint
    return _endpoint(_LOOPBACK[_WILDCARD.index(endpoint.host)], endpoint.sockaddr[1])


def explain(failures: Collection[int]) -> str:
    """Say why no address could be reached."""
    if not failures:
        return "it has no address to ask"
    names: dict[int, str] = getattr(socket, "errorTab", {})  # Windows: strerror does not know its codes
    return ", ".join(sorted(names.get(code, os.strerror(code)).lower().rstrip(".") for code in failures))
