"""The folder with the control sockets of this user's servers. Other users cannot enter it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import struct
import time
from collections.abc import Iterator
from types import TracebackType

from zcli_core.system.folders import user_run_folder
from zcli_core.system.safe_files import ForeignPathError, open_folder
from zcli_core.system.trusted import root_and_self, why_untrusted

#: Unix sockets exist, and the folder's permissions count.
AVAILABLE = hasattr(socket, "AF_UNIX") and os.name == "posix"

_SUFFIX = ".sock"
#: A file with this suffix is not ready yet: its server is about to listen and to rename it.
_NEW = ".new"
#: Seconds after which such a file belongs to a process that was killed.
_NEW_TIMEOUT = 60.0
_LONGEST_TITLE = 40
#: Longest path of a Unix socket, in bytes (unix(7); 104 with the final NUL on the BSDs and macOS).
_LONGEST_PATH = 103


class RunFolder:
    """The open folder. Paths go through its descriptor where that is possible, so that they are never too long."""

    def __init__(self, *, make: bool = False) -> None:
        """Open the folder.

        Args:
            make: Make the folder if it is missing.

        Raises:
            OSError: It cannot be opened or made, or another user could put files into it.
        """
        path = user_run_folder()
        if path is None:
            raise FileNotFoundError(2, "this user has no home folder")
        self.path = path
        found = open_folder(path, 0o700 if make else None, only_ours=True)
        try:
            self._descriptor = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=found)
        finally:
            os.close(found)
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        status = os.fstat(self._descriptor)
        reason = why_untrusted(status, {os.geteuid()})
        if reason is not None:
            raise ForeignPathError(self.path, status.st_uid, f"{self.path} {reason}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.fchmod(self._descriptor, 0o700)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _address(self, name: str) -> str:
        """Return the path of a socket for ``bind`` and ``connect``.

        Raises:
            OSError: It is too long, and this system has no other way.
        """
        here = f"/proc/self/fd/{self._descriptor}"
        path = os.path.join(here if os.path.isdir(here) else self.path, name)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise OSError(f"the path {path} is too long for a Unix socket, at most {_LONGEST_PATH} bytes")
        return path

    def listen(self, title: str) -> tuple[socket.socket, str]:
        """Make a socket that only this user can use; return it and the name of its file.

        Args:
            title: Title of the server, which the name begins with.

        Raises:
            OSError: It cannot be made.
        """
        # Titles are unique neither on a machine nor in a process, and containers may share the folder and their ids.
        short = re.sub(r"[^\w.-]", "_", title, flags=re.ASCII)[:_LONGEST_TITLE]
        name = f"{short}-{os.getpid()}-{os.urandom(4).hex()}{_SUFFIX}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(self._address(name + _NEW))
            try:
                os.chmod(name + _NEW, 0o600, dir_fd=self._descriptor)
                sock.listen(16)
                # Under its final name it always listens. If it does not, its process was killed.
                os.rename(name + _NEW, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            except BaseException:
                self.remove(name + _NEW)
                raise
        except BaseException:
            sock.close()
            raise
        return sock, name

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def connections(self, timeout: float) -> Iterator[tuple[str, socket.socket | OSError]]:
        """Connect to each socket in the folder; remove those of killed processes.

        Args:
            timeout: Of each operation on a socket, in seconds.

        Yields:
            The name and the socket, which the caller closes, or why it cannot be used.
        """
        for name in sorted(os.listdir(self._descriptor)):
            if name.endswith(_SUFFIX + _NEW):
                self._remove_old(name)
            elif name.endswith(_SUFFIX):
                try:
                    yield name, self._connect(name, timeout)
                except ConnectionRefusedError:
                    self.remove(name)
                except FileNotFoundError:  # the server has just ended
                    continue
                except OSError as error:
                    yield name, error

    def _remove_old(self, name: str) -> None:
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(name, dir_fd=self._descriptor).st_mtime > _NEW_TIMEOUT:
                self.remove(name)

    def _connect(self, name: str, timeout: float) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(self._address(name))
            require_own_peer(sock)
        except BaseException:
            sock.close()
            raise
        return sock


def require_own_peer(sock: socket.socket) -> None:
    """Check that the process at the other end runs as this user or as root, where the system tells that.

    Raises:
        PermissionError: It runs as another user.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", credentials)[1]
    if uid not in root_and_self():
        raise PermissionError(1, f"the process at the other end runs as the user with the id {uid}")
