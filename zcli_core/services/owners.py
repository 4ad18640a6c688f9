"""The user that runs the server at a service's address, and whether that user is trusted.

Every user of a machine may bind a port above 1023. The user who binds the port of a service first receives what clients
send to it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterable, Sequence

from zcli_core.net.port_holder import tcp_sockets
from zcli_core.system.trusted import is_known_user

_LOGIN_DEFS = "/etc/login.defs"
_DEFAULT_UID_MIN, _DEFAULT_UID_MAX = 1000, 60_000
_NO_LOGIN = ("", "/bin/false", "/usr/bin/false", "/bin/true", "/bin/sync")
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def listener_uid(addresses: Iterable[str], port: int) -> int | None:
    """Return the user that listens at a port of this machine.

    Args:
        addresses: numeric addresses. A client may be connected to any of them.
        port: the TCP port.

    Returns:
        The user id. If there are several, the first one that is not trusted. None if the system does not report it:
        the address belongs to another machine, the server is in another network namespace, or the system is not Linux.
    """
    own = filter(is_own_address, addresses)
    found = [uid for address in own for uid in _uids(address, port) if is_known_user(uid)]
    return next((uid for uid in found if not is_trusted(uid)), found[0] if found else None)


def _uids(address: str, port: int) -> list[int]:
    entries = [entry for entry in tcp_sockets(port, [address]) or () if entry.listening]
    # The system connects a client to the socket with the most specific address.
    for exact in (address, "::" if ":" in address else "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        if uids := [entry.uid for entry in entries if entry.address == exact]:
            return uids
    return []


def is_own_address(address: str) -> bool:
    """Return whether a numeric address belongs to this machine."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if parsed.is_loopback:
        return True
    try:
        with socket.socket(socket.AF_INET6 if parsed.version == 6 else socket.AF_INET) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def peer_uid(sock: socket.socket) -> int | None:
    """Return the user that listens on the Unix socket to which ``sock`` is connected; None unless this is Linux."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        held = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    uid: int = _CREDENTIALS.unpack(held)[1]
    return uid if is_known_user(uid) else None


def is_trusted(uid: int) -> bool:
    """Return whether the user of a server is trusted: our user, root, or a system account."""
    return uid in (0, os.geteuid()) or uid < _login_defs()[0]


def other_people() -> list[str]:
    """Return the names of the other accounts that can log in on this machine, sorted. The list is empty on Windows."""
    if os.name != "posix":
        return []
    import pwd

    lowest, highest = _login_defs()
    return sorted(
        account.pw_name
        for account in pwd.getpwall()
        if lowest <= account.pw_uid <= highest and account.pw_uid != os.geteuid() and _can_log_in(account.pw_shell)
    )


def _can_log_in(shell: str) -> bool:
    return shell not in _NO_LOGIN and not shell.endswith("/nologin")


def _login_defs() -> Sequence[int]:
    """Return the lowest and the highest user id of accounts for people. See login.defs(5)."""
    found = {"UID_MIN": _DEFAULT_UID_MIN, "UID_MAX": _DEFAULT_UID_MAX}
    try:
        with open(_LOGIN_DEFS, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.strip().partition("#")[0].replace("\t", " ").partition(" ")
                if name in found and value.strip().isdigit():
                    found[name] = int(value)
    except OSError:
        pass
    return tuple(found.values())
