"""The launchers that a backend can declare, and what its methods get for a server that zCLI starts.

A declaration holds names. Names may contain ``*``, for services whose name contains a version.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol


class SystemdUnit(NamedTuple):
    """A unit of systemd: ``SystemdUnit(("redis-server", "redis"))``, the preferred name first."""

    units: tuple[str, ...]


class DebianCluster(NamedTuple):
    """A PostgreSQL cluster of Debian's postgresql-common, identified by its port."""


class HomebrewFormula(NamedTuple):
    """A service of Homebrew: ``HomebrewFormula(("postgresql@*", "postgresql"))``."""

    formulae: tuple[str, ...]


class WindowsService(NamedTuple):
    """A service of Windows: ``WindowsService(("postgresql-x64-*",))``."""

    services: tuple[str, ...]


class LocalProcess(NamedTuple):
    """A process that zCLI starts, on a loopback address of this machine only, with a data folder. Not on Windows.

    Attributes:
        programs: names of the server's program, looked up on PATH and then in ``folders``.
        folders: patterns of more folders, such as ``/usr/lib/postgresql/*/bin``.
        wheels: patterns of programs in installed wheels, which begin with the name of the package; or the name of a
            program that a wheel puts beside Python's and that needs no other file. They come last.
        accounts: the accounts to run the server as if zCLI runs as root, the preferred account first. ``nobody`` is
            always added. zCLI never starts a server as root.
        stop_signal: the signal on which the server saves its data and ends.
        try_again_on: texts of the log after which a server that ended is started once more.
        unreadable_on: texts of the log which mean that the server cannot read the data folder. The next program is
            tried.
        unix_socket: whether the backend's ``command`` can make the server listen on a Unix socket only.
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

    Attributes:
        message: the cause.
        command: a complete command that the user can run; None if there is no such command.
        log: the last lines that the server logged.
    """

    def __init__(self, message: str, command: str | None = None, log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.command = command
        self.log = tuple(log)


class DataFolder(Protocol):
    """The data folder of a server. It is read as the account that the server runs as.

    So a link or pipe in the folder cannot make a zCLI that runs as root read a file that this account cannot read.
    """

    @property
    def path(self) -> Path:
        """The path of the folder, for command lines. Do not open anything below it."""

    def names(self) -> list[str]:
        """Return the names of its files and folders; an empty list if it does not exist.

        Raises:
            LaunchError: the account may not read the folder.
        """

    def read(self, name: str) -> str | None:
        """Return the text of a file, at most 64 KiB; None unless it is a regular file that the account may read."""


class ServerPaths(Protocol):
    """The program, the folders and the address of a server that zCLI starts, and what may be done there.

    The core makes it and passes it to the methods of a backend.
    """

    @property
    def program(self) -> Path:
        """The executable of the server."""

    @property
    def data(self) -> Path:
        """The path of its data folder, for command lines. Do not open anything below it; use :attr:`files`."""

    @property
    def files(self) -> DataFolder:
        """The content of its data folder, which belongs to the account that the server runs as."""

    @property
    def folder(self) -> Path:
        """The folder of zCLI for this server, for its log and files such as credentials. It belongs to our user."""

    @property
    def host(self) -> str:
        """The loopback address to listen on, or a path of a Unix socket if ``LocalProcess.unix_socket`` is set."""

    @property
    def port(self) -> int:
        """The port to listen on."""

    def run(self, command: Sequence[str], timeout: float | None = None) -> str:
        """Run a command to its end as the account of the server, in its data folder, and return its output.

        Args:
            command: the program and its arguments.
            timeout: seconds; by default the time that is left of the caller's timeout.

        Raises:
            LaunchError: the command cannot be run, failed, or took too long. The error has its last lines.
        """

    def write(self, file: Path, text: str, *, for_server: bool = False) -> None:
        """Write a file in :attr:`folder` that only our user, or with ``for_server`` only the server, may read."""

    def free_pid_file(self, file: Path, program: str) -> None:
        """Replace the process id in a pid file, unless it is the id of a server that uses the file's folder.

        Many servers refuse to start if a process with that id exists. It may be another process that started later, or
        a zombie, which remains in a container without an init process. Only the id is replaced, with one that no
        process can have, because the server itself checks the rest of the file. A file that is not a regular file is
        not changed.

        Args:
            file: the pid file. Its first word is the process id.
            program: the beginning of the name of the server's process.
        """

    def note(self, message: str) -> None:
        """Log a message about something that was done, with the level INFO."""
