"""Ports: is one free, wait until something serves, find a free one, and who holds it.

Two different questions meet here. "May I have this port?" is answered by binding it, for a port that is bound
but not listening refuses connections and yet is taken. "Is somebody serving?" is answered by connecting.
:func:`check_port` asks the first, :func:`wait_for_port` the second.

Importing this module costs next to nothing; sockets are imported by the first call.
"""

from __future__ import annotations

import logging
import math
import operator
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from zcli_core.errors import raised_by_signal

if TYPE_CHECKING:
    from zcli_core.net.port_holder import PortHolder

_LOG = logging.getLogger(__name__)

#: Seconds that another machine's name and all its addresses together are given to answer.
REMOTE_TIMEOUT = 2.0

_POLL_FIRST = 0.01
_POLL_LONGEST = 0.25
_ATTEMPT_LONGEST = 1.0


@dataclass(frozen=True)
class PortState:
    """What is known of a port.

    ``status`` is "available" (nothing holds it), "in use", or "unknown" (a host that cannot be resolved or
    does not answer). ``detail`` says it in one clause, with the address or the cause. ``privileged`` is True
    where this user may not bind the port, whether or not somebody else holds it.
    """

    port: int
    host: str
    status: Literal["available", "in use", "unknown"]
    detail: str
    privileged: bool = False

    @property
    def available(self) -> bool:
        """Whether nothing holds the port."""
        return self.status == "available"


def check_port(port: int, host: str = "127.0.0.1", *, log: logging.Logger | None = None) -> bool:
    """Tell whether a port is available: True only if nothing holds it.

    See :func:`port_state`, which also says why. Where nobody can tell (an unresolvable or silent host) the
    answer is False and the cause is logged as a warning to ``log`` (default: this module's logger).

    To wait for a server to come up use :func:`wait_for_port`: this function binds the port for some
    microseconds, which a server that starts in that very moment would meet.

    Raises ValueError for a port outside 1-65535, a port that is no whole number, or a malformed host.
    """
    state = port_state(port, host)
    if state.status == "unknown":
        (log or _LOG).warning("check_port: %s", state.detail)
    return state.available


def port_state(port: int, host: str = "127.0.0.1") -> PortState:
    """Find out whether a port is available, in use or unknown, and why.

    - No connection is made to this machine's own servers (on Linux; elsewhere only where a bind cannot tell).
    - ``localhost``, ``127.0.0.1`` and ``::1`` are one place, as are ``0.0.0.0`` and ``::``: a port is in use
      if it is held at either address of the pair, or at a wildcard address that covers it.
    - A port that is bound without listening is in use. One that only closed connections linger on
      (TIME_WAIT) is available: no program holds it.
    - A port below 1024 that nobody holds is available, with ``privileged`` set if this user may not bind it.
      Without that right, a privileged port that is bound without listening cannot be seen.
    - A host that is not this machine can only be asked by connecting: an answer is "in use", a refusal is
      "available", silence is "unknown" after :data:`REMOTE_TIMEOUT` seconds.

    Raises ValueError as :func:`check_port` does.
    """
    port, name = valid_port(port), valid_host(host)
    from zcli_core.net import port_probe

    verdict = port_probe.examine(name, port, REMOTE_TIMEOUT)
    detail = f"port {port} of {host}: {verdict.detail}"
    return PortState(port, host, verdict.status, detail, verdict.privileged)


def port_holder(port: int, host: str = "127.0.0.1") -> PortHolder | None:
    """The process that holds a port of this machine, as far as the system tells.

    The process where we may see it; on Linux, else the user it belongs to. None if nothing holds the port, if
    it is bound without listening, if the host is another machine or cannot be resolved, and, on other systems
    than Linux, if the process may not be seen.

    Raises ValueError as :func:`check_port` does.
    """
    port, name = valid_port(port), valid_host(host)
    from zcli_core.net import port_holder as table
    from zcli_core.net import port_probe

    try:
        endpoints = port_probe.resolve(name, port, REMOTE_TIMEOUT)
    except OSError:
        return None
    return table.holder_of(port, [endpoint.host for endpoint in endpoints])


