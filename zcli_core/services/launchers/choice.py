"""Which launcher starts a service, and which one runs it."""

from __future__ import annotations

from typing import NamedTuple

from zcli_core.services.contract import (
    DebianCluster,
    HomebrewFormula,
    LaunchMethod,
    LocalProcess,
    SystemdUnit,
    WindowsService,
)
from zcli_core.services.launchers.base import Job, Launcher
from zcli_core.services.launchers.debian import DebianClusters
from zcli_core.services.launchers.homebrew import Homebrew
from zcli_core.services.launchers.local import Local
from zcli_core.services.launchers.systemd import Systemd
from zcli_core.services.launchers.windows import WindowsServices
from zcli_core.suggestions import suggestion

AUTO = "auto"
#: Where servers of the system have their Unix sockets, beside PostgreSQL's own default, which is /tmp.
_USUAL_SOCKETS = ("/run/", "/var/run/")

_NAMES: dict[type, str] = {
    SystemdUnit: Systemd.name,
    DebianCluster: DebianClusters.name,
    HomebrewFormula: Homebrew.name,
    WindowsService: WindowsServices.name,
    LocalProcess: Local.name,
}


def launcher_for(job: Job, method: LaunchMethod) -> Launcher:
    """The launcher that a backend's declaration stands for."""
    if isinstance(method, SystemdUnit):
        return Systemd(job, method)
    if isinstance(method, DebianCluster):
        return DebianClusters(job, method)
    if isinstance(method, HomebrewFormula):
        return Homebrew(job, method)
    if isinstance(method, WindowsService):
        return WindowsServices(job, method)
    return Local(job, method)


def check_name(job: Job, said_by: str) -> None:
    """Raise ValueError if no launcher of the service has the name that its target asks for."""
    known = [AUTO, *(_NAMES[type(method)] for method in job.backend.launchers)]
    wanted = job.target.launcher
    if wanted not in known:
        raise ValueError(
            f"{said_by}: {job.backend.name} has no launcher {wanted!r}{suggestion(wanted, known)}; "
            f"it has {', '.join(known)}"
        )


def choose_launcher(job: Job) -> Launcher | None:
    """The launcher that its target names, or the first one that has the service; None if none has.

    Of itself, a launcher that cannot be told a port is used for the service's usual port only, and only where no data
    folder is asked for: it would start a server that is somewhere else.
    """
    wanted = job.target.launcher
    target = job.target
    is_usual_host = not target.is_socket_path or target.host.startswith(_USUAL_SOCKETS) or target.host == "/tmp"  # noqa: S108
    usual = target.port == job.backend.default_port and target.data_dir is None and is_usual_host
    for method in job.backend.launchers:
        if wanted not in (AUTO, _NAMES[type(method)]):
            continue
        launcher = launcher_for(job, method)
        if wanted != AUTO:
            return launcher
        if (usual or launcher.knows_port) and launcher.found():
            return launcher
    return None


class Runners(NamedTuple):
    """What runs a service now: the launcher, if that is proven; the others that may run it."""

    proven: Launcher | None
    possible: list[Launcher]


def is_run_by(job: Job, uid: int) -> bool:
    """Whether the service runs as that user because one of the launchers started it as that user.

    It is so for a server of our own that runs as an account such as nobody, and for a manager's with an account of its
    own.
    """
    return any(launcher_for(job, method).is_run_by(uid) for method in job.backend.launchers)


def find_runner(job: Job) -> Runners:
    """Find the launcher that runs the service now.

    What zCLI started itself is known from its record, so it comes first. The system's managers have to prove that
    their process holds the service's port; only one that the settings name is taken without a proof.
    """
    possible = []
    for method in sorted(job.backend.launchers, key=lambda method: not isinstance(method, LocalProcess)):
        name = _NAMES[type(method)]
        if not isinstance(method, LocalProcess) and job.target.launcher not in (AUTO, name):
            continue
        launcher = launcher_for(job, method)
        runs = launcher.runs()
        if runs or (runs is None and job.target.launcher == name):
            return Runners(launcher, [])
        if runs is None:
            possible.append(launcher)
    return Runners(None, possible)
