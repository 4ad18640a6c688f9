"""How to detect that Skeleton runs, and how to start it."""

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
    """Skeleton, detected by its reply to ``version``."""

    name = "skeleton"
    title = "Skeleton"
    default_port = DEFAULT_PORT
    settings = Skeleton
    # What may start it, the preferred launcher first: SystemdUnit(("skeleton",)), HomebrewFormula(("skeleton",)), ...
    launchers = (LocalProcess(programs=("zcli-skeleton-server",)),)
    # The packages to suggest if it is not installed: Install(apt="skeleton", brew="skeleton").
    install = Install()

    def probe(self, target: Target) -> Probe:
        """Ask for the version: send one line, receive one line."""
        reply = yield Exchange(b"version\n", lines(1))
        if not (reply.startswith(_PREFIX) and reply.endswith(b"\n")):
            raise NotThisService(reply)
        version = reply.removeprefix(_PREFIX).strip().decode("utf-8", "replace")
        return ProbeResult(version=version, needs_auth=False)

    def connection_info(self, target: Target) -> dict[str, Any]:
        """Add ``url``; the core adds ``host`` and ``port``. Never add a password."""
        return {"url": f"skeleton://{target.address}"}

    def command(self, paths: ServerPaths) -> Sequence[str]:
        """Run in the foreground and listen on this address only. ``paths.data`` is the folder for its data."""
        return [str(paths.program), "--host", paths.host, "--port", str(paths.port)]
