"""The program, folders and address of a local server, and the work that a backend does there."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.commands import run
from zcli_core.services.launchers.data_files import DataFiles
from zcli_core.services.launchers.processes import is_same, look_up, uses_folder
from zcli_core.system.safe_files import open_private

#: A process id that no process has: the highest one of Linux is 2**22, and other systems stay below that.
_NO_PROCESS = 2**22 + 1


@dataclass
class LocalServerPaths:
    """Implements :class:`~zcli_core.services.contract.ServerPaths`.

    The server runs as the account of its data folder. ``remaining`` returns the seconds that are left for commands.
    """

    program: Path
    files: DataFiles
    folder: Path
    host: str
    port: int
    log: logging.Logger
    remaining: Callable[[], float]

    def __post_init__(self) -> None:
        self.data = self.files.path
        self.account = self.files.account

    def run(self, command: Sequence[str], timeout: float | None = None) -> str:
        """Run a command as the server's account in its data folder, and return its output."""
        done = run(command, self.remaining() if timeout is None else timeout, self.account, self.data)
        if done.code:
            raise LaunchError(f"{os.path.basename(command[0])} failed", log=done.last_lines)
        return done.output

    def write(self, file: Path, text: str, *, for_server: bool = False) -> None:
        """Write a file that only our user, or only the server's account, may read."""
        descriptor = open_private(file, os.O_TRUNC)
        with open(descriptor, "w", encoding="utf-8") as stream:
            if for_server and self.account is not None:
                os.fchown(descriptor, self.account.uid, self.account.gid)
            stream.write(text)

    def free_pid_file(self, file: Path, program: str) -> None:
        """Replace the process id in a pid file, unless it is the id of a server that uses the file's folder."""
        files = DataFiles(file.parent, self.account, self.remaining)
        try:
            pid = int((files.read(file.name) or "").split(maxsplit=1)[0])
        except (ValueError, IndexError):
            return
        process = look_up(pid)
        if process is None or not process.name.startswith(program) or not self._may_use(pid, file.parent):
            files.renumber(file.name, _NO_PROCESS)
            self.note(f"{file} named process {pid}, which is {process.name if process else 'gone'}; corrected")

    def _may_use(self, pid: int, folder: Path) -> bool:
        used = uses_folder(pid, folder)
        if used is None and self.account is not None:
            # In most containers root may not inspect processes of other accounts, but such an account may.
            done = run(["readlink", f"/proc/{pid}/cwd"], self.remaining(), self.account, Path("/"))
            return done.code != 0 or is_same(Path(done.output.rstrip("\n")), folder)
        return used is not False

    def note(self, message: str) -> None:
        """Log a message with the level INFO."""
        self.log.info("%s", message)
