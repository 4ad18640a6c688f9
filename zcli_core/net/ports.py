"""Ports: check whether one is free, wait until something serves on one, find a free one, name the process that has it.

Two questions are kept apart. :func:`check_port` asks whether this program could have a port, and binds it to find out:
a port that is bound without listening refuses connections, but is not free. :func:`wait_for_port` asks whether a server
accepts connections, and connects.

The modules of sockets are imported by the first call, so that importing this module costs almost nothing.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zcli_core.errors import raised_by_signal
from zcli_core.net.validation import valid_host, valid_port, valid_timeout

if TYPE_CHECKING:
    from zcli_core.net.port_holder import PortHolder

_LOG = logging.getLogger(__name__)

#: Seconds in which another machine's name must be resolved and its addresses must respond.
REMOTE_TIMEOUT = 2.0

_POLL_FIRST = 0.01
_POLL_LONGEST = 0.25
_ATTEMPT_LONGEST = 1.0


@dataclass(frozen=True)
class PortState:
    """The state of a port.

    Attributes:
        port, host: The arguments.
        status: ``"available"`` (no program uses it), ``"in use"``, or ``"unknown"`` (the host cannot be resolved or
            does not respond).
        detail: The status in one clause, with the address or the cause.
        privileged: Whether this user may not bind the port, whether or not it is in use.
    """

    port: int
    host: str
    status: Literal["available", "in use", "unknown"]
    detail: str
    privileged: bool = False

    @property
    def available(self) -> bool:
        """Whether no program has the port."""
        return self.status == "available"


def check_port(port: int, host: str = "127.0.0.1", *, log: logging.Logger | None = None) -> bool:
    """Return whether a port is available, that is, whether no program uses it.

    :func:`port_state` also gives the reason. If the state cannot be found out, because the host cannot be resolved or
    does not respond, the result is False and a warning with the cause is logged.

    Do not wait for a server with this function, use :func:`wait_for_port`: this function binds the port for some
    microseconds, and a server that starts at that moment would find it in use.

    Args:
        port: From 1 to 65535.
        host: A host name or an address.
        log: Where the warning goes; the logger of this module by default.

    Raises:
        ValueError: The port or the host is invalid.
    """
    state = port_state(port, host)
    if state.status == "unknown":
        (log or _LOG).warning("check_port: %s", state.detail)
    return state.available


def port_state(port: int, host: str = "127.0.0.1") -> PortState:
    """Find out whether a port is available, in use or unknown, and why.

    - On Linux no connection is made to a server of this machine. On other systems one is made if binding does not
      decide.
    - ``localhost``, ``127.0.0.1`` and ``::1`` are treated as one host, and so are ``0.0.0.0`` and ``::``: the port is
      in use if a program has it at either address, or at a wildcard address that covers it.
    - A port that is bound without listening is in use. A port that only has closed connections (TIME_WAIT) is
      available.
    - A free port below 1024 is available, with ``privileged`` set if this user may not bind it. In that case a program
      that has bound the port without listening cannot be found.
    - For a host that is not this machine, the port is in use if it accepts a connection, available if the connection is
      refused, and unknown if nothing comes back within :data:`REMOTE_TIMEOUT` seconds.

    Raises:
        ValueError: The port or the host is invalid.
    """
    port, name = valid_port(port), valid_host(host)
    from zcli_core.net import port_probe

    verdict = port_probe.examine(name, port, REMOTE_TIMEOUT)
    detail = f"port {port} of {host}: {verdict.detail}"
    return PortState(port, host, verdict.status, detail, verdict.privileged)


def port_holder(port: int, host: str = "127.0.0.1") -> PortHolder | None:
    """Return the process that has a port of this machine.

    If this user may not see the process, Linux still gives the user that the process belongs to; other systems give
    nothing.

    Returns:
        The process, or None: no program has the port, it is bound without listening, the host is another machine or
        cannot be resolved, or the system does not show the process.

    Raises:
        ValueError: The port or the host is invalid.
    """
    port, name = valid_port(port), valid_host(host)
    from zcli_core.net import port_holder as table
    from zcli_core.net import port_probe

    try:
        endpoints = port_probe.resolve(name, port, REMOTE_TIMEOUT)
    except OSError as error:
        if raised_by_signal(error):
            raise
        return None
    return table.holder_of(port, [endpoint.host for endpoint in endpoints])


def held_by(port: int, host: str) -> str:
    """Return ``" by "`` and the process that has a port, for an error; empty if it is unknown."""
    try:
        holder = port_holder(port, host)
    except (OSError, ValueError):
        return ""
    if holder is None:
        return ""
    return " by this process" if holder.pid == os.getpid() else f" by {holder}"


def wait_for_port(
    port: int, timeout: float = 10.0, host: str = "127.0.0.1", *, log: logging.Logger | None = None
) -> bool:
    """Wait until a server accepts a connection on a port.

    The function tries every 10 ms at first and every 250 ms later. ``localhost``, ``127.0.0.1`` and ``::1`` are treated
    as one host. The function blocks; in a coroutine use ``await asyncio.to_thread(wait_for_port, ...)``.

    Args:
        port: From 1 to 65535.
        timeout: Seconds for everything: resolving the name, attempts and pauses.
        host: A host name or an address.
        log: Where the warning goes; the logger of this module by default.

    Returns:
        True as soon as a connection is accepted. False if the timeout passes; the last cause is then logged as a
        warning.

    Raises:
        ValueError: The port or the host is invalid, or the timeout is not a finite number above 0.
    """
    port, name, seconds = valid_port(port), valid_host(host), valid_timeout(timeout)
    from zcli_core.net import port_probe

    deadline = time.monotonic() + seconds
    pause = _POLL_FIRST
    cause = "no attempt was finished"
    while (remaining := deadline - time.monotonic()) > 0:
        try:
            # Resolved again for each attempt, because the name may appear or change while we wait.
            endpoints = port_probe.resolve(name, port, remaining)
            attempt = min(_ATTEMPT_LONGEST, deadline - time.monotonic())
            serving, failures = port_probe.connect(endpoints, attempt)
            if serving:
                return True
            cause = port_probe.explain(failures)
        except OSError as error:
            if raised_by_signal(error):
                raise
            cause = error.strerror or str(error)
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(pause * 1.5, _POLL_LONGEST)
    (log or _LOG).warning("wait_for_port: nothing served on port %d of %s within %g s: %s", port, host, seconds, cause)
    return False


def find_free_port(host: str = "127.0.0.1") -> int:
    """Return a port that no program uses now, chosen by the system.

    The port is not reserved, so bind it soon. A server that can bind port 0 and read the number afterwards should do
    that instead.

    Raises:
        ValueError: The host is invalid or is not an address of this machine.
        OSError: The system has no free port.
    """
    name = valid_host(host)
    from zcli_core.net import port_probe

    try:
        endpoints = port_probe.resolve(name, 0, REMOTE_TIMEOUT)
    except OSError as error:
        if raised_by_signal(error):
            raise
        raise ValueError(f"cannot find a free port on host {host!r}: {error.strerror}") from error
    port = port_probe.free_port(endpoints)
    if port is None:
        raise ValueError(f"cannot find a free port: {host!r} is not an address of this machine")
    return port
