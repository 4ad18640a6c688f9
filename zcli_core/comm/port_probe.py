"""The sockets behind :mod:`zcli_core.comm.ports`: resolve, bind, connect. Arguments come in checked."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from zcli_core.comm.port_holder import tcp_sockets

# What names the same place for whoever binds or connects: both are looked at when one is asked for.
_LOOPBACK = ("127.0.0.1", "::1")
_WILDCARD = ("0.0.0.0", "::")  # noqa: S104 - compared and probed, never served on

_LOCAL_TIMEOUT = 0.25
_SECOND_LOOK_AFTER = 0.005
_FREE_PORT_TRIES = 100

_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EINVAL}
_IN_PROGRESS = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK)}


class Endpoint(NamedTuple):
    """One address of a host, as the socket calls take it. ``sockaddr`` begins with (address, port)."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def address(self) -> str:
        """The address without the port."""
        return str(self.sockaddr[0])

    def at(self, port: int) -> Endpoint:
        """The same address with another port."""
        return Endpoint(self.family, (self.address, port, *self.sockaddr[2:]))


@dataclass(frozen=True)
class Verdict:
    """What probing found: see ``PortState`` in :mod:`zcli_core.comm.ports`."""

    status: Literal["available", "in use", "unknown"]
    detail: str
    privileged: bool = False


# --- names -------------------------------------------------------------------------------------------------


def is_ipv6(host: str) -> bool:
    """Whether this is an IPv6 address, with or without a zone (``fe80::1%eth0``)."""
    try:
        socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return False
    return True


def resolve(host: str, port: int, timeout: float) -> list[Endpoint]:
    """The addresses of a host, each once, loopback and wildcard addresses with their pair.

    Raises OSError with a readable ``strerror`` if there are none, or none within ``timeout`` seconds.
    """
    if host.lower().rstrip(".") == "localhost":  # RFC 6761 section 6.3: no need to ask anybody
        found = [_endpoint("127.0.0.1", port)]
    else:
        try:
            found = _look_up(host, port, socket.AI_NUMERICHOST)
        except OSError:
            found = _look_up_within(host, port, timeout)
    for pair in (_LOOPBACK, _WILDCARD):
        if any(endpoint.address in pair for endpoint in found):
            found += [_endpoint(address, port) for address in pair]
    return list(dict.fromkeys(found))


def _endpoint(address: str, port: int) -> Endpoint:
    if ":" in address:
        return Endpoint(socket.AF_INET6, (address, port, 0, 0))
    return Endpoint(socket.AF_INET, (address, port))


def _look_up(host: str, port: int, flags: int = 0) -> list[Endpoint]:
    # Bytes, because a str is put through the idna codec, whose import costs more than the whole check.
    answers = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=flags)
    found = []
    for family, _, _, _, sockaddr in answers:
        mapped = str(sockaddr[0]).lower().removeprefix("::ffff:")
        if family == socket.AF_INET6 and "." in mapped:
            found.append(_endpoint(mapped, port))
        elif family in (socket.AF_INET, socket.AF_INET6):
            found.append(Endpoint(int(family), tuple(sockaddr)))
    return found


def _look_up_within(host: str, port: int, timeout: float) -> list[Endpoint]:
    """Look up in a thread, for the resolver has no deadline; a late answer is dropped."""
    outcome: list[list[Endpoint] | OSError] = []

    def work() -> None:
        try:
            outcome.append(_look_up(host, port))
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="zcli-resolve", daemon=True)
    thread.start()
    thread.join(min(timeout, threading.TIMEOUT_MAX))
    if not outcome:
        raise OSError(errno.ETIMEDOUT, "the name was not resolved in time")
    answer = outcome[0]
    if isinstance(answer, OSError):
        raise OSError(answer.errno, f"the name cannot be resolved ({answer.strerror or answer})") from answer
    if not answer:
        raise OSError(errno.EADDRNOTAVAIL, "the name has no IP address")
    return answer


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
        return Verdict("unknown", error.strerror or str(error))
    # The one that has most to say: unknown before available, and available with a reservation before free.
    return min(verdicts, key=lambda each: (each.status != "unknown", each == _FREE))


_FREE = Verdict("available", "nothing holds it")
_LINGERING = Verdict(
    "available",
    "no program holds it, though connections of the last one are still closing, which may keep it from being "
    "bound for a minute",
)


def _judge_local(endpoint: Endpoint) -> Verdict | None:
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


def _judge_taken(endpoint: Endpoint, strict: int | None, lenient: int | None) -> Verdict:
    """Tell a holder from leftovers, where a strict bind failed.

    A socket that is bound with SO_REUSEADDR and not listening cannot be told from leftovers beside it.
    """
    entries = tcp_sockets(endpoint.sockaddr[1], [endpoint.address])
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


