"""A server's data folder: everything in it is done as the account that the server runs as.

Where we are root, that account may replace whatever is in there by a link or a pipe, at any moment. So a child that has
become the account does the work. It is a command of the system (``/bin/sh``, ``ls``), not a fork of this process: a
program with threads cannot run Python code in a fork safely, and the account need not be able to read our interpreter.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.commands import Account, as_root, is_root, run, which
from zcli_core.system.safe_files import ForeignPathError, foreign_part, open_folder, require_no_others
from zcli_core.system.users import own_name, user_label

_LONGEST_TEXT = 65_536
#: Seconds for a command that reads: the account can make it wait.
_READING = 5.0
_READ = f'test -f "$1" && test ! -h "$1" && head -c {_LONGEST_TEXT} "$1"'
_RENUMBER = """umask 077
sed "1s/-\\{0,1\\}[0-9][0-9]*/$2/" "$1" >"$1.new" && mv -f "$1.new" "$1\""""


class DataFiles:
    """The core's :class:`~zcli_core.services.contract.DataFolder`. ``account`` is its owner where that is not us."""

    def __init__(self, path: Path, account: Account | None, remaining: Callable[[], float]) -> None:
        self.path = path
        self.account = account
        self._remaining = remaining

    def names(self) -> list[str]:
        """The names of what is in it; none if it is missing.

        :raises LaunchError: the account may not look into it.
        """
        if not os.path.exists(self.path):  # or it is in a folder that we may not look into, as make() will say
            return []
        if self.account is None:
            try:
                return os.listdir(self.path)
            except OSError as error:
                raise LaunchError(f"cannot read the data folder {self.path}: {error.strerror}") from error
        done = run(["ls", "-A", "--", str(self.path)], self._reading, self.account, Path("/"))
        if done.code == 0:
            return done.output.splitlines()
        raise LaunchError(
            f"the account {self.account.name} cannot read the data folder {self.path}", log=done.last_lines
        )

    def read(self, name: str) -> str | None:
        """The text of a file in it, at most 64 KiB; None unless it is a regular file that the account may read."""
        if self.account is not None:
            done = run(["/bin/sh", "-c", _READ, "sh", name], self._reading, self.account, self.path)
            return done.output if done.code == 0 else None
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # open() refuses a folder, and leaves it open
                return None
            return os.read(descriptor, _LONGEST_TEXT).decode("utf-8", "replace")
        finally:
            os.close(descriptor)

    def renumber(self, name: str, number: int) -> None:
        """Put another number into the place of the first one in a file's first line. The file is replaced.

        :raises LaunchError: it cannot be written.
        """
        done = run(["/bin/sh", "-c", _RENUMBER, "sh", name, str(number)], self._reading, self.account, self.path)
        if done.code:
            raise LaunchError(f"{self.path / name} cannot be written", log=done.last_lines)

    @property
    def _reading(self) -> float:
        return min(self._remaining(), _READING)

    # --- the folder itself ---

    def open(self) -> int:
        """Open the folder, for a lock.

        :raises LaunchError: it belongs to neither us nor the account.
        :raises OSError: it cannot be opened.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        owner = os.fstat(descriptor).st_uid
        if self.account is not None and owner != self.account.uid:
            os.close(descriptor)
            raise LaunchError(f"the data folder {self.path} was replaced by another one")
        return descriptor

    def make(self) -> None:
        """Make the folder, private to the account that the server runs as, if it is missing.

        :raises LaunchError: it cannot be made, or is not that account's.
        """
        try:
            if self.account is None:
                self._make_ours()
            else:
                self._make_accounts(self.account)
        except OSError as error:
            quoted = shlex.quote(str(self.path))
            command = as_root("sh", "-c", f"mkdir -p {quoted} && chown {os.geteuid()} {quoted}")
            message = f"the data folder {self.path} cannot be made: {error.strerror}"
            raise LaunchError(message, None if is_root() else command) from error

    def _make_ours(self) -> None:
        try:
            require_no_others(self.path)
            os.makedirs(self.path, 0o700, exist_ok=True)
            require_no_others(self.path)  # another user may have made it meanwhile
        except ForeignPathError as foreign:
            raise LaunchError(
                f"the data folder {self.path} is not used, because {foreign.strerror} and could have the server write "
                "other files; name another with data_dir, or services.folder"
            ) from foreign
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise LaunchError(
                f"the user {own_name()} cannot write the data folder {self.path}",
                as_root("chown", "-R", str(os.geteuid()), str(self.path)),
            )

    def make_private(self) -> None:
        """Close the folder to other users, who could hold its lock if they could open it.

        To be called once the backend has accepted the folder: one that was named by mistake keeps its mode.

        :raises LaunchError: that cannot be done.
        """
        if self.account is not None:
            close = '! test -O "$1" || chmod go= "$1"'
            done = run(["/bin/sh", "-c", close, "sh", str(self.path)], self._reading, self.account, Path("/"))
            if done.code:
                raise LaunchError(f"the data folder {self.path} cannot be made private", log=done.last_lines)
            return
        try:
            found = self.path.stat()
            if found.st_uid == os.geteuid() and found.st_mode & 0o077:
                self.path.chmod(0o700)
        except OSError as error:
            raise LaunchError(f"the data folder {self.path} cannot be made private: {error.strerror}") from error

    def _make_accounts(self, account: Account) -> None:
        if _leads_through(self.path) in (None, 0):
            self._give(account)
        elif not os.path.exists(self.path):  # within another account's folder root makes nothing
            command = 'umask 077 && mkdir -p "$1"'
            run(["/bin/sh", "-c", command, "sh", str(self.path)], self._remaining(), account, Path("/"))
        usable = 'test -w "$1" && test -x "$1"'
        if run(["/bin/sh", "-c", usable, "sh", str(self.path)], self._remaining(), account, Path("/")).code == 0:
            return
        who = f"the account {account.name}, which the server runs as, cannot"
        barriers = unreachable_parts(self.path.parent, account)
        if barriers:
            raise LaunchError(
                f"{who} enter {barriers[0]}, where the data folder {self.path} is; name another with data_dir, or "
                "services.folder",
                open_up(barriers),
            )
        raise LaunchError(
            f"{who} write the data folder {self.path}", f"chown -R {account.name} {shlex.quote(str(self.path))}"
        )

    def _give(self, account: Account) -> None:
        """Make the folder if it is missing, and give it to the account if it is empty and root's."""
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


