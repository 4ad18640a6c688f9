"""What may start a service. A backend lists these; the core knows how each of them works.

Each is a declaration of names. Names may hold ``*``, for services whose name holds a version.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol


class SystemdUnit(NamedTuple):
    """A unit of the system's systemd: ``SystemdUnit(("redis-server", "redis"))``, the preferred name first."""

    units: tuple[str, ...]


class DebianCluster(NamedTuple):
    """A PostgreSQL cluster of Debian's postgresql-common, told by its port."""


class HomebrewFormula(NamedTuple):
    """A service of Homebrew: ``HomebrewFormula(("postgresql@*", "postgresql"))``."""

    formulae: tuple[str, ...]


class WindowsService(NamedTuple):
    """A service of Windows: ``WindowsService(("postgresql-x64-*",))``."""

    services: tuple[str, ...]


class LocalProcess(NamedTuple):
    """A process of our own, with a data folder of its own, on this machine's loopback address only. Not on Windows.

    ``programs`` are looked for on PATH and in ``folders`` (patterns such as ``/usr/lib/postgresql/*/bin``), then as
    files of installed wheels: ``wheels`` holds paths that begin with an importable package.
    ``accounts`` are the system's accounts to run it as where we are root, the preferred one first; ``nobody`` comes
    last by itself. No server is started as root.
    ``unix_socket`` tells that the backend's ``command`` can make it listen on a Unix socket alone.
    ``stop_signal`` has it save its data and end. A server that ends with one of the sentences ``try_again_on`` in its
    log is started once more. One that ends with one of the sentences ``unreadable_on`` cannot read the data folder: the
    next program is tried.
    """

    programs: tuple[str, ...]
    folders: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    stop_signal: int = signal.SIGTERM
    try_again_on: tuple[str, ...] = ()
    unreadable_on: tuple[str, ...] = ()
    unix_socket: bool = False


LaunchMethod = SystemdUnit | DebianCluster | HomebrewFormula | WindowsService | LocalProcess


class LaunchError(Exception):
    """A service could not be started or stopped.

    ``message`` says what was missing, ``command`` what a person could run, ``log`` the server's own last lines.
    """

    def __init__(self, message: str, command: str | None = None, log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.command = command
        self.log = tuple(log)


class DataFolder(Protocol):
    """A server's data folder. Whatever is done in it is done as the account that the server runs as.

    So no link or pipe that is put there leads a zCLI of root's to a file that this account could not reach by itself.
    """

    @property
    def path(self) -> Path:
        """Where it is, for command lines. Do not open anything below it."""

    def names(self) -> list[str]:
        """The names of what is in it; none if it is missing.

        :raises LaunchError: the account may not look into it.
        """

    def read(self, name: str) -> str | None:
        """The text of a file in it, at most 64 KiB; None unless it is a regular file that the account may read."""


class Place(Protocol):
    """Where a local process is to run. Made by the core, handed to the backend."""

    @property
    def program(self) -> Path:
        """The server's executable."""

    @property
    def data(self) -> Path:
        """The path of its data folder, for command lines. Open nothing below it: see :attr:`files`."""

    @property
    def files(self) -> DataFolder:
        """What is in its data folder, which belongs to the account that the server runs as."""

    @property
    def folder(self) -> Path:
        """zCLI's own folder for this server: its log, and files such as credentials. It belongs to us."""

    @property
    def host(self) -> str:
        """The loopback address to listen on; the path of a Unix socket if ``LocalProcess.unix_socket`` is set."""

    @property
    def port(self) -> int:
        """The port to listen on."""

    def run(self, command: Sequence[str], timeout: float | None = None) -> str:
        """Run a command to its end as the server's account, in its data folder; what it printed.

        ``timeout``: seconds; all that is left of the caller's own timeout if not given.

        :raises LaunchError: it cannot be run, failed, or took too long; with its last lines.
        """

    def write(self, file: Path, text: str, *, for_server: bool = False) -> None:
        """Write a file in :attr:`folder` that only we, or only the server's account, may read."""

    def free_pid_file(self, file: Path, program: str) -> None:
        """Have a pid file name no process, if it is not that of this folder's server.

        That is so if the process is gone, if its name does not begin with ``program``, or if it is a server of another
        folder: it neither works in the pid file's folder, nor has a file there open, nor names it on its command line.
        The file's first word is the number. What is not a regular file is left alone.

        Many servers only ask whether the number is taken. It may be: by a process that was started later, or by one
        that has ended and that nobody has waited for, which stays so in a container without an init. Only the number
        is replaced, by one that no process can have; the rest of the file is the server's to judge.
        """

    def note(self, message: str) -> None:
        """Tell the log of something that was done on the way."""
