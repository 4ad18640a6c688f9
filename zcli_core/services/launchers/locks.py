"""The locks of a local server: of its own folder while it is started, and of its data folder while it runs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zcli_core.services.contract import LaunchError
from zcli_core.system.safe_files import open_private

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