def _leads_through(path: Path) -> int | None:
    """Whose folders or links a path goes through, as far as it exists; None if they are all ours or root's.

    0 stands for a folder of root's where others may write.
    """
    foreign = foreign_part(path)
    return None if foreign is None else foreign.uid


def _owner_of(data: Path) -> int:
    """The owner of a data folder; root's number if it is missing.

    :raises LaunchError: a link of another account leads there: that account would have us work in any folder.
    """
    try:
        folder = open_folder(data)
    except ForeignPathError as foreign:
        owner = data.stat().st_uid if data.exists() else foreign.uid
        if owner == foreign.uid:
            return owner
        raise LaunchError(
            f"the data folder {data} belongs to {user_label(owner)}, but {foreign.strerror}; name the folder itself "
            "with data_dir"
        ) from foreign
    except OSError:
        return 0
    try:
        return os.fstat(folder).st_uid
    finally:
        os.close(folder)


def choose_account(accounts: tuple[str, ...], data: Path) -> Account | None:
    """Whom a server should run as; None for ourselves, which is always so where we are not root.

    That is the owner of the data folder, or of the first folder above it that is another account's; otherwise the
    first of ``accounts`` that exists, and at last ``nobody``.

    :raises LaunchError: no account will do.
    """
    if not is_root():
        return None
    known = [account for account in map(_find, (*accounts, "nobody")) if account and not account.has_roots_rights]
    owner = _owner_of(data)
    try:
        owner = owner or _leads_through(data) or 0
    except OSError as error:
        raise LaunchError(f"the data folder {data} cannot be made: {error.strerror}") from error
    if owner == 0:
        if known:
            return known[0]
        wanted = (*accounts, "nobody")
        make = ["useradd", "--system"] if which("useradd") else ["adduser", "-S"]  # the second one is BusyBox's
        raise LaunchError(
            f"root starts servers as another account only, and there is no account {' or '.join(wanted)}",
            shlex.join([*make, wanted[0]]),
        )
    quoted = shlex.quote(str(data))
    give = f"mkdir -p {quoted} && chown -R {known[0].name} {quoted}" if known else None
    account = _find(owner)
    if account is None:
        raise LaunchError(
            f"the data folder {data} belongs to the user id {owner}, which has no account on this system; give the "
            "folder to an account, or name another one with data_dir",
            give,
        )
    if account.has_roots_rights:
        raise LaunchError(
            f"the data folder {data} belongs to the account {account.name}, which is in root's group; give the folder "
            "to another account, or name another one with data_dir",
            give,
        )
    return account


def _find(name_or_uid: str | int) -> Account | None:
    try:
        return Account.of(name_or_uid)
    except KeyError:
        return None


def unreachable_parts(path: Path, account: Account) -> list[Path]:
    """What keeps an account from a folder or a program, by its mode: the path's parts, links resolved."""
    paths = (path.absolute(), path.resolve())
    whole = dict.fromkeys(part for each in paths for part in (*reversed(each.parents), each))
    return [part for part in whole if not _may_enter(part, account)]


def _may_enter(part: Path, account: Account) -> bool:
    """Whether an account may search a folder, or execute a file, as far as the mode says."""
    try:
        found = part.stat()
    except OSError:
        return True
    if found.st_uid == account.uid:
        bits = found.st_mode >> 6
    elif found.st_gid in (account.gid, *account.groups):
        bits = found.st_mode >> 3
    else:
        bits = found.st_mode
    return bool(bits & 0o1)


def open_up(barriers: list[Path]) -> str:
    """The command that lets other accounts through."""
    return f"chmod o+x {shlex.join(map(str, barriers))}"
