"""systemd: use the sockets that it passes to this process, notify it, and ping its watchdog.

The functions do nothing in a process that systemd did not start. Sources: sd_listen_fds(3), sd_notify(3),
sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator

from zcli_core.errors import ListenError
from zcli_core.printable import printable

_FIRST_DESCRIPTOR = 3
#: Shortest interval of pings, in seconds.
_SHORTEST = 0.01


def passed_sockets() -> tuple[socket.socket, ...]:
    """Return the sockets that systemd has opened for this process.

    The variables count only if ``LISTEN_PID`` is this process, because a child inherits them without the descriptors.
    Each call returns new descriptors of the same sockets, so that a server can be stopped and started again.

    Raises:
        ListenError: One of them is not a listening stream socket.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return ()
    count = os.environ.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdigit()):
        return ()
    with contextlib.ExitStack() as opened:
        descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
        found = tuple(opened.enter_context(_socket_of(descriptor)) for descriptor in descriptors)
        opened.pop_all()
    return found


def _socket_of(descriptor: int) -> socket.socket:
    try:
        # Child processes must not inherit the descriptor, which systemd has passed in an inheritable state.
        os.set_inheritable(descriptor, False)
        copy = os.dup(descriptor)
        try:
            sock = socket.socket(fileno=copy)
        except BaseException:
            os.close(copy)
            raise
    except OSError as error:
        raise ListenError(f"descriptor {descriptor} of LISTEN_FDS is not a socket: {error}") from error
    listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens:
        sock.close()
        raise ListenError(
            f"descriptor {descriptor} of LISTEN_FDS is not a listening stream socket; "
            "the systemd unit needs ListenStream= and Accept=no"
        )
    return sock


def notify_ready(status: str) -> None:
    """Tell that the server serves, after its start or after a reload.

    Args:
        status: One line for ``systemctl status``.
    """
    notify(f"READY=1\nSTATUS={printable(status)}")


def notify_reloading(status: str) -> None:
    """Tell that a reload has begun; :func:`notify_ready` tells its end. ``Type=notify-reload`` waits for both.

    Args:
        status: As for :func:`notify_ready`.
    """
    # CLOCK_MONOTONIC on Linux. systemd compares it with the time of its SIGHUP.
    now = time.monotonic_ns() // 1000
    notify(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS={printable(status)}")


def notify_stopping(status: str) -> None:
    """Tell that the server ends.

    Args:
        status: As for :func:`notify_ready`.
    """
    notify(f"STOPPING=1\nSTATUS={printable(status)}")


class Watchdog:
    """The watchdog of systemd (``WatchdogSec=``), which ends a service that does not ping it.

    Attributes:
        interval: Seconds between two pings: half of the time that systemd allows. None if there is no watchdog.
    """

    def __init__(self) -> None:
        """Read ``WATCHDOG_USEC``, which counts only if ``WATCHDOG_PID`` is this process or is not set."""
        allowed = os.environ.get("WATCHDOG_USEC", "")
        is_number = allowed.isascii() and allowed.isdigit() and len(allowed) < 20 and int(allowed) > 0
        is_ours = os.environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        self.interval = max(int(allowed) / 2_000_000, _SHORTEST) if is_number and is_ours else None

    def ping(self) -> None:
        """Tell systemd that the service works."""
        if self.interval is not None:
            notify("WATCHDOG=1")

    @contextlib.contextmanager
    def pinging(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Ping from an event loop during the block, so that a loop that hangs does not ping."""
        timer: asyncio.TimerHandle | None = None

        def ping(interval: float) -> None:
            nonlocal timer
            self.ping()
            timer = loop.call_later(interval, ping, interval)

        if self.interval is not None:
            ping(self.interval)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()


def notify(state: str) -> None:
    """Send a state such as ``READY=1`` to systemd, if ``NOTIFY_SOCKET`` is set. Errors are ignored."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # @ represents the NUL byte of an abstract socket.
        sock.sendto(state.encode(), f"\0{address[1:]}" if address[0] == "@" else address)
