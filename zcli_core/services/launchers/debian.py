"""PostgreSQL clusters of Debian's and Ubuntu's postgresql-common, identified by their port."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from zcli_core.services.contract import DebianCluster, LaunchError
from zcli_core.services.launchers import systemd
from zcli_core.services.launchers.commands import Account, as_root, is_root, last_lines, run, which
from zcli_core.services.launchers.context import LaunchContext
from zcli_core.services.launchers.identity import find_holder, serves
from zcli_core.services.launchers.launcher import ManagerLauncher
from zcli_core.services.launchers.processes import look_up
from zcli_core.system.users import own_name, user_name

_CONFIGURATIONS = Path("/etc/postgresql")
#: Bytes that are read from the end of a file.
_LONGEST = 64 * 1024
#: Seconds for reading a file as its account, which can make the command wait.
_READING = 5.0
_TAIL = f'test -f "$1" && test ! -h "$1" && tail -c {_LONGEST} -- "$1"'
_ALREADY = 2  # pg_ctlcluster(1): the cluster is already in the requested state


class _Cluster(NamedTuple):
    version: str
    name: str
    port: int
    owner: int
    data: Path
    sockets: str
    log_file: str
    running: bool

    @property
    def unit(self) -> str:
        # Not postgresql.service, which is "active" also if all clusters are stopped.
        return f"postgresql@{self.version}-{self.name}"

    @property
    def pid(self) -> int:
        """The process id of the postmaster; 0 if it cannot be read."""
        for file in (Path(f"/run/postgresql/{self.version}-{self.name}.pid"), self.data / "postmaster.pid"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                return int(self.read(file).split(maxsplit=1)[0])
        return 0

    def read(self, file: Path) -> str:
        """Return the end of a file that the cluster's configuration names; see :func:`_read`.

        Raises:
            OSError: the file cannot be read, or the configuration and the data belong to different users. The owner of
                the configuration could otherwise make root read files of the owner of the data.
        """
        if os.stat(_CONFIGURATIONS / self.version / self.name).st_uid not in (0, self.owner):
            raise OSError(errno.EPERM, "the cluster's data and configuration have different owners", str(file))
        return _read(file, self.owner)


class DebianClusters(ManagerLauncher[_Cluster]):
    """Starts the cluster that has the port. On a machine with systemd it starts the cluster's unit."""

    name = "debian-cluster"
    knows_port = True

    def __init__(self, context: LaunchContext, method: DebianCluster) -> None:
        super().__init__(context)

    @cached_property
    def unit(self) -> _Cluster | None:
        """The cluster with the target's port, data folder and socket folder."""
        return next((each for each in self._clusters() if self._fits(each)), None)

    def _fits(self, cluster: _Cluster) -> bool:
        target = self.context.target
        if target.data_dir is not None and os.path.realpath(target.data_dir) != os.path.realpath(cluster.data):
            return False
        if target.is_socket_path and os.path.realpath(target.host) != os.path.realpath(cluster.sockets):
            return False
        return cluster.port == target.port

    def _clusters(self) -> list[_Cluster]:
        if which("pg_lsclusters") is None or which("pg_ctlcluster") is None:
            return []
        listed = run(["pg_lsclusters", "-j"], self.context.remaining)
        if listed.code:
            return []
        try:
            return [
                _Cluster(
                    str(each["version"]),
                    str(each["cluster"]),
                    int(each["port"]),
                    int(each["owneruid"]),
                    Path(each["pgdata"]),
                    str(each.get("socketdir") or ""),
                    str(each.get("logfile") or ""),
                    bool(int(each["running"])),
                )
                for each in json.loads(listed.output)
            ]
        except (ValueError, KeyError, TypeError):
            self.context.log.warning("cannot read the output of pg_lsclusters -j: it must be a JSON list of clusters")
            return []

    def runs(self) -> bool | None:
        """Return whether the cluster runs and its process holds the port."""
        if self.unit is None or not self.unit.running:
            return False
        proven = serves(self.context, self.unit.pid)
        return self._pid_file_proves_it() if proven is None else proven

    def _pid_file_proves_it(self) -> bool | None:
        """Return whether the cluster's pid file names the port, and the cluster's user holds it; None if unreadable.

        In most containers root cannot see which process of another account holds a port, but can read this file.
        """
        cluster = self.required_unit()
        try:
            lines = cluster.read(cluster.data / "postmaster.pid").splitlines()
            pid, port = int(lines[0]), int(lines[3])
        except (OSError, ValueError, IndexError):
            return None
        process, holder = look_up(pid), find_holder(self.context)
        is_alive = process is not None and process.name.startswith("postgres")
        is_held = holder is not None and holder.user == user_name(cluster.owner)
        return (is_alive and port == cluster.port and is_held) or None

    def is_run_by(self, uid: int) -> bool:
        """Return whether the cluster runs and belongs to the user ``uid``."""
        return self.unit is not None and self.unit.owner == uid and bool(self.runs())

    def command(self, action: str) -> str:
        """Return the command as root: ``systemctl`` on a machine with systemd, else ``pg_ctlcluster``."""
        cluster = self.required_unit()
        if systemd.is_available():
            return as_root("systemctl", action, cluster.unit)
        return as_root("pg_ctlcluster", cluster.version, cluster.name, action)

    def not_found(self) -> LaunchError:
        """Return the error for a system without such a cluster."""
        others = ", ".join(f"{each.version} {each.name} on {each.port}" for each in self._clusters())
        return LaunchError(
            f"no PostgreSQL cluster has the port {self.context.target.port}"
            + (f"; there is {others}; set services.postgresql.port to its port" if others else "")
        )

    def control(self, action: str) -> str:
        """Start or stop the cluster."""
        cluster = self.required_unit()
        if systemd.is_available():
            done = systemd.systemctl(action, cluster.unit, self.context.remaining)
        else:
            if not is_root() and os.geteuid() != cluster.owner:
                raise LaunchError(
                    f"the cluster {cluster.version} {cluster.name} belongs to {user_name(cluster.owner)}; "
                    f"the user {own_name()} may not {action} it",
                    self.command(action),
                )
            command = [
                "pg_ctlcluster",
                cluster.version,
                cluster.name,
                action,
                *(["--mode=fast"] if action == "stop" else []),
            ]
            done = run(command, self.context.remaining, folder=Path("/"))
        if done.code not in (0, _ALREADY):
            raise LaunchError(
                f"the cluster {cluster.version} {cluster.name} did not {action}", log=(*done.last_lines, *self.log())
            )
        return f"{action} of the cluster {cluster.version} {cluster.name}"

    def log(self) -> tuple[str, ...]:
        """Return the last lines of the cluster's log."""
        try:
            cluster = self.required_unit()
            return last_lines(cluster.read(Path(cluster.log_file)))
        except OSError:
            return ()


def _read(file: Path, owner: int) -> str:
    """Return the end of a file that the cluster's account owns. The path may be a link or a pipe.

    Root reads it with the rights of that account, which could otherwise make root show the lines of any file.

    Raises:
        OSError: it cannot be read, or is not a regular file of the account.
    """
    if is_root() and owner:
        try:
            done = run(["/bin/sh", "-c", _TAIL, "sh", str(file)], _READING, Account.of(owner), Path("/"))
        except (KeyError, LaunchError) as error:
            raise OSError(errno.EACCES, "the cluster's account cannot read it", str(file)) from error
        if done.code:
            raise OSError(errno.EACCES, "the cluster's account cannot read it", str(file))
        return done.output
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != owner:
            raise OSError(errno.EINVAL, "not a regular file of the cluster's account with one name", str(file))
        os.lseek(descriptor, max(0, found.st_size - _LONGEST), os.SEEK_SET)
        return os.read(descriptor, _LONGEST).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
