"""The program of a server: finding it on PATH, in folders of packages and in installed wheels; installing it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import NamedTuple

from zcli_core.services.contract import LaunchError, LocalProcess, ServiceBackend
from zcli_core.services.launchers.commands import as_root

#: Folders of servers that the PATH of an ordinary user may not contain.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/local/bin")
_SUFFIX = ".exe" if os.name == "nt" else ""


class WheelFile(NamedTuple):
    """A program in an installed wheel.

    Attributes:
        root: the folder of the environment's packages, or that of its programs.
        path: the path of the program.
    """

    root: Path
    path: Path

    @property
    def inner(self) -> str:
        """The path relative to ``root``, which is the same in every environment with this wheel."""
        return self.path.relative_to(self.root).as_posix()


def find_programs(method: LocalProcess) -> list[Path]:
    """Return all programs that can be the server, the preferred program first."""
    return list(dict.fromkeys(_found(method)))


def is_available(method: LocalProcess) -> bool:
    """Return whether a program is installed. The search ends with the first program."""
    return any(_found(method))


def _found(method: LocalProcess) -> Iterator[Path]:
    for name in method.programs:
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path)
    for folder in (*_folders(method), *_MORE_FOLDERS, os.path.dirname(sys.executable)):
        for name in method.programs:
            file = Path(folder, name + _SUFFIX)
            if _is_program(file):
                yield file
    for wheel in wheel_files(method):
        yield wheel.path


def _folders(method: LocalProcess) -> Iterator[str]:
    for pattern in method.folders:
        yield from sorted(glob(pattern), key=_version_in, reverse=True)


def _version_in(path: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path)]


def wheel_files(method: LocalProcess) -> Iterator[WheelFile]:
    """Yield the programs in installed wheels, without importing their packages."""
    from importlib.util import find_spec

    for pattern in method.wheels:
        package, inside, _ = pattern.partition("/")
        if not inside:
            scripts = Path(sys.executable).parent
            if _is_program(scripts / (package + _SUFFIX)):
                yield WheelFile(scripts, scripts / (package + _SUFFIX))
            continue
        try:
            spec = find_spec(package)
        except (ImportError, ValueError):
            continue
        for location in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(location).parent
            for found in sorted(glob(str(root / pattern))):
                if _is_program(Path(found)):
                    yield WheelFile(root, Path(found))


def _is_program(file: Path) -> bool:
    try:
        return file.is_file() and os.access(file, os.X_OK)
    except OSError:
        return False


def copy_of_wheel(wheel: WheelFile, folder: Path) -> Path:
    """Copy a program and the files that it needs out of a wheel, so that other accounts can run it.

    Returns:
        The path of the copy. An existing copy of the same version is used.
    """
    inner = wheel.path.relative_to(wheel.root)
    stamp = int(wheel.path.stat().st_mtime)
    copy = folder / f"programs-{inner.parts[0]}-{stamp}"
    if not copy.exists():
        fresh = folder / f".{copy.name}-{os.getpid()}"
        for part in (Path(*inner.parts[:2]), Path(f"{inner.parts[0]}.libs")):
            if (wheel.root / part).is_dir():
                shutil.copytree(wheel.root / part, fresh / part, symlinks=True, dirs_exist_ok=True)
            elif (wheel.root / part).is_file():
                fresh.mkdir(parents=True, exist_ok=True)
                shutil.copy2(wheel.root / part, fresh / part)
        # The mode must not depend on the umask, now or when the wheel was installed.
        for each in (fresh, *fresh.rglob("*")):
            if not each.is_symlink():
                each.chmod(0o755 if each.stat().st_mode & 0o100 else 0o644)
        fresh.rename(copy)
    return copy / inner


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
