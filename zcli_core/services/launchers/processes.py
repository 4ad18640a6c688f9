"""Identifying processes: whether an id still names the same process, and which process uses a folder.

psutil reads this on Linux, macOS, the BSDs and Windows. It is imported when a process is first examined.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import psutil


class Process(NamedTuple):
    """A process that is alive. An attribute that the system does not report is empty or None.

    Attributes:
        pid: its process id.
        started: its start time in seconds, since boot on Linux. It never changes during the life of the process.
        name: the name of its program.
        uid: the user id of its user.
        program: the path of its executable.
        folder: device and inode of its working folder.
    """

    pid: int
    started: str
    name: str
    uid: int | None = None
    program: str = ""
    folder: str = ""

    def same_as(self, other: Process) -> bool:
        """Return whether both are the same process. Only attributes that are known of both are compared.

        Name, program and folder are empty if the process may still have had those of the shell that started it.
        """
        if (self.pid, self.started) != (other.pid, other.started):
            return False
        if self.uid is not None and other.uid is not None and self.uid != other.uid:
            return False
        pairs = ((self.name, other.name), (self.program, other.program), (self.folder, other.folder))
        return all(mine == its for mine, its in pairs if mine and its)


def look_up(pid: int) -> Process | None:
    """Return the process with an id; None if no process with it is alive. A zombie is not alive."""
    if pid <= 0 or not _exists(pid):
        return None
    import psutil

    try:
        # On Linux psutil adds the time of boot, which changes when the clock is set. So it is subtracted again. It is
        # read first, because psutil 7.0 uses the value that was read last, once for each object.
        booted = psutil.boot_time() if psutil.LINUX else 0.0
        found = psutil.Process(pid)
        with found.oneshot():
            # The first of several threads may have ended while others continue and hold the ports.
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
    """Return whether a process with this id may exist, without the 20 ms of importing psutil."""
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
    """Return whether the process was stopped by a signal such as SIGSTOP."""
    import psutil

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def descends_from(pid: int, ancestor: int) -> bool:
    """Return whether a process is ``ancestor`` or was started by it. Process 1, which started all, proves nothing."""
    import psutil

    if pid == ancestor or ancestor == 1:
        return pid == ancestor
    try:
        return any(each.pid == ancestor for each in psutil.Process(pid).parents())
    except psutil.Error:
        return False


def uses_folder(pid: int, folder: Path) -> bool | None:
    """Return whether a process works in a folder, has a file below it open, or names it on its command line.

    None if the system does not report it. Start times are not used, because they change when the clock is set.
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
    """Return the process with one of these names that works in the folder; the oldest one if there are several."""
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
    """Return the lowest TCP port that a process listens on; None without one, or if the system does not report it."""
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
        # The link leads to the folder itself, also from outside a container, where the path differs.
        return os.stat(f"/proc/{process.pid}/cwd")
    except FileNotFoundError:
        return os.stat(process.cwd())


def is_same(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same file or folder."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
