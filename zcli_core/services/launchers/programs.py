"""Finding a server's program: on PATH, in the folders where packages hide it, in installed wheels."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import NamedTuple

from zcli_core.services.contract import LocalProcess

#: Where servers are that an ordinary user's PATH may leave out.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/local/bin")
_SUFFIX = ".exe" if os.name == "nt" else ""


class WheelFile(NamedTuple):
    """A program in an installed wheel: the folder that packages are in, and the path in there."""

    root: Path
    path: Path

    @property
    def inner(self) -> str:
        """The path within the environment's packages: the same for the same wheel in another environment."""
        return self.path.relative_to(self.root).as_posix()


def find_programs(method: LocalProcess) -> list[Path]:
    """Every program that could be the server, the preferred one first."""
    return list(dict.fromkeys(_found(method)))


def is_there(method: LocalProcess) -> bool:
    """Whether there is any; it stops at the first."""
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
    """The programs of installed wheels. No package is imported to find them."""
    from importlib.util import find_spec

    for pattern in method.wheels:
        package = pattern.partition("/")[0]
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
    """Copy a wheel's program to where other accounts can reach it, with what it needs beside it; its new path.

    A copy that is there already is taken as it is.
    """
    inner = wheel.path.relative_to(wheel.root)
    stamp = int(wheel.path.stat().st_mtime)
    copy = folder / f"programs-{inner.parts[0]}-{stamp}"
    if not copy.exists():
        fresh = folder / f".{copy.name}-{os.getpid()}"
        for part in (Path(*inner.parts[:2]), Path(f"{inner.parts[0]}.libs")):
            if (wheel.root / part).is_dir():
                shutil.copytree(wheel.root / part, fresh / part, symlinks=True, dirs_exist_ok=True)
        # Whatever the umask is now, or was when the wheel was installed.
        for each in (fresh, *fresh.rglob("*")):
            if not each.is_symlink():
                each.chmod(0o755 if each.stat().st_mode & 0o100 else 0o644)
        fresh.rename(copy)
    return copy / inner
