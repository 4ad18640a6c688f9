"""What zCLI remembers of a server that it started, so that any other process can find and stop it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.commands import is_root
from zcli_core.services.launchers.processes import Process, is_same, look_up
from zcli_core.system.folders import user_data_folder
from zcli_core.system.safe_files import open_private
from zcli_core.system.trusted import UntrustedError, open_trusted, root_and_self

_RECORD = "instance.json"
_WRITTEN = "written.json"
_LOCK = "lock"
#: Characters of a record.
_LONGEST = 64 * 1024
_ROOT_FOLDER = "/var/lib/zcli"


class Instance(NamedTuple):
    """A server as it was started. Whether it still runs is the process's to say, not the record's.

    ``author`` is the user that wrote the record, None before it is read.
    """

    process: Process
    host: str
    port: int
    program: str
    author: int | None = None

    @property
    def alive(self) -> bool:
        """Whether that very process still runs; a later one with its number does not count.

        Root's record may name a process of any user. Any other user's record names processes of that user only.
        """
        now = look_up(self.process.pid)
        return now is not None and now.same_as(self.process) and self.author in (None, 0, now.uid)

    def is_run_by(self, uid: int | None) -> bool:
        """Whether its process may be the one whose port that user holds; True where either is not known."""
        return uid is None or self.process.uid in (None, uid)

    @property
    def is_ours(self) -> bool:
        """Whether we or root wrote the record. With another user's, root can only stop that user's server."""
        return self.author in (None, 0, os.geteuid())


class Written(NamedTuple):
    """What last served a data folder: it can read what is in there. Kept when the server is stopped.

    ``wheel`` is the program's path in an installed wheel, whatever environment that is in; None for any other program.
    """

    data: Path | None = None
    program: str | None = None
    wheel: str | None = None
    version: str | None = None


def services_folder(setting: Path | None) -> Path | None:
    """Where local servers live: the setting, else the user's data folder; None if this user has none.

    Root's is ``/var/lib/zcli``: the accounts that its servers run as cannot reach what is below ``/root``.
    """
    if setting is not None:
        return setting
    base = _ROOT_FOLDER if is_root() else user_data_folder()
    return None if base is None else Path(base, "services")


def instance_folder(base: Path, service: str, data_dir: Path | None) -> Path:
    """zCLI's own folder for one server: one for each service, and for each data folder that was named.

    A data folder has one of these, whichever of its names is used: a link, a relative path or a second mount.
    """
    own = base / service
    if data_dir is None or is_same(data_dir, own / "data"):
        return own
    from hashlib import sha256

    digest = sha256(os.fsencode(os.path.realpath(data_dir))).hexdigest()
    folder = base / f"{service}-{digest[:12]}"
    if folder.exists():
        return folder
    known = (other.parent for other in base.glob(f"{service}-*/{_WRITTEN}"))
    return next((other for other in known if is_same(written(other).data or folder, data_dir)), folder)


def data_folder(folder: Path, data_dir: Path | None) -> Path:
    """The server's data folder: the one that was named, else one in zCLI's own folder for it."""
    return folder / "data" if data_dir is None else Path(os.path.abspath(data_dir))


def read(folder: Path) -> Instance | None:
    """The server that was last started from there, if that is known from a record that no other user can have written.

    The record has to belong to us or to root, in a folder that only they may write. Root also reads another user's
    record, which then names processes of that user only.
    """
    try:
        text, author = _read_trusted(folder / _RECORD)
        held = json.loads(text)
        process = Process(
            int(held["pid"]),
            str(held["started"]),
            str(held["name"]),
            None if held.get("uid") is None else int(held["uid"]),
            str(held.get("executable", "")),
            str(held.get("folder", "")),
        )
        return Instance(process, str(held["host"]), int(held["port"]), str(held["program"]), author)
    except (OSError, UntrustedError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _read_trusted(file: Path) -> tuple[str, int]:
    """The text of a record and the user that owns it; see :func:`read`."""
    owners = set(root_and_self())
    if is_root():
        owners.add(os.stat(file).st_uid)
    with open(open_trusted(file, owners, regular=True), encoding="utf-8") as stream:
        return stream.read(_LONGEST), os.fstat(stream.fileno()).st_uid


def running(base: Path | None, service: str, data_dir: Path | None) -> Instance | None:
    """The server that was started for that data folder, if its process is alive."""
    if os.name != "posix" or base is None:
        return None
    found = read(instance_folder(base, service, data_dir))
    return found if found is not None and found.alive else None


def write(folder: Path, instance: Instance) -> None:
    """Remember a server, all or nothing."""
    process = instance.process
    held = {
        "pid": process.pid,
        "started": process.started,
        "name": process.name,
        "uid": process.uid,
        "executable": process.program,
        "folder": process.folder,
        "host": instance.host,
        "port": instance.port,
        "program": instance.program,
    }
    _replace(folder / _RECORD, held)


def written(folder: Path) -> Written:
    """What last served the data folder; all None if that is not known."""
    try:
        held = json.loads(_read_trusted(folder / _WRITTEN)[0])
        texts = {name: held[name] for name in Written._fields if isinstance(held.get(name), str)}
    except (OSError, UntrustedError, ValueError, AttributeError, RecursionError):
        return Written()
    return Written(**{**texts, "data": Path(texts["data"]) if "data" in texts else None})


def write_written(folder: Path, what: Written) -> None:
    """Remember what serves the data folder."""
    _replace(folder / _WRITTEN, {name: str(value) for name, value in what._asdict().items() if value is not None})


def _replace(file: Path, held: dict[str, object]) -> None:
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    with open(open_private(fresh, os.O_TRUNC), "w", encoding="utf-8") as stream:
        json.dump(held, stream)
    fresh.replace(file)


def forget(folder: Path) -> None:
    """The server was stopped."""
    (folder / _RECORD).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, remaining: Callable[[], float]) -> Iterator[None]:
    """Be the only process, and the only thread, that starts this server. The lock ends with its holder.

    :raises LaunchError: another one held it for all the time there was.
    """
    with open(open_private(folder / _LOCK), "rb") as file:  # others could hold it if they could open it
        pause = 0.01
        try:
            while not _lock(file.fileno()):
                if remaining() <= 0:
                    raise LaunchError(f"another process is starting it and did not finish: {folder / _LOCK}")
                time.sleep(pause)
                pause = min(pause * 1.5, 0.2)
        except OSError as error:  # a network file system without locks
            raise LaunchError(f"{folder / _LOCK} cannot be locked: {error.strerror}; set services.folder") from error
        yield


def lock_data(descriptor: int) -> int | None:
    """Lock a data folder that is open, so that its name does not matter; the descriptor, which holds the lock.

    A server that inherits the descriptor holds the lock for as long as it runs. None if a process has the folder; the
    descriptor is closed then. It holds no lock where the file system has none, as on some network file systems.
    """
    try:
        if _lock(descriptor):
            return descriptor
    except OSError:
        return descriptor
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
