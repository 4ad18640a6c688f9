"""The data folder of a local server. All work in it is done as the account that the server runs as.

If we are root, that account may replace a file there by a link or a pipe at any time. So a child process with the
rights of the account does the work. It runs a command of the system (``/bin/sh``, ``ls``) and is not a fork of this
process: a program with threads cannot run Python code in a fork safely, and the account may not be able to read our
interpreter.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.accounts import foreign_owner, open_up, unreachable_parts
from zcli_core.services.launchers.commands import Account, as_root, is_root, run
from zcli_core.system.safe_files import ForeignPathError, open_folder, require_no_others
from zcli_core.system.users import own_name

_LONGEST_TEXT = 65_536
#: Seconds for a command that reads, because the account can make the command wait.
_READING = 5.0
_READ = f'test -f "$1" && test ! -h "$1" && head -c {_LONGEST_TEXT} "$1"'
_RENUMBER = """umask 077
sed "1s/-\\{0,1\\}[0-9][0-9]*/$2/" "$1" >"$1.new" && mv -f "$1.new" "$1\""""


class DataFiles:
    """Implements :class:`~zcli_core.services.contract.DataFolder`."""

    def __init__(self, path: Path, account: Account | None, remaining: Callable[[], float]) -> None:
        """Store the path.

        Args:
            path: the data folder.
            account: the account that the server runs as; None for our user.
            remaining: returns the seconds that are left for commands.
        """
        self.path = path
        self.account = account
        self._remaining = remaining

    def names(self) -> list[str]:
        """Return the names of its files and folders; an empty list if it does not exist.

        Raises:
            LaunchError: the account may not read the folder.
        """
        if not os.path.exists(self.path):  # or it is in a folder that we may not enter; make() then reports it
            return []
        done = run(["ls", "-A", "--", str(self.path)], self._reading, self.account, Path("/"))
        if done.code == 0:
            return done.output.splitlines()
        who = own_name() if self.account is None else self.account.name
        raise LaunchError(f"the account {who} cannot read the data folder {self.path}", log=done.last_lines)

    def read(self, name: str) -> str | None:
        """Return the text of a file, at most 64 KiB; None unless it is a regular file that the account may read."""
        if self.account is not None:
            done = run(["/bin/sh", "-c", _READ, "sh", name], self._reading, self.account, self.path)
            return done.output if done.code == 0 else None
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # open() would refuse a folder and leave it open
                return None
            return os.read(descriptor, _LONGEST_TEXT).decode("utf-8", "replace")
        finally:
            os.close(descriptor)

    def renumber(self, name: str, number: int) -> None:
        """Replace the first number in a file's first line. A new file takes the place of the old file.

        Raises:
            LaunchError: the file cannot be written.
        """
        done = run(["/bin/sh", "-c", _RENUMBER, "sh", name, str(number)], self._reading, self.account, self.path)
        if done.code:
            raise LaunchError(f"cannot write {self.path / name}", log=done.last_lines)

    @property
    def _reading(self) -> float:
        return min(self._remaining(), _READING)

    # --- the folder itself ---

    def open(self) -> int:
        """Open the folder to lock it, and return the descriptor.

        Raises:
            LaunchError: the folder does not belong to the account.
            OSError: the folder cannot be opened.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        owner = os.fstat(descriptor).st_uid
        if self.account is not None and owner != self.account.uid:
            os.close(descriptor)
            raise LaunchError(f"the data folder {self.path} was replaced by another one")
        return descriptor

    def make(self) -> None:
        """Make the folder if it does not exist, private to the account that the server runs as.

        Raises:
            LaunchError: the folder cannot be made, or the account cannot write it.
        """
        try:
            if self.account is None:
                self._make_ours()
            else:
                self._make_accounts(self.account)
        except OSError as error:
            quoted = shlex.quote(str(self.path))
            command = as_root("sh", "-c", f"mkdir -p {quoted} && chown {os.geteuid()} {quoted}")
            message = f"cannot make the data folder {self.path}: {error.strerror}"
            raise LaunchError(message, None if is_root() else command) from error

    def _make_ours(self) -> None:
        try:
            require_no_others(self.path)
            os.makedirs(self.path, 0o700, exist_ok=True)
            require_no_others(self.path)  # another user may have made it in the meantime
        except ForeignPathError as foreign:
            raise LaunchError(
                f"the data folder {self.path} is not used, because {foreign.strerror} and could make the server write "
                "other files; name another folder with data_dir or services.folder"
            ) from foreign
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise LaunchError(
                f"the user {own_name()} cannot write the data folder {self.path}",
                as_root("chown", "-R", str(os.geteuid()), str(self.path)),
            )

    def make_private(self) -> None:
        """Make an existing folder private. A user who can open the folder could hold its lock.

        Call it after the backend has accepted the folder, so that a folder named by mistake keeps its mode.

        Raises:
            LaunchError: the mode cannot be changed.
        """
        close = '! test -O "$1" || chmod go= "$1"'
        done = run(["/bin/sh", "-c", close, "sh", str(self.path)], self._reading, self.account, Path("/"))
        if done.code:
            raise LaunchError(f"cannot make the data folder {self.path} private", log=done.last_lines)

    def _make_accounts(self, account: Account) -> None:
        if foreign_owner(self.path) in (None, 0):
            self._give(account)
        elif not os.path.exists(self.path):  # root makes nothing in another account's folder
            command = 'umask 077 && mkdir -p "$1"'
            run(["/bin/sh", "-c", command, "sh", str(self.path)], self._remaining(), account, Path("/"))
        usable = 'test -w "$1" && test -x "$1"'
        if run(["/bin/sh", "-c", usable, "sh", str(self.path)], self._remaining(), account, Path("/")).code == 0:
            return
        who = f"the account {account.name}, which the server runs as, cannot"
        barriers = unreachable_parts(self.path.parent, account)
        if barriers:
            raise LaunchError(
                f"{who} enter {barriers[0]}, where the data folder {self.path} is; name another folder with data_dir "
                "or services.folder",
                open_up(barriers),
            )
        raise LaunchError(
            f"{who} write the data folder {self.path}", f"chown -R {account.name} {shlex.quote(str(self.path))}"
        )

    def _give(self, account: Account) -> None:
        """Make the folder if it does not exist, and give it to the account if it is empty and belongs to root."""
        folder = open_folder(self.path, 0o711)
        try:
            readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                if os.fstat(readable).st_uid == 0 and not os.listdir(readable):
                    os.fchmod(readable, 0o700)
                    os.fchown(readable, account.uid, account.gid)
            finally:
                os.close(readable)
        finally:
            os.close(folder)
