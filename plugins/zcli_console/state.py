"""The state of the server of one process, as the console's page reads it."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zcli_core.app import zCLI
    from zcli_core.websocket.connection import ServerConnection

#: Most clients, and most rooms, that are listed.
_LISTED = 100


def state_of(app: zCLI) -> dict[str, Any]:
    """Return what the server counts and, in Development, its clients and rooms by name.

    In other deployments every user of the application may be admitted, so no name of another client is shown.
    """
    server = app.comm.websocket
    metrics = server.metrics()
    state: dict[str, Any] = {
        "time": time.monotonic(),
        "clients": metrics["clients"],
        "rooms": metrics["rooms"],
        "received": metrics["messages_received"],
        "sent": metrics["messages_sent"],
        "handler_errors": metrics["handler_errors"],
        "refused": sum(number for result, number in metrics["connections"].items() if result != "accepted"),
    }
    if app.config.deployment == "Development":
        rooms = sorted(server.rooms.items(), key=lambda room: (-room[1], room[0]))
        state["room_list"] = [{"name": name, "clients": count} for name, count in rooms[:_LISTED]]
        state["client_list"] = [_client(app, client) for client in islice(reversed(server.clients), _LISTED)]
    return state


def _client(app: zCLI, client: ServerConnection) -> dict[str, Any]:
    info = app.comm.websocket.auth.get_client_info(client)
    address = info["address"]
    return {
        "address": f"{address[0]}:{address[1]}" if address else "unix socket",
        "identity": info["identity"],
        "since": info["connected_at"].timestamp(),
        "path": client.path,
        "rooms": [room for room in client.rooms if not room.startswith("@")],
        "latency": client.latency,
    }
