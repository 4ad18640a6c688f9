"""Which launcher starts a service, and which launcher runs it now."""

from __future__ import annotations

from typing import Any, NamedTuple

from zcli_core.services.contract import (
    DebianCluster,
    HomebrewFormula,
    LaunchMethod,
    LocalProcess,
    SystemdUnit,
    WindowsService,
)
from zcli_core.services.launchers.context import LaunchContext
from zcli_core.services.launchers.debian import DebianClusters
from zcli_core.services.launchers.homebrew import Homebrew
from zcli_core.services.launchers.launcher import Launcher
from zcli_core.services.launchers.local import Local
from zcli_core.services.launchers.systemd import Systemd
from zcli_core.services.launchers.windows import WindowsServices
from zcli_core.suggestions import suggestion

AUTO = "auto"
#: Where servers of the system have their Unix sockets. PostgreSQL's own default is /tmp.
_USUAL_SOCKETS = ("/run/", "/var/run/")

#: The launcher of each declaration.
_LAUNCHERS: dict[type, type[Launcher]] = {
    SystemdUnit: Systemd,
    DebianCluster: DebianClusters,
    HomebrewFormula: Homebrew,
    WindowsService: WindowsServices,
    LocalProcess: Local,
}


def launcher_for(context: LaunchContext, method: LaunchMethod) -> Launcher:
    """Return the launcher for a declaration of the backend."""
    make: Any = _LAUNCHERS[type(method)]
    launcher: Launcher = make(context, method)
    return launcher


def _name(method: LaunchMethod) -> str:
    return _LAUNCHERS[type(method)].name


def check_name(context: LaunchContext, said_by: str) -> None:
    """Raise ValueError if no launcher of the service has the name in its target. ``said_by`` is where it was set."""
    known = [AUTO, *map(_name, context.backend.launchers)]
    wanted = context.target.launcher
    if wanted not in known:
        raise ValueError(
            f"{said_by}: unknown launcher {wanted!r} of {context.backend.name}{suggestion(wanted, known)}; "
            f"known launchers: {', '.join(known)}"
        )


def choose_launcher(context: LaunchContext) -> Launcher | None:
    """Return the launcher that the target names, else the first that has the service; None if there is no launcher.

    A launcher that cannot set the port is used automatically only if the target is the service's usual port, without a
    data folder. Otherwise it would start a server somewhere else.
    """
    target = context.target
    is_usual_host = not target.is_socket_path or target.host.startswith(_USUAL_SOCKETS) or target.host == "/tmp"  # noqa: S108
    is_usual = target.port == context.backend.default_port and target.data_dir is None and is_usual_host
    for method in context.backend.launchers:
        if target.launcher == _name(method):
            return launcher_for(context, method)
        if target.launcher == AUTO:
            launcher = launcher_for(context, method)
            if (is_usual or launcher.knows_port) and launcher.found():
                return launcher
    return None


class Runners(NamedTuple):
    """Which launchers run a service now.

    Attributes:
        proven: the launcher that is proven to run it; None if there is no proof.
        possible: the launchers that may run it, if none is proven.
    """

    proven: Launcher | None
    possible: list[Launcher]


def is_run_by(context: LaunchContext, uid: int) -> bool:
    """Return whether it is proven that a launcher of the service runs it as the user ``uid``.

    The user may be the account of a server that zCLI started as root, or of a unit of the system.
    """
    return any(launcher_for(context, method).is_run_by(uid) for method in context.backend.launchers)


def find_runners(context: LaunchContext) -> Runners:
    """Find the launcher that runs the service now.

    The local launcher is first: zCLI's own record proves what it runs. For any other launcher, the process must hold
    the service's port. No proof is needed for the launcher that the settings name.
    """
    possible = []
    for method in sorted(context.backend.launchers, key=lambda method: not isinstance(method, LocalProcess)):
        wanted = context.target.launcher
        if not isinstance(method, LocalProcess) and wanted not in (AUTO, _name(method)):
            continue
        launcher = launcher_for(context, method)
        runs = launcher.runs()
        if runs or (runs is None and wanted == launcher.name):
            return Runners(launcher, [])
        if runs is None:
            possible.append(launcher)
    return Runners(None, possible)
