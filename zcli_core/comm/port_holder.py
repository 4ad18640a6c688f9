"""Who holds a port, read from the tables that Linux keeps under ``/proc``; other systems tell nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zcli_core.printable import printable

_PROC = Path("/proc")
_LISTEN = 0x0A  # include/net/tcp_states.h


@dataclass(frozen=True)
class PortHolder:
    """The holder of a port; ``str()`` gives it as a person would say it: ``nginx (pid 812)``.

    ``pid`` and ``name`` are None where the system hides other users' processes; ``user`` is told even then.
    ``name`` is the program's short name, never its command line, which may hold a password. Of several
    processes that share the port, it is the one with the lowest pid, which is usually their parent.
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
    """One line of ``/proc/net/tcp`` or ``tcp6``. ``inode`` is 0 once no process has the socket open."""

    address: str
    listening: bool
    uid: int
    inode: int

    @property
    def held(self) -> bool:
        """Whether a process has it, unlike what lingers in TIME_WAIT and its kin."""
        return self.listening or self.inode != 0


def tcp_sockets(port: int, addresses: Iterable[str]) -> list[TcpSocket] | None:
    """The TCP sockets at a local port whose address is, or covers, one of those; None if nobody tells.

    Sockets that are bound but neither listening nor connected are not in these tables.
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
        if needle not in line:  # most lines of a long table; the remote port is weeded out below
            continue
        fields = line.split()
        address, _, local_port = fields[1].partition(":")
        if int(local_port, 16) == port:
            yield TcpSocket(_address(address), int(fields[3], 16) == _LISTEN, int(fields[7]), int(fields[9]))


def _address(text: str) -> str:
    """An address as the kernel prints it, in 32-bit words of the machine's own byte order."""
    words = (int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8))
    packed = b"".join(words)
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed.startswith(bytes(10) + b"\xff\xff"):  # IPv4 on an IPv6 socket, RFC 4291 section 2.5.5.2
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def _covers(held: str, wanted: str) -> bool:
    if held in (wanted, "::"):  # a socket at :: takes IPv4 too, unless it was told not to
        return True
    same_family = (":" in held) == (":" in wanted)
    return same_family and (held == "0.0.0.0" or wanted in ("0.0.0.0", "::"))  # noqa: S104 - compared, not bound


def holder_of(port: int, addresses: Sequence[str]) -> PortHolder | None:
    """The process that holds a port at one of these addresses, a listener before anything else."""
    held = [entry for entry in tcp_sockets(port, addresses) or () if entry.held]
    if not held:
        return None
    entry = max(held, key=lambda each: each.listening)
    pid = _owner(entry.inode)
    return PortHolder(pid, None if pid is None else _program(pid), _user(entry.uid))


def _owner(inode: int) -> int | None:
    """The lowest pid that has the socket open, among those we may look into."""
    link = f"socket:[{inode}]"
    pids = sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return next((pid for pid in pids if _has_open(pid, link)), None)


def _has_open(pid: int, link: str) -> bool:
    folder = f"{_PROC}/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:  # it has ended, or it is another user's
        return False
    for name in names:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(f"{folder}/{name}") == link:
                return True
    return False


def _program(pid: int) -> str | None:
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
