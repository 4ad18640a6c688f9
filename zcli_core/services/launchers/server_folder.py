"""zCLI's own folder for a local server: making it, the locks, and the log in it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.commands import as_root, is_root, last_lines
from zcli_core.system.safe_files import ForeignPathError, open_folder, open_private, require_no_others
from zcli_core.system.users import own_name

#: The folder of root's servers, unless ``services.folder`` names another.
_ROOTS_FOLDER = "/var/lib/zcli/services"
#: A folder in which every user may make a folder, and which is kept when the system restarts.
_KEPT = "/var/tmp"  # noqa: S108


def make_instance_folder(folder: Path, setting: Path | None) -> None:
    """Make a folder that other users cannot read. The accounts of root's servers may pass through it.

    Args:
        folder: the folder to make.
        setting: the value of ``services.folder``.

    Raises:
        LaunchError: it cannot be made. The command of the error makes the next start succeed. If ``services.folder`` is
            not set, the command needs no rights: it sets it to a folder that our user can make.
    """
    mode = 0o711 if is_root() else 0o700
    missing = [part for part in folder.parents if not part.exists()]
    try:
        if not is_root():
            require_no_others(folder)
        os.close(open_folder(folder, mode, only_ours=is_root()))
        if not is_root():  # another user may have made it in the meantime
            require_no_others(folder)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(mode)
        if is_root():  # the umask may exclude the accounts of the servers
            for part in missing:
                part.chmod(mode)
    except ForeignPathError as error:
        raise LaunchError(
            f"servers are not kept in a folder that another user controls: {error.strerror} (services.folder is "
            f"{setting})",
            f"export ZCLI_SERVICES_FOLDER={_ROOTS_FOLDER}" if is_root() else _other_folder(),
        ) from error
    except OSError as error:
        message = f"cannot make the folder {folder}: {error.strerror}"
        if setting is not None:
            quoted = shlex.quote(str(folder))
            command = as_root("sh", "-c", f"mkdir -p {quoted} && chown {os.geteuid()} {quoted}")
            message = f"{message} (services.folder is {setting})"
            raise LaunchError(message, None if is_root() else command) from error
        raise LaunchError(
            f"{message}; set services.folder to a folder that {own_name()} may write", _other_folder()
        ) from error


def _other_folder() -> str:
    """Return the command that sets ``services.folder`` to a folder that every user can make."""
    usual = f"{_KEPT}/zcli-{os.geteuid()}"
    # Another user may have made the first names. mkdir fails if another user makes this one before the command runs.
    names = itertools.chain([usual], (f"{usual}-{number}" for number in itertools.count(2)))
    other = next(name for name in names if _is_own_folder(name) or not os.path.lexists(name))
    make = "" if _is_own_folder(other) else f"mkdir -m 755 {other} && "
    return f"{make}export ZCLI_SERVICES_FOLDER={other}"


def _is_own_folder(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


_LOCK_FILE = "lock"


@contextlib.contextmanager
def start_lock(folder: Path, remaining: Callable[[], float]) -> Iterator[None]:
    """Allow only one process and one thread at a time to start the server of a folder.

    Args:
        folder: zCLI's folder for the server.
        remaining: returns the seconds that are left.

    Raises:
        LaunchError: another process held the lock until the deadline, or the file system has no locks.
    """
    with open(open_private(folder / _LOCK_FILE), "rb") as file:  # a user who may open it could hold the lock
        pause = 0.01
        try:
            while not _lock(file.fileno()):
                if remaining() <= 0:
                    raise LaunchError(f"another process is starting it and did not finish: {folder / _LOCK_FILE}")
                time.sleep(pause)
                pause = min(pause * 1.5, 0.2)
        except OSError as error:  # some network file systems have no locks
            raise LaunchError(
                f"cannot lock {folder / _LOCK_FILE}: {error.strerror}; set services.folder to another folder"
            ) from error
        yield


def lock_data(descriptor: int) -> int | None:
    """Lock an open data folder, so that two names of one folder have the same lock.

    A server that inherits the descriptor holds the lock while it runs.

    Returns:
        The descriptor, which holds the lock, or no lock if the file system has no locks. None if another process holds
        the lock; the descriptor is then closed.
    """
    try:
        if _lock(descriptor):
            return descriptor
    except OSError:
        return descriptor
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_LONGEST = 10_000_000
_TAIL = 16_384


class ServerLog:
    """The file ``server.log`` in zCLI's folder for a server."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "server.log"

    def open(self) -> BinaryIO:
        """Open the file to append to it. Only our user may read it."""
        return open(open_private(self._file, os.O_APPEND), "ab")

    def size(self) -> int:
        """Return its size in bytes; 0 for a file that is too long and was renamed."""
        try:
            size = self._file.stat().st_size
        except OSError:
            return 0
        if size > _LONGEST:
            self._file.replace(self._file.with_name(f"{self._file.name}.1"))
            return 0
        return size

    def lines_since(self, start: int) -> tuple[str, ...]:
        """Return the last lines after the byte ``start``."""
        try:
            with self._file.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(start, size - _TAIL))
                return last_lines(log.read().decode("utf-8", "replace"))
        except OSError:
            return ()
