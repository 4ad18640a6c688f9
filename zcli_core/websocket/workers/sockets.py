"""The listening sockets of the workers, which the supervisor holds."""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from zcli_core.websocket.endpoint import (
    endpoint_url,
    explain_listen_error,
    pick_shared_port,
    remove_stale_socket,
    use_systemd_sockets,
)
from zcli_core.websocket.parts.binding import bound_groups, remove_socket_file

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.websocket.contract import Address, Endpoint
    from zcli_core.websocket.server_setup import ServerSetup

#: Systems that spread the clients evenly over the sockets of one port. On others all workers share one socket. FreeBSD
#: does so with SO_REUSEPORT_LB only, which Python has from 3.14 on.
_BALANCED = sys.platform.startswith("linux")


class WorkerSockets:
    """The sockets of each worker. They are open until :meth:`close`, whether a worker accepts or not.

    Attributes:
        groups: For each worker its sockets, one for each address of the host.
        url: The URL for clients.
        endpoint: Where the server listens.
    """

    def __init__(self, endpoint: Endpoint, groups: list[list[socket.socket]]) -> None:
        self.endpoint = endpoint
        self.groups = groups
        names = [sock.getsockname() for sock in groups[0]]
        self.addresses: list[Address] = [cast("Address", name) for name in names if isinstance(name, tuple)]
        self.url = endpoint_url(endpoint, self.addresses)

    @property
    def label(self) -> str:
        """What is released when they are closed."""
        ports = {address[1] for address in self.addresses if address}
        return f"port {min(ports)}" if ports else "the socket"

    def forget(self) -> None:
        """Close them in this process only."""
        for group in self.groups:
            for sock in group:
                sock.close()

    def close(self) -> None:
        """Release the port."""
        self.forget()
        if self.endpoint.unix_path is not None:
            remove_socket_file(str(self.endpoint.unix_path))


async def open_sockets(config: Config, setup: ServerSetup, count: int) -> WorkerSockets:
    """Bind the sockets of the workers and listen.

    Args:
        config: The configuration.
        setup: Where to listen.
        count: Number of workers.

    Raises:
        ListenError: The server cannot listen on the configured host and port, or socket.
    """
    endpoint = pick_shared_port(setup.endpoint)
    if setup.may_use_systemd:
        endpoint = use_systemd_sockets(endpoint)
    if endpoint.unix_path is not None:
        remove_stale_socket(endpoint.unix_path, config)
    shared = not _BALANCED or bool(endpoint.sockets) or endpoint.unix_path is not None
    try:
        groups = await bound_groups(endpoint, asyncio.get_running_loop(), 1 if shared else count)
    except OSError as error:
        raise explain_listen_error(error, endpoint) from error
    if shared:
        groups *= count
    return WorkerSockets(endpoint, groups)


def with_sockets(setup: ServerSetup, sockets: tuple[socket.socket, ...]) -> ServerSetup:
    """Return the setup of a worker, which serves the given sockets."""
    return setup._replace(endpoint=replace(setup.endpoint, sockets=sockets, unix_path=None), may_use_systemd=False)
