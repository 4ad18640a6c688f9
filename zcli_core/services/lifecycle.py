"""Starting, stopping and restarting: what has to be true first, and which launcher does it.

Each function returns whether it changed anything, and raises LaunchError with what was missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from zcli_core.services import owners
from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.base import Job, Launcher
from zcli_core.services.launchers.choice import choose_launcher, find_runner, is_run_by
from zcli_core.services.launchers.identity import holder, is_this_machine
from zcli_core.services.launchers.installing import is_installed, not_installed
from zcli_core.services.launchers.managers import stop_command
from zcli_core.services.launchers.processes import is_frozen
from zcli_core.services.probe_connection import Wire
from zcli_core.services.probing import Finding, ask
from zcli_core.services.status import error_of
from zcli_core.system.users import user_label


def start(job: Job, probe_timeout: float) -> bool:
    """Have the service run and be ready, as a user that may serve us."""
    changed = _start(job, probe_timeout)
    _require_trusted_owner(job)
    return changed


def _require_trusted_owner(job: Job) -> None:
    """Raise LaunchError if the server belongs to a stranger, who receives what is sent to it."""
    target, name = job.target, job.backend.name
    path = job.backend.socket_path(target) if target.is_socket_path else None
    with Wire(target.host, target.port, job.probe_timeout, path) as wire:
        uid = wire.find_owner()
    if not is_strangers(job, uid):
        return
    assert uid is not None
    setting = f"services.{name}.{'host' if target.is_socket_path else 'port'}"
    raise LaunchError(
        f"the server at {target.address} belongs to {user_label(uid)}, who could read what is sent to it; have it "
        f"stopped, or set {setting} to another"
    )


def is_strangers(job: Job, uid: int | None) -> bool:
    """Whether a server of this user belongs to a user who is not trusted: not us, root or an account of the system.

    A server that a launcher proves to run is trusted, whatever its account is. So is one whose user is not known.
    """
    return uid is not None and not owners.is_trusted(uid) and not is_run_by(job, uid)


def _start(job: Job, probe_timeout: float) -> bool:
    finding = ask(job.backend, job.target, probe_timeout, name_strangers=False)
    if finding.state == "silent" and not _is_frozen(job):
        # A published port accepts connections before its server does; another server there would hide it.
        finding = job.wait_while_silent()
    if finding.state == "ready":
        return False
    if finding.answered:
        finding = job.wait_until_ready()
        if finding.state != "ready":
            raise LaunchError(f"it was starting already and is not ready within {job.timeout:g} s: {finding.detail}")
        return False
    _require_this_machine(job, "start")
    if finding.state != "stopped":
        finding = ask(job.backend, job.target, probe_timeout)
        if finding.state == "ready":  # it needs longer than the short probes while it was waited for
            return False
        raise _port_taken(job, finding)
    launcher = choose_launcher(job)
    if launcher is None:
        raise _nothing_to_start(job)
    launcher.start()
    return True


def stop(job: Job, probe_timeout: float) -> bool:
    """Have the service stopped and gone."""
    _require_this_machine(job, "stop")
    runner = _runner(job, probe_timeout)
    if runner is not None:
        runner.stop()
    return runner is not None


def restart(job: Job, probe_timeout: float) -> bool:
    """Stop the service and start it with the same launcher; start one that is not running."""
    _require_this_machine(job, "restart")
    runner = _runner(job, probe_timeout)
    if runner is None:
        return start(job, probe_timeout)
    runner.stop()
    runner.start()
    _require_trusted_owner(job)
    return True


def _is_frozen(job: Job) -> bool:
    """Whether the process that holds the service's port was stopped by a signal: it is not starting."""
    found = holder(job)
    return found is not None and found.pid is not None and is_frozen(found.pid)


def _runner(job: Job, probe_timeout: float) -> Launcher | None:
    """What runs the service; None if it is not running. One that does not answer may be running all the same.

    :raises LaunchError: it runs, and nothing proves that one of the launchers runs it.
    """
    finding = ask(job.backend, job.target, probe_timeout, name_strangers=False)
    runner, possible = find_runner(job)
    if runner is not None or not (finding.answered or (possible and finding.state == "silent")):
        return runner
    raise _not_ours(job, possible)


def _require_this_machine(job: Job, action: str) -> None:
    if not is_this_machine(job):
        raise LaunchError(
            f"services.{job.backend.name}.host is {job.target.host}, which is not this machine; "
            f"zCLI can {action} services on this machine only"
        )


def _port_taken(job: Job, finding: Finding) -> LaunchError:
    message = error_of(job.backend, job.target, finding)
    runner = find_runner(job).proven
    if runner is None or not finding.hangs:
        return LaunchError(message)
    return LaunchError(f"{message}; the launcher {runner.name} runs it, so it hangs", job.cli("restart"))


def _nothing_to_start(job: Job) -> LaunchError:
    backend = job.backend
    if is_installed(backend):
        return LaunchError(f"{backend.title} is installed, but nothing here can start it on port {job.target.port}")
    return not_installed(backend)


def _not_ours(job: Job, possible: Sequence[Launcher]) -> LaunchError:
    found = holder(job)
    message = f"{job.backend.title} runs at {job.target.address}, but nothing that zCLI can control started it"
    if found is None or found.pid is None:
        whom = f" ({found})" if found else ""
        if possible:
            name = possible[0].name
            return LaunchError(
                f"{job.backend.title} runs at {job.target.address}{whom}. The launcher {name} may run it, but this "
                f"user cannot see which process holds the port, so zCLI leaves it alone",
                possible[0].command("stop"),
            )
        return LaunchError(f"{message}{whom}")
    return LaunchError(f"{message} ({found}, user {found.user})", stop_command(found, job.target.port))
