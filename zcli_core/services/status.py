"""What people and programs are told of a service: its status, and what to install."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zcli_core.printable import printable
from zcli_core.services.contract import ServiceBackend, Target
from zcli_core.services.probing import Finding
from zcli_core.system.users import user_name

if TYPE_CHECKING:
    from zcli_core.types import ConnectionInfo, ServiceStatus

_SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}


def system_name() -> str:
    """This system as ``platform.system()`` names it."""
    if sys.platform in _SYSTEMS:
        return _SYSTEMS[sys.platform]
    import platform

    return platform.system()


def status_of(
    backend: ServiceBackend,
    target: Target,
    finding: Finding,
    connection_info: ConnectionInfo | None,
    owner_trusted: bool = True,
) -> ServiceStatus:
    """The status as the facade gives it."""
    answer = finding.answer
    status: ServiceStatus = {
        "service": backend.name,
        "running": answer is not None,
        "ready": finding.state == "ready",
        "state": finding.state,
        "port": target.port,
        "os": system_name(),
        "version": printable(answer.version) if answer and answer.version else None,
        "needs_auth": answer.needs_auth if answer else None,
        "owner": None if finding.owner is None else user_name(finding.owner),
        "owner_trusted": owner_trusted,
    }
    if connection_info is not None:
        status["connection_info"] = connection_info
    if finding.state != "ready":
        status["error"] = printable(error_of(backend, target, finding))
    return status


def unusable_status(name: str, cause: str) -> ServiceStatus:
    """The status of a service that cannot even be asked: its plugin fails, or two plugins provide it."""
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


def error_of(backend: ServiceBackend, target: Target, finding: Finding) -> str:
    """Why the service is not ready, in one sentence."""
    if finding.answered:
        return f"{backend.title} at {target.address} is not ready: {finding.detail or 'it gives no reason'}"
    message = f"{backend.title} is not running at {target.address}: {finding.detail}"
    if finding.state == "stopped":
        from zcli_core.services.launchers.installing import install_hint, is_installed

        if is_installed(backend):
            return message
        message += f"; it is not installed here: {install_hint(backend)}"
    return message
