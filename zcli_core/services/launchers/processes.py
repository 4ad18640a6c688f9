"""Which process is which: telling a process from a later one with its number, and finding who uses a folder.

psutil reads this on Linux, macOS, the BSDs and Windows. It is imported when a process is first looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import psutil


class Process(NamedTuple):
    """A process that is alive.

    ``started`` never changes during its life: seconds, since boot on Linux. ``uid`` is its user, ``program`` its
    executable, ``folder`` the device and inode of its working folder. What the system does not tell is empty or None.
    """

    pid: int
    started: str
    name: str
    uid: int | None = None
    program: str = ""
    folder: str = ""

    def same_as(self, other: Process) -> bool:
        """Whether it is that very process, as far as both are known.

        Name, program and folder may still be those of the shell that started it, and are then empty.
        """
        if (self.pid, self.started) != (other.pid, other.started):
            return False
        if self.uid is not None and other.uid is not None and self.uid != other.uid:
            return False
        pairs = ((self.name, other.name), (self.program, other.program), (self.folder, other.folder))
        return all(mine == its for mine, its in pairs if mine and its)


def look_up(pid: int) -> Process | None:
    """The process of that number, or None if there is none alive. A zombie is not alive."""
    if pid <= 0 or not _exists(pid):
        return None
    import psutil

    try:
        # On Linux the creation time is computed from the time of boot, which moves when the clock is set. It is read
        # first: psutil 7.0 computes with the one that was read last, once for each object.
        booted = psutil.boot_time() if psutil.LINUX else 0.0
        found = psutil.Process(pid)
        with found.oneshot():
            # The first of several threads may have ended while others go on, and hold its ports.
            if found.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) and found.num_threads() <= 1:
                return None
            started = f"{found.create_time() - booted:.2f}"
            uid = int(found.uids().real) if os.name == "posix" else None
            return Process(pid, started, found.name(), uid, _program(found), _folder_id(found))
    except psutil.Error:
        return None


def _program(process: psutil.Process) -> str:
    import psutil

    try:
        return process.exe()
    except (psutil.Error, OSError):
        return ""


def _folder_id(process: psutil.Process) -> str:
    import psutil

    try:
        found = _working_folder(process)
    except (psutil.Error, OSError):
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def _exists(pid: int) -> bool:
    """Whether the number is taken, as far as this costs nothing: psutil takes 20 ms to import."""
    if os.name != "posix":  # os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def is_frozen(pid: int) -> bool:
    """Whether the process was stopped by a signal such as SIGSTOP."""
    import psutil

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def descends_from(pid: int, ancestor: int) -> bool:
    """Whether a process is that one, or one that it started. The first process proves nothing about others."""
    import psutil

    if pid == ancestor or ancestor == 1:
        return pid == ancestor
    try:
        return any(each.pid == ancestor for each in psutil.Process(pid).parents())
    except psutil.Error:
        return False


def uses_folder(pid: int, folder: Path) -> bool | None:
    """Whether a process works in a folder, has a file below it open, or names it on its command line.

    None if the system does not say. Creation times are no proof: they move when the clock is set.
    """
    import psutil

    real = f"{os.path.realpath(folder)}{os.sep}"
    hidden = False
    try:
        process = psutil.Process(pid)
        words = [word.rpartition("=")[2] for word in process.cmdline()[1:]]
        if any(word.startswith("/") and is_same(Path(word), folder) for word in words):
            return True
    except psutil.Error:
        return None if psutil.pid_exists(pid) else False
    checks: list[Callable[[], bool]] = [
        lambda: _works_in(process, folder),
        lambda: any(file.path.startswith(real) for file in process.open_files()),
    ]
    for check in checks:
        try:
            if check():
                return True
        except psutil.NoSuchProcess:
            return False
        except (psutil.Error, OSError):
            hidden = True
    return None if hidden else False


def process_in(folder: Path, names: Collection[str]) -> Process | None:
    """The process with one of these names that works in the folder; of several, the first one that was started."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.name() in names and _works_in(process, folder):
                found.append(process)
        except (psutil.Error, OSError):  # it has ended, or belongs to another user
            continue
    first = min(found, key=lambda each: each.create_time(), default=None)
    return None if first is None else look_up(first.pid)


def listening_port(pid: int) -> int | None:
    """The lowest TCP port that a process listens on; None if there is none, or the system does not say."""
    import psutil

    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return None
    return min((each.laddr.port for each in found if each.status == psutil.CONN_LISTEN), default=None)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    return os.path.samestat(_working_folder(process), os.stat(folder))


def _working_folder(process: psutil.Process) -> os.stat_result:
    try:
        # The link leads to the folder itself, in a container as well, where its path is another one.
        return os.stat(f"/proc/{process.pid}/cwd")
    except FileNotFoundError:
        return os.stat(process.cwd())


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file or folder."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
