"""Which machine a service is on, and which process serves it: what is proven before anything is stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from zcli_core.net.port_holder import PortHolder, holder_of, holder_of_socket
from zcli_core.net.port_probe import free_port, resolve
from zcli_core.services.launchers.processes import descends_from, uses_folder

if TYPE_CHECKING:
    from zcli_core.services.contract import Target
    from zcli_core.services.launchers.base import Job

_LONGEST = 2.0


def is_this_machine(job: Job) -> bool:
    """Whether the service's host is an address of this machine, or the path of a Unix socket."""
    if job.target.is_socket_path:
        return True
    try:
        return free_port(resolve(job.target.host, 0, max(0.1, min(job.remaining, _LONGEST)))) is not None
    except (OSError, ValueError):
        return False


def is_at(host: str, port: int, target: Target, timeout: float = _LONGEST) -> bool:
    """Whether a server that listens on ``host`` and ``port`` is the one at the target: same port, and host.

    ``timeout``: seconds that resolving the target's host may take, if it is a name.
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


def holder(job: Job) -> PortHolder | None:
    """The process that holds the service's port or socket, as far as the system tells."""
    if job.target.is_socket_path:
        return holder_of_socket(job.backend.socket_path(job.target))
    try:
        addresses = resolve(job.target.host, job.target.port, max(0.1, min(job.remaining, _LONGEST)))
    except (OSError, ValueError):
        return None
    return holder_of(job.target.port, [address.host for address in addresses])


def serves(job: Job, pid: int) -> bool | None:
    """Whether that process, or one that it started, holds the service's port and has its data folder.

    None if the system does not say, as for processes of other users, and where there is no such number.
    """
    if pid <= 0:
        return None
    found = holder(job)
    if found is None or found.pid is None:
        return None
    if not descends_from(found.pid, pid):
        return False
    return True if job.target.data_dir is None else uses_folder(found.pid, Path(job.target.data_dir))
