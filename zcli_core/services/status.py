"""The status and the connection info of a service, as scripts get them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from zcli_core.printable import printable
from zcli_core.services.contract import ServiceBackend, Target
from zcli_core.services.probing import ProbeOutcome
from zcli_core.system.users import user_name

if TYPE_CHECKING:
    from zcli_core.services.contract import ServerPaths
    from zcli_core.types import ConnectionInfo, ServiceStatus


def system_name() -> str:
    """Return the name of this system as ``platform.system()`` does. Importing ``platform`` takes longer."""
    return os.uname().sysname if hasattr(os, "uname") else "Windows"


def make_status(
    backend: ServiceBackend,
    target: Target,
    outcome: ProbeOutcome,
    connection_info: ConnectionInfo | None = None,
    owner_trusted: bool = True,
) -> ServiceStatus:
    """Build the status of a service from the outcome of its probe."""
    result = outcome.result
    status: ServiceStatus = {
        "service": backend.name,
        "running": outcome.is_running,
        "ready": outcome.state == "ready",
        "state": outcome.state,
        "port": target.port,
        "os": system_name(),
        "version": printable(result.version) if result and result.version else None,
        "needs_auth": result.needs_auth if result else None,
        "owner": None if outcome.owner is None else user_name(outcome.owner),
        "owner_trusted": owner_trusted,
    }
    if connection_info is not None:
        status["connection_info"] = connection_info
    if outcome.state != "ready":
        status["error"] = printable(describe_problem(backend, target, outcome))
    return status


def unusable_status(name: str, cause: str) -> ServiceStatus:
    """Build the status of a service that cannot be probed, because its plugin or its settings cannot be used."""
    return {
        "service": name,
        "running": False,
        "ready": False,
        "state": "unusable",
        "port": None,
        "os": system_name(),
        "version": None,
        "needs_auth": None,
        "owner": None,
        "owner_trusted": True,
        "error": printable(cause),
    }


def describe_problem(backend: ServiceBackend, target: Target, outcome: ProbeOutcome) -> str:
    """Return why the service is not ready, in one sentence."""
    if outcome.is_running:
        return f"{backend.title} at {target.address} is not ready: {outcome.detail or 'it gives no reason'}"
    message = f"{backend.title} is not running at {target.address}: {outcome.detail}"
    if outcome.state == "stopped":
        from zcli_core.services.launchers.programs import install_hint, is_installed

        if not is_installed(backend):
            message += f"; it is not installed here: {install_hint(backend)}"
    return message


def make_connection_info(backend: ServiceBackend, target: Target, paths: ServerPaths | None) -> ConnectionInfo:
    """Build the connection info of a running service. ``paths`` are those of a server that zCLI started."""
    info: dict[str, Any] = {"host": target.host, "port": target.port, "user": target.user, "tls": target.tls}
    for name in ("ca_file", "client_cert", "client_key"):
        file = getattr(target.settings, name, None)
        if file is not None:
            info[name] = str(file)
    info |= backend.connection_info(target)
    if paths is not None:
        info |= backend.local_connection_info(paths, target)
    return cast("ConnectionInfo", info)  # the backend adds the other keys
