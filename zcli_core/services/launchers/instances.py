"""The records of servers that zCLI started, so that any other process can find and stop them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from zcli_core.services.launchers.commands import is_root
from zcli_core.services.launchers.processes import Process, is_same, look_up
from zcli_core.system.folders import user_data_folder
from zcli_core.system.safe_files import open_private
from zcli_core.system.trusted import UntrustedError, open_trusted, root_and_self

_INSTANCE_FILE = "instance.json"
_WRITTEN_FILE = "written.json"
#: Characters that are read of a record.
_LONGEST = 64 * 1024
_ROOT_FOLDER = "/var/lib/zcli"


class Instance(NamedTuple):
    """A server as zCLI started it. Whether it still runs is decided by its process.

    Attributes:
        process: the process of the server.
        host: the address or Unix socket that it listens on.
        port: its port.
        program: the path of its program.
        author: the user id of the owner of the record; None for a record that was not read from a file.
    """

    process: Process
    host: str
    port: int
    program: str
    author: int | None = None

    @property
    def alive(self) -> bool:
        """Whether this process still runs, and not a later one with the same id.

        The record of root may name a process of any user. The record of another user may name only its own processes.
        """
        now = look_up(self.process.pid)
        return now is not None and now.same_as(self.process) and self.author in (None, 0, now.uid)

    def is_run_by(self, uid: int | None) -> bool:
        """Return whether the process may be the one whose port ``uid`` holds; True if either user is not known."""
        return uid is None or self.process.uid in (None, uid)

    @property
    def is_ours(self) -> bool:
        """Whether our user or root wrote the record. From another user's record, root can only stop the server."""
        return self.author in (None, 0, os.geteuid())


class Written(NamedTuple):
    """The program that last wrote a data folder, and so can read it. The record is kept when the server is stopped.

    Attributes:
        data: the data folder.
        program: the path of the program.
        wheel: the path of the program in an installed wheel, relative to the packages of its environment; None for any
            other program.
        version: the version that the server reported.
    """

    data: Path | None = None
    program: str | None = None
    wheel: str | None = None
    version: str | None = None


def services_folder(setting: Path | None) -> Path | None:
    """Return the folder of all local servers: the setting, else in the user's data folder; None without such a folder.

    For root it is ``/var/lib/zcli``, because the accounts of its servers cannot reach a folder below ``/root``.
    """
    if setting is not None:
        return setting
    base = _ROOT_FOLDER if is_root() else user_data_folder()
    return None if base is None else Path(base, "services")


def instance_folder(base: Path, service: str, data_dir: Path | None) -> Path:
    """Return zCLI's folder for one server: one for each service, and for each data folder that a caller names.

    A data folder has one such folder, also if it is named by a link, a relative path or a second mount.
    """
    own = base / service
    if data_dir is None or is_same(data_dir, own / "data"):
        return own
    from hashlib import sha256

    digest = sha256(os.fsencode(os.path.realpath(data_dir))).hexdigest()
    folder = base / f"{service}-{digest[:12]}"
    if folder.exists():
        return folder
    known = (other.parent for other in base.glob(f"{service}-*/{_WRITTEN_FILE}"))
    return next((other for other in known if is_same(read_written(other).data or folder, data_dir)), folder)


def data_folder(folder: Path, data_dir: Path | None) -> Path:
    """Return the data folder of the server whose own folder is ``folder``: ``data_dir`` if it is set."""
    return folder / "data" if data_dir is None else Path(os.path.abspath(data_dir))


def read(folder: Path) -> Instance | None:
    """Return the server that was last started from a folder; None without a record that can be trusted.

    The record and its folder must belong to our user or root, and no other user may write them. Root also reads the
    record of another user, which may name processes of that user only.
    """
    try:
        text, author = _read_trusted(folder / _INSTANCE_FILE)
        record = json.loads(text)
        process = Process(
            int(record["pid"]),
            str(record["started"]),
            str(record["name"]),
            None if record.get("uid") is None else int(record["uid"]),
            str(record.get("executable", "")),
            str(record.get("folder", "")),
        )
        return Instance(process, str(record["host"]), int(record["port"]), str(record["program"]), author)
    except (OSError, UntrustedError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _read_trusted(file: Path) -> tuple[str, int]:
    """Return the text of a record and the user id of its owner; see :func:`read`."""
    owners = set(root_and_self())
    if is_root():
        owners.add(os.stat(file).st_uid)
    with open(open_trusted(file, owners, regular=True), encoding="utf-8") as stream:
        return stream.read(_LONGEST), os.fstat(stream.fileno()).st_uid


def find_running(base: Path | None, service: str, data_dir: Path | None) -> Instance | None:
    """Return the server that zCLI started for a data folder, if its process is alive."""
    if os.name != "posix" or base is None:
        return None
    found = read(instance_folder(base, service, data_dir))
    return found if found is not None and found.alive else None


def write(folder: Path, instance: Instance) -> None:
    """Write the record of a server."""
    process = instance.process
    record = {
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
    _replace(folder / _INSTANCE_FILE, record)


def forget(folder: Path) -> None:
    """Delete the record of a server that was stopped."""
    (folder / _INSTANCE_FILE).unlink(missing_ok=True)


def read_written(folder: Path) -> Written:
    """Return the program that last wrote the data folder; all attributes are None if that is not known."""
    try:
        record = json.loads(_read_trusted(folder / _WRITTEN_FILE)[0])
        texts = {name: record[name] for name in Written._fields if isinstance(record.get(name), str)}
    except (OSError, UntrustedError, ValueError, AttributeError, RecursionError):
        return Written()
    return Written(**{**texts, "data": Path(texts["data"]) if "data" in texts else None})


def write_written(folder: Path, written: Written) -> None:
    """Write the record of the program that writes the data folder."""
    record = {name: str(value) for name, value in written._asdict().items() if value is not None}
    _replace(folder / _WRITTEN_FILE, record)


def _replace(file: Path, record: Mapping[str, object]) -> None:
    """Replace a file in one step, so that no reader sees a part of it."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    with open(open_private(fresh, os.O_TRUNC), "w", encoding="utf-8") as stream:
        json.dump(record, stream)
    fresh.replace(file)
