"""Starting, stopping and restarting a service: what is checked first, and which launcher is used.

Each function returns whether it changed anything, and raises LaunchError with the cause if it fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from zcli_core.services import owners
from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.choice import choose_launcher, find_runners, is_run_by
from zcli_core.services.launchers.context import LaunchContext
from zcli_core.services.launchers.identity import find_holder, is_this_machine
from zcli_core.services.launchers.launcher import Launcher
from zcli_core.services.launchers.managers import stop_command
from zcli_core.services.launchers.processes import is_frozen
from zcli_core.services.launchers.programs import is_installed, not_installed
from zcli_core.services.probe_connection import ProbeConnection
from zcli_core.services.probing import ProbeOutcome, probe_service
from zcli_core.services.status import describe_problem
from zcli_core.system.users import user_label


def start(context: LaunchContext) -> bool:
    """Start the service unless it is ready, and check that a trusted user runs it."""
    changed = _start(context)
    _require_trusted_owner(context)
    return changed


def _require_trusted_owner(context: LaunchContext) -> None:
    """Raise LaunchError if an untrusted user runs the server, because that user receives what is sent to it."""
    target, name = context.target, context.backend.name
    path = context.backend.socket_path(target) if target.is_socket_path else None
    with ProbeConnection(target.host, target.port, context.probe_timeout, path) as connection:
        uid = connection.find_owner()
    if uid is None or is_trusted_owner(context, uid):
        return
    setting = f"services.{name}.{'host' if target.is_socket_path else 'port'}"
    raise LaunchError(
        f"the server at {target.address} belongs to {user_label(uid)}, who could read all data sent to it; "
        f"ask an administrator to stop it, or set {setting} to another value"
    )


def is_trusted_owner(context: LaunchContext, uid: int) -> bool:
    """Return whether the user who runs the service is trusted: the user of this process, root, or a system account.

    If a launcher provably runs the server, the server's account is trusted, too.
    """
    return owners.is_trusted(uid) or is_run_by(context, uid)


def _start(context: LaunchContext) -> bool:
    outcome = _probe(context)
    if outcome.state == "silent" and not _is_frozen(context):
        # A published port of a container accepts connections before its server does. A second server beside it would
        # not be reachable.
        outcome = context.wait_while_silent()
    if outcome.state == "ready":
        return False
    if outcome.is_running:
        outcome = context.wait_until_ready()
        if outcome.state != "ready":
            raise LaunchError(
                f"the service was already starting and was not ready within {context.timeout:g} s: {outcome.detail}"
            )
        return False
    _require_this_machine(context, "start")
    if outcome.state != "stopped":
        outcome = _probe(context, name_holder=True)
        if outcome.state == "ready":  # it needs longer than the short probes of wait_while_silent()
            return False
        raise _port_taken(context, outcome)
    launcher = choose_launcher(context)
    if launcher is None:
        raise _nothing_to_start(context)
    launcher.start()
    return True


def stop(context: LaunchContext) -> bool:
    """Stop the service and wait until it has ended."""
    _require_this_machine(context, "stop")
    runner = _find_runner(context)
    if runner is not None:
        runner.stop()
    return runner is not None


def restart(context: LaunchContext) -> bool:
    """Stop the service and start it with the same launcher. A service that is not running is started."""
    _require_this_machine(context, "restart")
    runner = _find_runner(context)
    if runner is None:
        return start(context)
    runner.stop()
    runner.start()
    _require_trusted_owner(context)
    return True


def _probe(context: LaunchContext, *, name_holder: bool = False) -> ProbeOutcome:
    """Probe the service. The probe may take ``probe_timeout``, even if the deadline of the call is earlier."""
    return probe_service(context.backend, context.target, context.probe_timeout, name_holder=name_holder)


def _is_frozen(context: LaunchContext) -> bool:
    """Return whether the process that holds the service's port is suspended by a signal, and so cannot be starting."""
    holder = find_holder(context)
    return holder is not None and holder.pid is not None and is_frozen(holder.pid)


def _find_runner(context: LaunchContext) -> Launcher | None:
    """Return the launcher that runs the service; None if it is not running. A server that hangs counts as running.

    Raises:
        LaunchError: The service runs, but no launcher provably runs it.
    """
    outcome = _probe(context)
    runner, possible = find_runners(context)
    if runner is not None or not (outcome.is_running or (possible and outcome.state == "silent")):
        return runner
    raise _no_proof(context, possible)


def _require_this_machine(context: LaunchContext, action: str) -> None:
    if not is_this_machine(context):
        raise LaunchError(
            f"services.{context.backend.name}.host is {context.target.host}, which is not this machine; "
            f"zCLI can {action} services on this machine only"
        )


def _port_taken(context: LaunchContext, outcome: ProbeOutcome) -> LaunchError:
    message = describe_problem(context.backend, context.target, outcome)
    runner = find_runners(context).proven
    if runner is None or not outcome.hangs:
        return LaunchError(message)
    return LaunchError(
        f"{message}; the launcher {runner.name} runs this server, so the server hangs", context.cli("restart")
    )


def _nothing_to_start(context: LaunchContext) -> LaunchError:
    backend = context.backend
    if is_installed(backend):
        return LaunchError(f"{backend.title} is installed, but no launcher can start it on port {context.target.port}")
    return not_installed(backend)


def _no_proof(context: LaunchContext, possible: Sequence[Launcher]) -> LaunchError:
    holder = find_holder(context)
    where = f"{context.backend.title} runs at {context.target.address}"
    if holder is not None and holder.pid is not None:
        return LaunchError(
            f"{where}, but no launcher of zCLI started it ({holder}, user {holder.user})",
            stop_command(holder, context.target.port),
        )
    held_by = f" ({holder})" if holder else ""
    if not possible:
        return LaunchError(f"{where}, but no launcher of zCLI started it{held_by}")
    return LaunchError(
        f"{where}{held_by}. The launcher {possible[0].name} may run it, but this user cannot see which process holds "
        "the port, so zCLI does not stop it",
        possible[0].command("stop"),
    )
