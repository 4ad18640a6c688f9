"""What zCLI remembers of a server that it started, so that any other process can find and stop it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from zcli_core.contracts.service import LaunchError
from zcli_core.folders import user_data_folder
from zcli_core.launchers.processes import Process, look_up

_RECORD = "instance.json"
_LOCK = "lock"
_ROOT_FOLDER = "/var/lib/zcli"


class Instance(NamedTuple):
    """A server as it was started. Whether it still runs is the process's to say, not the record's."""

    process: Process
    host: str
    port: int
    program: str

    @property
    def alive(self) -> bool:
        """Whether that very process still runs; a later one with its number does not count."""
        now = look_up(self.process.pid)
        return now is not None and now.same_as(self.process)


def services_folder(setting: Path | None) -> Path | None:
    """Where local servers live: the setting, else the user's data folder; None if this user has none.

    Root's is ``/var/lib/zcli``: the accounts that its servers run as cannot reach what is below ``/root``.
    """
    if setting is not None:
        return setting
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    base = _ROOT_FOLDER if is_root else user_data_folder()
    return None if base is None else Path(base, "services")


def instance_folder(base: Path, service: str, data_dir: Path | None) -> Path:
    """zCLI's own folder for one server: one for each service, and for each data folder that was named."""
    if data_dir is None:
        return base / service
    from hashlib import sha256

    digest = sha256(os.fsencode(os.path.abspath(data_dir))).hexdigest()
    return base / f"{service}-{digest[:12]}"


def data_folder(folder: Path, data_dir: Path | None) -> Path:
    """The server's data folder: the one that was named, else one in zCLI's own folder for it."""
    return data_dir or folder / "data"


def read(folder: Path) -> Instance | None:
    """The server that was last started from there, if that is known."""
    try:
        held = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        process = Process(int(held["pid"]), str(held["started"]), str(held["name"]))
        return Instance(process, str(held["host"]), int(held["port"]), str(held["program"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def running(base: Path | None, service: str, data_dir: Path | None) -> Instance | None:
    """The server that was started for that data folder, if its process is alive."""
    if os.name != "posix" or base is None:
        return None
    found = read(instance_folder(base, service, data_dir))
    return found if found is not None and found.alive else None


def write(folder: Path, instance: Instance) -> None:
    """Remember a server, all or nothing."""
    held = {
        **instance.process._asdict(),
        "host": instance.host,
        "port": instance.port,
        "program": instance.program,
    }
    fresh = folder / f"{_RECORD}.{os.getpid()}"
    fresh.write_text(json.dumps(held), encoding="utf-8")
    fresh.replace(folder / _RECORD)


def forget(folder: Path) -> None:
    """The server was stopped."""
    (folder / _RECORD).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, remaining: Callable[[], float]) -> Iterator[None]:
    """Be the only process, and the only thread, that starts this server. The lock ends with its holder.

    :raises LaunchError: another one held it for all the time there was.
    """
    import fcntl

    with (folder / _LOCK).open("a") as file:
        pause = 0.01
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if remaining() <= 0:
                    raise LaunchError(f"another process is starting it and did not finish: {folder / _LOCK}") from None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        yield
