"""Whether a file or folder belongs to a user that this process trusts.

The trusted users are the effective user, root, and the owner of the running script, who could also change the script. A
file is trusted if it and its folder belong to trusted users and no other user may write them. The owner's private group
may write them: the group with the owner's name or number and no other member.

The module works on POSIX systems. On other systems every file is trusted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Collection

from zcli_core.printable import printable
from zcli_core.system.users import user_label

_POSIX = os.name == "posix"
# With O_PATH a folder can be opened without permission to list it.
_LOOK = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_PATH", os.O_RDONLY)
#: The number of each user that is unknown in a user namespace (proc(5), overflowuid), and the map outside of one.
_OVERFLOW = 65534
_ALL_USERS = ["0", "0", "4294967295"]
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class UntrustedProblem(str):
    """The text of a problem with an untrusted file. Commands that only show the configuration ignore it."""

    __slots__ = ()


class UntrustedError(Exception):
    """Raised for a file or folder that another user owns or may write.

    Attributes:
        path: The file or folder.
        reason: The rest of the sentence, such as ``"belongs to the user bob (uid 1001)"``.
        command: The command that keeps other users from writing it, or "" if this user does not own it.
    """

    def __init__(self, path: str, reason: str, command: str = "") -> None:
        super().__init__(path, reason, command)
        self.path = path
        self.reason = reason
        self.command = command

    def __str__(self) -> str:
        return printable(f"{self.path} {self.reason}")

    def describe(self, file: str, remedy: str) -> str:
        """Return the message for the user: which file is not read, why, and what to do.

        Args:
            file: The file that was to be read.
            remedy: What a user who trusts the file can do, or "". ``{file}`` and ``{folder}`` stand for the file and
                its folder, quoted for a shell.
        """
        from shlex import quote

        why = f"it {self.reason}" if self.path == file else str(self)
        paths = {"file": quote(file), "folder": quote(os.path.dirname(file))}
        return printable(f"{file} is not read, because {why}{self.advice(remedy.format(**paths))}")

    def advice(self, trusting: str) -> str:
        """Return what to do, as the end of a message.

        Args:
            trusting: What a user who trusts the file can do, or "".
        """
        parts = [f"; to change that: {self.command}"] if self.command else []
        parts += [f"; if you trust it, {trusting}"] if trusting else []
        return "".join(parts)


def script_file() -> str | None:
    """Return the path of the running script, or None in an interactive session and with ``python -c``.

    For a frozen program it is the executable, and for a zip file that Python runs it is the zip file, because users
    keep their files beside these.
    """
    if getattr(sys, "frozen", False):
        return os.path.abspath(sys.executable)
    found = getattr(sys.modules.get("__main__"), "__file__", None)
    if not found:
        return None
    file: str = os.path.abspath(found)
    folder = os.path.dirname(file)
    return folder if os.path.isfile(folder) else file


def root_and_self() -> frozenset[int]:
    """Return the user ids of root and the effective user; none on systems without user ids."""
    return frozenset({0, os.geteuid()}) if _POSIX else frozenset()


def trusted_owners() -> frozenset[int]:
    """Return the user ids that are trusted: the effective user's, root's, and that of the running script's owner."""
    if not _POSIX:
        return frozenset()
    owners = set(root_and_self())
    script = script_file()
    if script is not None:
        with contextlib.suppress(OSError):
            owners.add(os.stat(script).st_uid)
    return frozenset(owners)


def why_untrusted(status: os.stat_result, owners: Collection[int] | None = None) -> str | None:
    """Return why a file or folder with this status is not trusted, or None if it is trusted.

    Args:
        status: The result of ``os.fstat()`` for an open descriptor, because the file at a path can be replaced.
        owners: The trusted user ids; :func:`trusted_owners` by default.
    """
    if not _POSIX:
        return None
    owned = f"belongs to {user_label(status.st_uid)}"
    if status.st_uid not in (trusted_owners() if owners is None else owners):
        return owned
    if status.st_mode & stat.S_IWOTH:
        return f"{owned}, but every user may write it"
    if status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid, status.st_uid):
        return f"{owned}, but {_group_label(status.st_gid)} may write it"
    return None


def open_trusted(file: str | os.PathLike[str], owners: Collection[int] | None = None, *, regular: bool = False) -> int:
    """Open a file for reading if it and its folder are trusted, and return the descriptor.

    The checks use the open descriptors, so that no other user can replace the file or folder between check and use. For
    a link, the file that it leads to is checked.

    Args:
        file: The path. Only the folder of the file is checked, not the folders above it.
        owners: The trusted user ids; :func:`trusted_owners` by default.
        regular: Refuse a pipe or a device, without waiting for it.

    Raises:
        UntrustedError: The file or its folder belongs to another user, or another user may write it.
        OSError: The file does not exist, is a folder, cannot be opened, or with ``regular`` is not a regular file.
    """
    if not _POSIX:
        return os.open(file, _READ)
    path = os.fspath(file)
    where, name = os.path.split(path)
    where = where or os.curdir
    folder = os.open(where, _LOOK)
    try:
        status = os.stat(name, dir_fd=folder)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "it is a folder", path)
        _check(os.fstat(folder), where, owners, "its folder ")
        # Checked before opening, because opening a named pipe of another user would wait for that user.
        _check(status, path, owners)
        descriptor = os.open(name, _READ | (os.O_NONBLOCK if regular else 0), dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(descriptor)
        _check(status, path, owners)
        if regular and not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a file", path)  # noqa: TRY301 - closed below
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_below(base: str | os.PathLike[str], relative: str | os.PathLike[str]) -> None:
    """Check every existing folder from ``base`` to the file or folder at a relative path, and that file or folder.

    Raises:
        UntrustedError: One of them belongs to another user, or another user may write it.
    """
    if not _POSIX:
        return
    place = os.fspath(base)
    for part in (os.curdir, *os.fspath(relative).split(os.sep)):
        place = place if part in ("", os.curdir) else os.path.join(place, part)
        try:
            status = os.stat(place)
        except OSError:  # missing, or in a folder that this user may not enter
            return
        _check(status, place, None)


def _check(status: os.stat_result, path: str, owners: Collection[int] | None, what: str = "") -> None:
    reason = why_untrusted(status, owners)
    if reason is None:
        return
    command = ""
    if status.st_uid == os.geteuid() and not status.st_mode & stat.S_ISVTX:  # never advise to close /tmp
        from shlex import quote

        command = f"chmod go-w {quote(path)}"
    raise UntrustedError(what + path, reason, command)


def _is_private_group(gid: int, uid: int) -> bool:
    """Return whether a group is a user's private group: it has the user's name or number, and no other member."""
    import grp
    import pwd

    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = None
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        group = None
    if group is not None and any(member != owner for member in group.gr_mem):
        return False
    if gid == uid == 0:
        return True  # on some distributions it is also the group of accounts such as sync
    if gid != uid and (group is None or group.gr_name != owner):
        return False
    return not any(account.pw_gid == gid and account.pw_uid != uid for account in pwd.getpwall())


def is_known_user(uid: int) -> bool:
    """Return whether a number is that of one user. In a user namespace, all users outside of it share a number."""
    if uid != _OVERFLOW:
        return uid >= 0
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() == _ALL_USERS
    except OSError:
        return True


def _group_label(gid: int) -> str:
    import grp

    try:
        return f"the group {grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"the group {gid}"
