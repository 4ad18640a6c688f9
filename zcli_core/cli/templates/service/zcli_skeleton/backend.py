"""How to tell that Skeleton runs, and how to start it."""

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

_GREETING = b"SKELETON "


class SkeletonBackend(ServiceBackend):
    """Skeleton, told by the answer to ``version``."""

    name = "skeleton"
    title = "Skeleton"
    default_port = DEFAULT_PORT
    settings = Skeleton
    # What may start it, the preferred one first: SystemdUnit(("skeleton",)), HomebrewFormula(("skeleton",)), ...
    launchers = (LocalProcess(programs=("zcli-skeleton-server",)),)
    # What to tell those to install who lack it, by names that exist: Install(apt="skeleton", brew="skeleton").
    install = Install()

    def probe(self, target: Target) -> Probe:
        """Ask for the version: a line goes out, a line comes back."""
        reply = yield Exchange(b"version\n", lines(1))
        if not (reply.startswith(_GREETING) and reply.endswith(b"\n")):
            raise NotThisService(reply)
        version = reply.removeprefix(_GREETING).strip().decode("utf-8", "replace")
        return ProbeResult(version=version, needs_auth=False)

    def connection_info(self, target: Target) -> dict[str, Any]:
        """Add ``url``; ``host`` and ``port`` are there already. Never a password."""
        return {"url": f"skeleton://{target.address}"}

    def command(self, place: ServerPaths) -> Sequence[str]:
        """Run in the foreground and listen at that place only; ``place.data`` is the folder for its data."""
        return [str(place.program), "--host", place.host, "--port", str(place.port)]
