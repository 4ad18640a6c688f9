"""Making the listening sockets of an endpoint, with all options set before a client can connect."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import stat
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from zcli_core.websocket.contract import Endpoint


async def listening_sockets(endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
    """Bind and listen; return one socket for each address of the host. Raises OSError if the system refuses one."""
    (sockets,) = await bound_groups(endpoint, loop, 1)
    return sockets


async def bound_groups(endpoint: Endpoint, loop: asyncio.AbstractEventLoop, count: int) -> list[list[socket.socket]]:
    """Bind and listen several times on the same addresses, for several processes.

    Args:
        endpoint: A host and port if ``count`` is more than 1.
        loop: Resolves the host.
        count: Number of groups.

    Returns:
        For each group one socket for each address of the host. The system spreads the clients over the groups.

    Raises:
        OSError: The system refuses an address, for example because another program listens there.
    """
    if endpoint.sockets:
        for sock in endpoint.sockets:
            sock.setblocking(False)
        return [list(endpoint.sockets)]
    with contextlib.ExitStack() as opened:
        if endpoint.unix_path is not None:
            groups = [[opened.enter_context(_bind_unix(endpoint, endpoint.unix_path))]]
        else:
            groups = [await _bind_host(endpoint, loop, opened)]
            for _ in range(count - 1):
                groups.append([_bind_again(sock, opened) for sock in groups[0]])
        for sock in itertools.chain(*groups):
            sock.setblocking(False)
            sock.listen(endpoint.backlog)
        opened.pop_all()
    return groups


def _bind_again(sock: socket.socket, opened: contextlib.ExitStack) -> socket.socket:
    """Bind another socket to the address of a bound one.

    The first one was bound without the option, so that another program on the same port is an error.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other = opened.enter_context(socket.socket(sock.family, sock.type, sock.proto))
    _bind(other, sock.getsockname(), reuse_port=True)
    return other


def _bind_unix(endpoint: Endpoint, path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        # No client can connect before it listens, whatever the permissions are.
        try:
            set_owner_and_mode(path, endpoint.unix_owner, endpoint.unix_mode)
        except OSError:
            path.unlink()
            raise
    except BaseException:
        sock.close()
        raise
    return sock


def set_owner_and_mode(path: Path, owner: tuple[int, int], mode: int | None) -> None:
    """Set the owner and mode of a Unix socket, without following links.

    Another owner of the folder may have replaced the socket by a link to another file.

    Raises:
        OSError: The path is not a socket, or the system refuses the change.
    """
    if owner == (-1, -1) and mode is None:
        return
    flags = getattr(os, "O_PATH", None)
    if flags is None:  # macOS: the last part of a path is never followed here
        os.chown(path, *owner, follow_symlinks=False)
        if mode is not None:
            os.chmod(path, mode, follow_symlinks=False)
        return
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISSOCK(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EEXIST, "another user has replaced the socket", str(path))
        itself = f"/proc/self/fd/{descriptor}"
        os.chown(itself, *owner)
        if mode is not None:
            os.chmod(itself, mode)
    finally:
        os.close(descriptor)


async def _bind_host(
    endpoint: Endpoint, loop: asyncio.AbstractEventLoop, opened: contextlib.ExitStack
) -> list[socket.socket]:
    found = await loop.getaddrinfo(
        endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets = []
    missing: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sock = opened.enter_context(socket.socket(family, kind, protocol))
        except OSError as error:  # for example, this system has no IPv6
            missing = error
            continue
        try:
            _bind(sock, address, endpoint.reuse_port)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            sock.close()  # IPv6 is disabled, or it is not an address of this machine
            missing = error
        else:
            sockets.append(sock)
    if not sockets:
        raise missing or OSError(f"no address found for {endpoint.host!r}")
    return sockets


def _bind(sock: socket.socket, address: Any, reuse_port: bool) -> None:
    if os.name == "posix" and sys.platform != "cygwin":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.family == getattr(socket, "AF_INET6", None):
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)


def remove_socket_file(path: str) -> None:
    """Remove the file of a Unix socket, if it is there and is a socket."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
