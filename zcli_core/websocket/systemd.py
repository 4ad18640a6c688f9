"""systemd: use the sockets that it passes to this process (sd_listen_fds(3)), and notify it (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket

from zcli_core.errors import ListenError

_FIRST_DESCRIPTOR = 3


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


def notify(state: str) -> None:
    """Send a state such as ``READY=1`` to systemd, if ``NOTIFY_SOCKET`` is set. Errors are ignored."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # @ represents the NUL byte of an abstract socket.
        sock.sendto(state.encode(), f"\0{address[1:]}" if address[0] == "@" else address)