def wait_for_port(
    port: int, timeout: float = 10.0, host: str = "127.0.0.1", *, log: logging.Logger | None = None
) -> bool:
    """Wait until something serves on a port, that is, until it accepts a connection; True if it did.

    ``timeout`` is a deadline in seconds for everything: name resolution, attempts and pauses. The port is
    asked every 10 ms at first, at most every 250 ms later on. ``localhost``, ``127.0.0.1`` and ``::1`` are
    one place. When the deadline passes the answer is False and the last cause is logged as a warning.

    The call blocks; in a coroutine use ``await asyncio.to_thread(wait_for_port, ...)``.

    Raises ValueError as :func:`check_port` does, and for a timeout that is not a finite number above 0.
    """
    port, name, seconds = valid_port(port), valid_host(host), valid_timeout(timeout)
    from zcli_core.net import port_probe

    deadline = time.monotonic() + seconds
    pause = _POLL_FIRST
    cause = "no attempt was finished"
    while (remaining := deadline - time.monotonic()) > 0:
        try:
            # Resolved anew each time: a name may appear, or move, while we wait for what it names.
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
    """A port that nothing holds right now, chosen by the system among its ephemeral ones.

    Nothing reserves it: bind it soon. Who can bind port 0 and read the number afterwards, should.

    Raises ValueError for a malformed host or one that is not an address of this machine, and OSError if the
    system has no port left.
    """
    name = valid_host(host)
    from zcli_core.net import port_probe

    try:
        endpoints = port_probe.resolve(name, 0, REMOTE_TIMEOUT)
    except OSError as error:
        raise ValueError(f"find_free_port: host {host!r} names no address: {error.strerror}") from error
    port = port_probe.free_port(endpoints)
    if port is None:
        raise ValueError(f"find_free_port: {host!r} is no address of this machine, so its ports are not ours")
    return port


def valid_port(port: Any) -> int:
    """The port as an int. Raises ValueError for what is no whole number from 1 to 65535."""
    expected = "a port is a whole number from 1 to 65535"
    if isinstance(port, bool):
        raise _wrong_type(expected, port)
    try:
        number = operator.index(port)
    except TypeError:
        hint = f": write {port.strip()} without quotes" if _is_quoted_port(port) else ""
        raise _wrong_type(expected, port, hint) from None
    if number == 0:
        raise ValueError(f"{expected}, not 0: find_free_port() picks a free one")
    if not 1 <= number <= 65535:
        raise ValueError(f"{expected}, not {_shown(number)}")
    return number


def _is_quoted_port(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    digits = value.strip()
    return digits.isascii() and digits.isdigit() and len(digits) <= 5


def valid_timeout(timeout: Any) -> float:
    """The seconds, or ValueError for what is no finite number above 0."""
    expected = "timeout is a number of seconds above 0"
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise _wrong_type(expected, timeout)
    try:
        seconds = float(timeout)
    except OverflowError:
        seconds = math.inf
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"{expected} and finite, not {_shown(timeout)}")
    return seconds


def valid_host(host: Any) -> str:
    """The host in the form the resolver takes. Raises ValueError for what is neither a name nor an address.

    What may be a URL is not repeated in the error: it may hold a password.
    """
    expected = "host is a name or an address, such as 'localhost' or '192.0.2.7'"
    if not isinstance(host, str):
        raise _wrong_type(expected, host)
    if not host:
        raise ValueError(f"{expected}, not an empty string: '0.0.0.0' means every address of this machine")
    if any(c in "/@?#[]" or c.isspace() or not c.isprintable() for c in host):
        raise ValueError(f"{expected}: no URL, brackets, spaces or control characters")
    if ":" in host:
        from zcli_core.net.connecting import is_numeric

        if not is_numeric(host):
            raise ValueError(f"{expected}, not {_shown(host)}: the port is an argument of its own")
    if host.isascii():
        return host
    from zcli_core.net.hosts import ascii_host

    try:
        return ascii_host(host)
    except ValueError:
        raise ValueError(f"{expected}: {_shown(host)} cannot be a host name") from None


def _wrong_type(expected: str, value: Any, hint: str = "") -> ValueError:
    return ValueError(f"{expected}, not {_shown(value)} ({type(value).__name__}){hint}")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of thousands of digits refuses to be written out
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
