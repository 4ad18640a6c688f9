"""The command that stops a process that zCLI did not start, depending on its manager."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from zcli_core.services.launchers import systemd
from zcli_core.services.launchers.commands import as_root
from zcli_core.system.users import own_name

if TYPE_CHECKING:
    from zcli_core.net.port_holder import PortHolder

#: Control groups of containers: docker and podman, by their cgroupfs and their systemd drivers.
_CONTAINER = re.compile(r"(docker|libpod)[-/]([0-9a-f]{12})[0-9a-f]{52}")
_SYSTEM_UNIT = re.compile(r"/system\.slice/(?:.*/)?([^/]+\.service)")


def stop_command(holder: PortHolder, port: int) -> str:
    """Return the command that stops a process: that of its manager, if it has one, because a manager may restart it.

    Args:
        holder: the process, which holds ``port``.
        port: the port of the service.
    """
    group = _control_group(holder.pid)
    container = _CONTAINER.search(group)
    if container and group != _control_group(os.getpid()):
        return f"{'podman' if container[1] == 'libpod' else 'docker'} stop {container[2]}"
    if holder.name == "docker-proxy":
        return f"docker stop $(docker ps -q --filter publish={port})"
    unit = _SYSTEM_UNIT.search(group)
    if systemd.is_available() and unit and group != _control_group(os.getpid()):
        return as_root("systemctl", "stop", unit[1])
    kill = ("kill", str(holder.pid))
    return shlex.join(kill) if holder.user == own_name() else as_root(*kill)


def _control_group(pid: int | None) -> str:
    """Return the control group of a process (cgroups(7)); empty on other systems, or if the process has ended."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