def _judge_forbidden(endpoint: Endpoint) -> Verdict:
    """Tell whether anybody has a port that we may not bind."""
    if sys.platform == "win32":  # there it means that somebody holds it exclusively or the system reserves it
        return _in_use(endpoint)
    entries = tcp_sockets(endpoint.sockaddr[1], [endpoint.address])
    listed = entries is not None and any(entry.held for entry in entries)
    if listed or (entries is None and connect([endpoint], _LOCAL_TIMEOUT)[0]):
        return Verdict("in use", _in_use(endpoint).detail, privileged=True)
    return Verdict("available", "nothing holds it, but this user may not bind it", privileged=True)


def _in_use(endpoint: Endpoint) -> Verdict:
    return Verdict("in use", f"in use at {endpoint.address}")


def bind_options(platform: str) -> tuple[int | None, int | None]:
    """The socket options of a bind that tolerates nothing, and of one that tolerates leftovers.

    SO_REUSEADDR is the tolerant one on POSIX systems. On Windows it would take the port from a running
    server; there SO_EXCLUSIVEADDRUSE is the strict one and no option the tolerant.
    """
    if platform == "win32":
        return int(getattr(socket, "SO_EXCLUSIVEADDRUSE", ~socket.SO_REUSEADDR)), None
    return None, socket.SO_REUSEADDR


def _bind(endpoint: Endpoint, option: int | None) -> int:
    """Bind and let go at once; 0, or the error's number."""
    with _probing:
        try:
            with _bound(endpoint, option):
                return 0
        except OSError as error:
            return error.errno or errno.EIO


def _bound(endpoint: Endpoint, option: int | None) -> socket.socket:
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


def free_port(endpoints: Sequence[Endpoint]) -> int | None:
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
    raise OSError(errno.EADDRINUSE, f"no port was free at all of {', '.join(each.address for each in ours)}")


# --- connecting --------------------------------------------------------------------------------------------


def _judge_remote(endpoints: Sequence[Endpoint], timeout: float) -> Verdict:
    serving, failures = connect(endpoints, timeout)
    if serving:
        return Verdict("in use", "something answers there")
    if errno.ECONNREFUSED in failures and errno.ETIMEDOUT not in failures:
        return Verdict("available", "the host refuses connections to it, so nothing serves there")
    return Verdict("unknown", explain(failures))


def connect(endpoints: Sequence[Endpoint], timeout: float) -> tuple[bool, set[int]]:
    """Try all addresses at once, for at most ``timeout`` seconds: (whether one accepted, errors met)."""
    failures: set[int] = set()
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as opened:
        selector = opened.enter_context(selectors.DefaultSelector())
        for endpoint in endpoints:
            try:
                sock = opened.enter_context(socket.socket(endpoint.family, socket.SOCK_STREAM))
                sock.setblocking(False)
                code = sock.connect_ex(_reachable(endpoint).sockaddr)
            except OSError as error:
                code = error.errno or errno.EIO
            if code in _IN_PROGRESS:
                selector.register(sock, selectors.EVENT_WRITE)
            else:
                failures.add(code)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            for key, _ in (ready := selector.select(max(0.0, remaining))):
                selector.unregister(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                code = _outcome(key.fileobj)
                if not code:
                    return True, failures
                failures.add(code)
            if not ready and remaining <= 0:
                failures.add(errno.ETIMEDOUT)
                break
    return False, failures


def _reachable(endpoint: Endpoint) -> Endpoint:
    """Where a client finds who is bound to this address: a wildcard one is no destination everywhere."""
    if endpoint.address not in _WILDCARD:
        return endpoint
    return _endpoint(_LOOPBACK[_WILDCARD.index(endpoint.address)], endpoint.sockaddr[1])


def _outcome(sock: socket.socket) -> int:
    """How a connection attempt ended: 0 for accepted, else the error's number."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        return code
    try:
        to_itself = sock.getsockname() == sock.getpeername()
    except OSError:  # accepted and already reset; still, somebody was there
        return 0
    if not to_itself:
        return 0
    # An ephemeral port that nobody listens on may be chosen as its own source: simultaneous open, RFC 9293
    # section 3.5. Reset it, or TIME_WAIT would keep the port from the server that we may be waiting for.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()
    return errno.ECONNREFUSED


#: struct linger {on, 0 seconds}: two ints on POSIX systems, two shorts on Windows.
_RESET_ON_CLOSE = (1).to_bytes(2 if sys.platform == "win32" else 4, sys.byteorder)
_RESET_ON_CLOSE += bytes(len(_RESET_ON_CLOSE))


def explain(failures: Collection[int]) -> str:
    """Say why no address could be reached."""
    if not failures:
        return "it has no address to ask"
    names: dict[int, str] = getattr(socket, "errorTab", {})  # Windows: strerror does not know its codes
    return ", ".join(sorted(names.get(code, os.strerror(code)).lower().rstrip(".") for code in failures))
