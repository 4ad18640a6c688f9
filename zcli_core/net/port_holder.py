"""The process that has a port, from the table of TCP sockets in ``/proc`` on Linux and from psutil.

On Linux the table comes first. psutil does not give the user of a socket whose process is hidden, and reads the files
of every process in each call. :func:`zcli_core.net.ports.check_port` needs the table only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zcli_core.printable import printable
from zcli_core.system.users import user_name

_PROC = Path("/proc")
_LISTEN = 0x0A  # include/net/tcp_states.h
#: How often a process is looked for. A child of a server has its sockets for a moment, and may have ended since.
_ATTEMPTS = 3


@dataclass(frozen=True)
class PortHolder:
    """The process that has a port. ``str()`` of it is a phrase such as ``nginx (pid 812)``.

    Attributes:
        pid, name: None if the system hides processes of other users. The name is the program's short name without its
            command line, which may hold a password. If several processes share the port, this is the one with the
            lowest pid, which is usually their parent.
        user: The name of the user, known on Linux even if the process is hidden.
    """

    pid: int | None
    name: str | None
    user: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of user {self.user}"
        return f"{printable(self.name or 'a process')} (pid {self.pid})"


@dataclass(frozen=True)
class TcpSocket:
    """One line of ``/proc/net/tcp`` or ``tcp6``. ``inode`` is 0 if no process has the socket open."""

    address: str
    listening: bool
    uid: int
    inode: int

    @property
    def held(self) -> bool:
        """Whether a process has the socket open, unlike one in TIME_WAIT."""
        return self.listening or self.inode != 0


def tcp_sockets(port: int, addresses: Iterable[str]) -> list[TcpSocket] | None:
    """Return the TCP sockets at a local port and at one of these addresses or a wildcard address that covers one.

    Returns:
        The sockets, or None on systems without the tables. Sockets that are bound, but neither listening nor connected,
        are not in the tables.
    """
    wanted = tuple(addresses)
    tables = [table for name in ("tcp", "tcp6") if (table := _table(name, port)) is not None]
    if not tables:
        return None
    return [entry for table in tables for entry in table if any(_covers(entry.address, each) for each in wanted)]


def _table(name: str, port: int) -> list[TcpSocket] | None:
    try:
        with (_PROC / "net" / name).open("r", encoding="ascii") as lines:
            return list(_at_port(port, lines))
    except OSError:
        return None


def _at_port(port: int, lines: Iterable[str]) -> Iterator[TcpSocket]:
    needle = f":{port:04X} "
    for line in lines:
        if needle not in line:  # skips most lines; the remote port is ruled out below
            continue
        fields = line.split()
        address, _, local_port = fields[1].partition(":")
        if int(local_port, 16) == port:
            yield TcpSocket(_address(address), int(fields[3], 16) == _LISTEN, int(fields[7]), int(fields[9]))


def _address(text: str) -> str:
    """Parse an address in the kernel's form: 32-bit words in the byte order of the machine."""
    words = (int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8))
    packed = b"".join(words)
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed.startswith(bytes(10) + b"\xff\xff"):  # IPv4 on an IPv6 socket, RFC 4291 section 2.5.5.2
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def _covers(held: str, wanted: str) -> bool:
    if held in (wanted, "::"):  # a socket at :: accepts IPv4 too, unless it is set to IPv6 only
        return True
    same_family = (":" in held) == (":" in wanted)
    return same_family and (held == "0.0.0.0" or wanted in ("0.0.0.0", "::"))  # noqa: S104 - compared, not bound


def holder_of(port: int, addresses: Sequence[str]) -> PortHolder | None:
    """Return the process that has a port at one of these addresses; a listening one is preferred."""
    entry = None
    entries = tcp_sockets(port, addresses)
    if entries is not None:
        entry = max((each for each in entries if each.held), key=lambda each: each.listening, default=None)
        if entry is None:
            return None
        addresses = [entry.address]
    holder = _living(lambda: _pids_at(port, addresses))
    return PortHolder(None, None, user_name(entry.uid)) if holder is None and entry is not None else holder


def _pids_at(port: int, addresses: Sequence[str]) -> list[int]:
    """Return the processes that have a port at one of these addresses, listening ones first."""
    import psutil

    found = [
        (connection.status != psutil.CONN_LISTEN, pid)
        for pid, connection in _connections("tcp")
        if connection.laddr and connection.laddr.port == port
        if connection.status not in _CLOSING and any(_covers(_plain(connection.laddr.ip), each) for each in addresses)
    ]
    return [pid for _, pid in sorted(found)]


#: States of sockets that no process has open.
_CLOSING = ("TIME_WAIT", "NONE")


def holder_of_socket(path: str) -> PortHolder | None:
    """Return the process that has a Unix socket at this path, or None if the system does not show it."""
    wanted = _real(path)

    def pids() -> list[int]:
        found = ((pid, each.laddr) for pid, each in _connections("unix"))
        return sorted(pid for pid, name in found if isinstance(name, str) and _real(name) == wanted)

    return _living(pids)


def _real(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _connections(kind: str) -> Iterator[tuple[int, Any]]:
    """Yield the pid and socket of each process that this user may inspect."""
    import psutil

    try:
        for each in psutil.net_connections(kind):
            if each.pid:
                yield each.pid, each
    except psutil.AccessDenied:  # macOS lists the sockets of all processes only for root
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections(kind):
                    yield process.pid, connection


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:") if "." in address else address


def _living(pids: Callable[[], list[int]]) -> PortHolder | None:
    """Return the first of the processes that a function finds; None if it finds none that is still there."""
    for _ in range(_ATTEMPTS):
        found = pids()
        if not found:
            return None
        for holder in filter(None, map(_process, found)):
            return holder
    return None


def _process(pid: int) -> PortHolder | None:
    """Return a process, with what this user may know of it; None if it has ended."""
    import psutil

    name = user = None
    try:
        process = psutil.Process(pid)
        name = process.name() or None
        user = process.username()
    except psutil.NoSuchProcess:  # also a zombie, which has no sockets
        return None
    except psutil.Error:
        pass
    return PortHolder(pid, name, user)
