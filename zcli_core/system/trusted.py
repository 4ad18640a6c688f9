"""Whether a file or folder belongs to a user that this process trusts.

Trusted are the user that runs (the effective user), root, and the owner of the running script, who could change the
script as well. A file is trusted if it and its folder belong to one of them and no other user may write them. Only the
owner's private group may write them too: the group that has the owner's name or number, and no other member.

The module works on POSIX systems. On others everything is trusted.
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
# A descriptor for looking at a folder needs no permission to list it, where the system can do that.
_LOOK = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_PATH", os.O_RDONLY)
#: The number of a user that a namespace does not have (proc(5), overflowuid), and the map of no namespace.
_OVERFLOW = 65534
_ALL_USERS = ["0", "0", "4294967295"]
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class UntrustedProblem(str):
    """The text of a problem with a file that is not trusted. Commands that only show the configuration go on."""

    __slots__ = ()


class UntrustedError(Exception):
    """A file or folder that another user owns or may write.

    ``path`` is the file or folder. ``reason`` is the rest of the sentence: ``"belongs to the user bob (uid 1001)"``.
    ``command`` keeps other users from writing it, "" if it is not this user's.
    """

    def __init__(self, path: str, reason: str, command: str = "") -> None:
        super().__init__(path, reason, command)
        self.path = path
        self.reason = reason
        self.command = command

    def __str__(self) -> str:
        return printable(f"{self.path} {self.reason}")

    def describe(self, file: str, remedy: str) -> str:
        """Return the error for a user: which file is not read, why, and what to do.

        Args:
            file: the file that was to be read.
            remedy: how a user who trusts the file has it read, or "". ``{file}`` and ``{folder}`` stand for the file
                and its folder, quoted for a shell.
        """
        from shlex import quote

        why = f"it {self.reason}" if self.path == file else str(self)
        paths = {"file": quote(file), "folder": quote(os.path.dirname(file))}
        return printable(f"{file} is not read, because {why}{self.advice(remedy.format(**paths))}")

    def advice(self, trusting: str) -> str:
        """Return what to do, as the end of an error's sentence.

        Args:
            trusting: how a user who trusts the file has it read, or "".
        """
        parts = [f"; to change that: {self.command}"] if self.command else []
        parts += [f"; if you trust it, {trusting}"] if trusting else []
        return "".join(parts)


def script_file() -> str | None:
    """Return the path of the running script, or None in an interactive session and with ``python -c``.

    For a frozen program it is the executable, and for a zip file that Python runs it is the zip file: users keep their
    files beside these, and what is inside is not theirs.
    """
    if getattr(sys, "frozen", False):
        return os.path.abspath(sys.executable)
    found = getattr(sys.modules.get("__main__"), "__file__", None)
    if not found:
        return None
    file: str = os.path.abspath(found)
    folder = os.path.dirname(file)
    return folder if os.path.isfile(folder) else file


def root_and_us() -> frozenset[int]:
    """Return the user ids of root and the effective user; none on systems without user ids."""
    return frozenset({0, os.geteuid()}) if _POSIX else frozenset()


def trusted_owners() -> frozenset[int]:
    """Return the user ids that are trusted: the effective user's, root's, and that of the running script's owner."""
    if not _POSIX:
        return frozenset()
    owners = set(root_and_us())
    script = script_file()
    if script is not None:
        with contextlib.suppress(OSError):
            owners.add(os.stat(script).st_uid)
    return frozenset(owners)


def why_untrusted(status: os.stat_result, owners: Collection[int] | None = None) -> str | None:
    """Say why a file or folder with this status is not trusted; None if it is.

    Args:
        status: what ``os.fstat()`` says. Take it from an open descriptor, because a path can be replaced.
        owners: the user ids that are trusted instead of :func:`trusted_owners`.
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

    Both are judged by what was opened, so that nobody can replace them in between. A link is judged by the file that it
    names.

    Args:
        file: the path. Further folders above it are not looked at.
        owners: the user ids that are trusted instead of :func:`trusted_owners`.
        regular: whether a pipe or a device is refused, without waiting for it.

    Raises:
        UntrustedError: the file or its folder belongs to another user, or another user may write it.
        OSError: the file is not there, is a folder, cannot be opened, or is not ``regular``.
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
        # Before it is opened: to open another user's named pipe would wait for that user.
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
    """Check the file or folder that a relative path names, and every folder from ``base`` to it, as far as they exist.

    Raises:
        UntrustedError: one of them belongs to another user, or another user may write it.
    """
    if not _POSIX:
        return
    place = os.fspath(base)
    for part in (os.curdir, *os.fspath(relative).split(os.sep)):
        place = place if part in ("", os.curdir) else os.path.join(place, part)
        try:
            status = os.stat(place)
        except OSError:  # not there, or in a folder that this user may not look into
            return
        _check(status, place, None)


def _check(status: os.stat_result, path: str, owners: Collection[int] | None, what: str = "") -> None:
    reason = why_untrusted(status, owners)
    if reason is None:
        return
    command = ""
    if status.st_uid == os.geteuid() and not status.st_mode & stat.S_ISVTX:  # no user should close /tmp
        from shlex import quote

        command = f"chmod go-w {quote(path)}"
    raise UntrustedError(what + path, reason, command)


def _is_private_group(gid: int, uid: int) -> bool:
    """Whether a group is the private group of a user: it has the user's name or number, and no other member."""
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
        return True  # some distributions have it as the group of accounts without a shell, such as sync
    if gid != uid and (group is None or group.gr_name != owner):
        return False
    return not any(account.pw_gid == gid and account.pw_uid != uid for account in pwd.getpwall())


def is_known_user(uid: int) -> bool:
    """Whether a number names a user: a user namespace shows every user outside of it as the same number."""
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
