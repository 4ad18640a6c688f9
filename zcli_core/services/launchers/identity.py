"""Whether a service is on this machine, and which process serves it: the proof that zCLI needs before it stops one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from zcli_core.net.port_holder import PortHolder, holder_of, holder_of_socket
from zcli_core.net.port_probe import free_port, resolve
from zcli_core.services.launchers.processes import descends_from, uses_folder

if TYPE_CHECKING:
    from zcli_core.services.contract import Target
    from zcli_core.services.launchers.context import LaunchContext

#: Seconds for resolving a host.
_RESOLVING = 2.0


def is_this_machine(context: LaunchContext) -> bool:
    """Return whether the service's host is an address of this machine, or the path of a Unix socket."""
    if context.target.is_socket_path:
        return True
    try:
        return free_port(resolve(context.target.host, 0, max(0.1, min(context.remaining, _RESOLVING)))) is not None
    except (OSError, ValueError):
        return False


def is_at(host: str, port: int, target: Target, timeout: float = _RESOLVING) -> bool:
    """Return whether a server that listens on ``host`` and ``port`` is the server at the target.

    Args:
        host: an address, or the path of a Unix socket.
        port: the port of the server.
        target: the service that is wanted.
        timeout: seconds for resolving the target's host, if it is a name.
    """
    if port != target.port:
        return False
    if host == target.host:
        return True
    if target.is_socket_path or host.startswith("/"):
        return False
    from zcli_core.net import connecting

    if target.host.lower().rstrip(".") == "localhost":
        return host in ("127.0.0.1", "::1")
    try:
        found = {address.host for address in connecting.resolve(target.host, port, time.monotonic() + timeout)}
    except (OSError, ValueError):
        return False
    return host in found or bool(found & {"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def find_holder(context: LaunchContext) -> PortHolder | None:
    """Return the process that holds the service's port or socket; None if the system does not report it."""
    target = context.target
    if target.is_socket_path:
        return holder_of_socket(context.backend.socket_path(target))
    try:
        addresses = resolve(target.host, target.port, max(0.1, min(context.remaining, _RESOLVING)))
    except (OSError, ValueError):
        return None
    return holder_of(target.port, [address.host for address in addresses])


def serves(context: LaunchContext, pid: int) -> bool | None:
    """Return whether a process, or a process that it started, holds the service's port and uses its data folder.

    None if the system does not report it, as for processes of other users, or if ``pid`` is not a process id.
    """
    if pid <= 0:
        return None
    holder = find_holder(context)
    if holder is None or holder.pid is None:
        return None
    if not descends_from(holder.pid, pid):
        return False
    return True if context.target.data_dir is None else uses_folder(holder.pid, Path(context.target.data_dir))
