"""Starting, stopping and restarting: what has to be true first, and which launcher does it.

Each function returns whether it changed anything, and raises LaunchError with what was missing.
"""

from __future__ import annotations

from zcli_core.comm.services.asking import Finding, ask
from zcli_core.comm.services.reports import error_of, install_command, install_hint, is_installed
from zcli_core.contracts.service import LaunchError
from zcli_core.launchers.base import Job, Launcher
from zcli_core.launchers.choice import choose_launcher, find_runner


def start(job: Job, probe_timeout: float) -> bool:
    """Have the service run and be ready."""
    finding = ask(job.backend, job.target, probe_timeout)
    if finding.state == "ready":
        return False
    if finding.answered:
        finding = job.wait_until_ready()
        if finding.state != "ready":
            raise LaunchError(f"it was starting already and is not ready within {job.timeout:g} s: {finding.detail}")
        return False
    _require_this_machine(job)
    if finding.state != "stopped":
        raise _port_taken(job, finding)
    launcher = choose_launcher(job)
    if launcher is None:
        raise _nothing_to_start(job)
    launcher.start()
    return True


def stop(job: Job, probe_timeout: float) -> bool:
    """Have the service stopped and gone."""
    runner = _runner(job, probe_timeout)
    if runner is not None:
        runner.stop()
    return runner is not None


def restart(job: Job, probe_timeout: float) -> bool:
    """Stop the service and start it with the same launcher; start one that is not running."""
    runner = _runner(job, probe_timeout)
    if runner is None:
        return start(job, probe_timeout)
    runner.stop()
    runner.start()
    return True


def _runner(job: Job, probe_timeout: float) -> Launcher | None:
    """What runs the service; None if it is not running. One that does not answer may be running all the same."""
    finding = ask(job.backend, job.target, probe_timeout, name_strangers=False)
    runner = find_runner(job)
    if runner is None and finding.answered:
        raise _not_ours(job)
    return runner


def _require_this_machine(job: Job) -> None:
    host, setting = job.target.host, f"services.{job.backend.name}.host"
    if job.target.is_socket_path:
        raise LaunchError(f"{setting} is a Unix socket; zCLI starts servers on a port only")
    from zcli_core.comm.ports import find_free_port

    try:
        find_free_port(host)
    except (ValueError, OSError) as error:
        raise LaunchError(f"{setting} is {host}, which is not this machine; zCLI starts services only here") from error


def _port_taken(job: Job, finding: Finding) -> LaunchError:
    message = error_of(job.backend, job.target, finding)
    runner = find_runner(job)
    if runner is None or not finding.hangs:
        return LaunchError(message)
    return LaunchError(
        f"{message}; the launcher {runner.name} runs it, so it hangs", f"zcli services restart {job.backend.name}"
    )


def _nothing_to_start(job: Job) -> LaunchError:
    backend = job.backend
    if is_installed(backend):
        return LaunchError(f"{backend.title} is installed, but nothing here can start it on port {job.target.port}")
    return LaunchError(f"{backend.title} is not installed: {install_hint(backend)}", install_command(backend))


def _not_ours(job: Job) -> LaunchError:
    from zcli_core.comm.ports import port_holder
    from zcli_core.launchers.commands import as_root, user_name

    message = f"{job.backend.title} runs at {job.target.address}, but nothing that zCLI can control started it"
    holder = None if job.target.is_socket_path else port_holder(job.target.port, job.target.host)
    if holder is None or holder.pid is None:
        return LaunchError(f"{message} ({holder})" if holder else message)
    kill = ("kill", str(holder.pid))
    command = " ".join(kill) if holder.user == user_name() else as_root(*kill)
    return LaunchError(f"{message} ({holder}, user {holder.user})", command)
