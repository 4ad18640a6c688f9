"""A check of ``zcli doctor``: whether the server may open as many connections as its settings allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from zcli_core.websocket.workers.command import worker_count

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from zcli_core.config import Config

#: Open files that a process needs besides its clients: its log, its sockets, the services it uses, connections that are
#: in the handshake.
_OTHERS = 100


def check_limits(config: Config) -> Iterator[tuple[Literal["ok", "warning"], str]]:
    """Compare ``websocket.max_connections`` with the open files that this system allows to a process.

    Raises:
        ConfigError: The number of workers cannot be used.
    """
    count = worker_count(config)
    clients = config.websocket.max_connections
    if count > 1:
        yield (
            "ok",
            (
                f"{count} workers with at most {clients} clients each, {count * clients} together; "
                "websocket.max_connections and websocket.max_connections_per_address count per worker"
            ),
        )
    if resource is None:
        return
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = clients + _OTHERS
    each = "each worker" if count > 1 else "the server"
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        yield "ok", f"{each} may open enough files for its {clients} clients (ulimit -n)"
        return
    possible = most == resource.RLIM_INFINITY or most >= needed
    raising = f"run `ulimit -n {needed}` before it" if possible else f"let root raise the hard limit, which is {most},"
    origin = config.explain("websocket.max_connections").origin
    yield (
        "warning",
        (
            f"{each} may open {allowed} files (ulimit -n), which is not enough for {clients} clients "
            f"(websocket.max_connections, {origin}); {raising} or set LimitNOFILE={needed} in its systemd unit, or set "
            f"websocket.max_connections to at most {max(allowed - _OTHERS, 1)}"
        ),
    )
