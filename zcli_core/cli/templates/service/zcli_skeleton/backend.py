"""The service backend: how to probe Skeleton and how to start it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zcli_core.services.contract import (
    Exchange,
    Install,
    LocalProcess,
    NotThisService,
    Probe,
    ProbeResult,
    ServerPaths,
    ServiceBackend,
    Target,
    lines,
)

from zcli_skeleton.settings import DEFAULT_PORT, Skeleton

_PREFIX = b"SKELETON "


class SkeletonBackend(ServiceBackend):
    """Recognizes Skeleton by its reply to ``version``."""

    name = "skeleton"
    title = "Skeleton"
    default_port = DEFAULT_PORT
    settings = Skeleton
    # What may start the server, in order of preference: SystemdUnit(("skeleton",)), HomebrewFormula(("skeleton",)), ...
    launchers = (LocalProcess(programs=("zcli-skeleton-server",)),)
    # The packages that install the server, such as Install(apt="skeleton", brew="skeleton").
    install = Install()

    def probe(self, target: Target) -> Probe:
        """Send ``version`` and read a line."""
        reply = yield Exchange(b"version\n", lines(1))
        if not (reply.startswith(_PREFIX) and reply.endswith(b"\n")):
            raise NotThisService(reply)
        version = reply.removeprefix(_PREFIX).strip().decode("utf-8", "replace")
        return ProbeResult(version=version, needs_auth=False)

    def connection_info(self, target: Target) -> dict[str, Any]:
        """Return ``url``; zCLI adds ``host`` and ``port``. It must not contain a password."""
        return {"url": f"skeleton://{target.address}"}

    def command(self, paths: ServerPaths) -> Sequence[str]:
        """Return the command that runs the server in the foreground, on this address only."""
        return [str(paths.program), "--host", paths.host, "--port", str(paths.port)]
