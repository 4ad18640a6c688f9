"""Sockets that listen: made for an :class:`Endpoint`, with everything set before a client can connect."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from zcli_core.contracts.websocket import Endpoint


async def listening_sockets(endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
    """Bind and listen; one socket for each address of the host. Raises OSError where the system refuses."""
    if endpoint.sockets:
        for sock in endpoint.sockets:
            sock.setblocking(False)
        return list(endpoint.sockets)
    with contextlib.ExitStack() as opened:
        if endpoint.unix_path is not None:
            sockets = [opened.enter_context(_bind_unix(endpoint, endpoint.unix_path))]
        else:
            sockets = await _bind_host(endpoint, loop, opened)
        for sock in sockets:
            sock.setblocking(False)
            sock.listen(endpoint.backlog)
        opened.pop_all()
    return sockets


def _bind_unix(endpoint: Endpoint, path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        # Until it listens, no client can connect, whatever the permissions are so far.
        try:
            if endpoint.unix_owner != (-1, -1):
                os.chown(path, *endpoint.unix_owner)
            if endpoint.unix_mode is not None:
                os.chmod(path, endpoint.unix_mode)
        except OSError:
            path.unlink()
            raise
    except BaseException:
        sock.close()
        raise
    return sock


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
        except OSError as error:  # this system has no IPv6, say
            missing = error
            continue
        try:
            _bind(sock, address, endpoint.reuse_port)
        except OSError as error:
            import errno

            if error.errno != errno.EADDRNOTAVAIL:
                raise
            sock.close()  # IPv6 is there but off, or it is not an address of this machine
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
