"""Opening files and folders whose path goes through a folder that another account may change.

Paths are followed one part at a time with file descriptors, so that no part can be replaced between a check and its
use. This needs ``O_PATH`` (Linux). On other systems the system follows the path, and only a link in its last part is
checked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from zcli_core.system.trusted import is_known_user, root_and_self, why_untrusted
from zcli_core.system.users import user_label

_MOST_LINKS = 40  # the limit of Linux
_PATH = getattr(os, "O_PATH", None)


class ForeignPathError(OSError):
    """Raised for a part of a path that another account controls.

    ``uid`` is the owner of the part. It may be this user's or root's, if other users may write the part.
    """

    def __init__(self, path: str, uid: int, problem: str) -> None:
        super().__init__(errno.EPERM, problem, path)
        self.uid = uid


def open_folder(path: str | os.PathLike[str], make: int | None = None, *, only_ours: bool = False) -> int:
    """Open a folder without following a link of another account; return a descriptor for ``dir_fd``.

    Args:
        path: The path of the folder.
        make: The mode of missing folders, which are made; None makes no folders.
        only_ours: Accept only folders of this user or root in which no other user may replace anything.

    Raises:
        ForeignPathError: The path goes through a link of another account, or with ``only_ours`` through its folder.
        OSError: The folder cannot be opened or made.
    """
    absolute = os.path.abspath(path)
    if _PATH is None:
        if make is not None:
            os.makedirs(absolute, make, exist_ok=True)
        return os.open(absolute, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.ExitStack() as opened:
        folder = _follow(absolute, make, only_ours, opened)
        return os.dup(folder)


def foreign_part(path: str | os.PathLike[str]) -> ForeignPathError | None:
    """Return the first problem in the existing parts of a path; None if all belong to this user or root."""
    part = os.path.abspath(path)
    while True:
        try:
            os.close(open_folder(part, only_ours=True))
        except ForeignPathError as foreign:
            return foreign
        except (FileNotFoundError, NotADirectoryError):
            part = os.path.dirname(part)
            continue
        except PermissionError:  # in a folder that this user may not enter, zCLI makes no files
            return None
        return None


def require_no_others(path: str | os.PathLike[str]) -> None:
    """Check that no part of a path belongs to another user, who could replace files below it.

    Folders of this user or root that others may write are accepted.

    Raises:
        ForeignPathError: Another user owns a part of the path.
    """
    foreign = foreign_part(path)
    if foreign is not None and foreign.uid not in root_and_self() and is_known_user(foreign.uid):
        raise foreign


def _follow(path: str, make: int | None, only_ours: bool, opened: contextlib.ExitStack) -> int:
    """Open a folder part by part; ``opened`` closes every descriptor."""

    def keep(descriptor: int) -> int:
        opened.callback(os.close, descriptor)
        return descriptor

    root = folder = keep(_open_part("/", None))
    here, links = "/", 0
    parts = _reversed_parts(path)
    while parts:
        part = parts.pop()
        name = os.path.join(here, part)
        below = keep(_open_or_make(part, folder, make))
        found = os.fstat(below)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
            _require_trusted_link(folder, found, name)
            target = os.readlink("", dir_fd=below)
            parts += _reversed_parts(target)
            if target.startswith("/"):
                here, folder = "/", root
        elif stat.S_ISDIR(found.st_mode):
            here, folder = name, below
            if only_ours:
                _require_ours(found, here)
        else:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    return folder


def _reversed_parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part]


def _open_part(part: str, folder: int | None) -> int:
    """Open a folder, or a link or file itself, for its status and for ``dir_fd``."""
    assert _PATH is not None
    return os.open(part, _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)


def _open_or_make(part: str, folder: int, make: int | None) -> int:
    try:
        return _open_part(part, folder)
    except FileNotFoundError:
        if make is None:
            raise
    with contextlib.suppress(FileExistsError):  # another process was faster
        os.mkdir(part, make, dir_fd=folder)
    return _open_part(part, folder)


def _require_trusted_link(folder: int, link: os.stat_result, name: str) -> None:
    """Check that a link and its folder belong to this user or root. Others could have moved the link there."""
    for status in (link, os.fstat(folder)):
        if status.st_uid not in root_and_self():
            problem = f"{name} is a link that {user_label(status.st_uid)} controls"
            raise ForeignPathError(name, status.st_uid, problem)


def _require_ours(found: os.stat_result, name: str) -> None:
    is_sticky = found.st_uid in root_and_self() and found.st_mode & stat.S_ISVTX
    reason = None if is_sticky else why_untrusted(found, root_and_self())
    if reason is not None:
        raise ForeignPathError(name, found.st_uid, f"{name} {reason}")


def open_to_append(path: str | os.PathLike[str]) -> int:
    """Open a file for appending; make the file and its folders if they are missing.

    A link is followed only if it belongs to this user or root. In a folder that other users may write, a file with a
    second name is refused, because it may be a hard link to any file of this user. A pipe of another account is refused
    too, because writing to it could block.

    Raises:
        ForeignPathError: Another account controls where the path leads.
        OSError: The file cannot be opened.
    """
    return _open_to_append(os.path.abspath(path), 0)


def _open_to_append(path: str, links: int) -> int:
    where, name = os.path.split(path)
    folder = open_folder(where, 0o777)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            opened = os.open(name, flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK) or links > _MOST_LINKS:  # EMLINK: FreeBSD's
                raise
            _require_trusted_link(folder, os.lstat(name, dir_fd=folder), path)
            if not where.startswith("/proc/"):
                target = os.path.join(where, os.readlink(name, dir_fd=folder))
                return _open_to_append(target, links + 1)
            # /dev/stdout leads to a link in /proc, which only the kernel can follow.
            opened = os.open(name, flags, dir_fd=folder)
        try:
            if not where.startswith("/proc/"):
                _require_harmless(os.fstat(opened), os.fstat(folder), path)
            os.set_blocking(opened, True)
        except BaseException:
            os.close(opened)
            raise
    finally:
        os.close(folder)
    return opened


def _require_harmless(found: os.stat_result, folder: os.stat_result, path: str) -> None:
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1 and why_untrusted(folder, root_and_self()):
        raise ForeignPathError(path, folder.st_uid, f"{path} has a second name, and other users may write its folder")
    if stat.S_ISFIFO(found.st_mode) and found.st_uid not in root_and_self():
        raise ForeignPathError(path, found.st_uid, f"{path} is a pipe of {user_label(found.st_uid)}")


def open_private(file: str | os.PathLike[str], flags: int = 0) -> int:
    """Open a file for reading and writing with mode 0600; make it if it is missing.

    Args:
        file: A file in a folder of this user.
        flags: More flags, such as ``os.O_APPEND``.

    Raises:
        OSError: The file cannot be opened, or it is a link.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    with contextlib.suppress(PermissionError):  # a file of another user that this user may write
        os.fchmod(descriptor, 0o600)
    return descriptor
