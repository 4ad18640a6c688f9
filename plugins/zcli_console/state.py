"""The state of the server of one process, as the console's page reads it."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.facade import WebSocketServer

#: Most clients, and most rooms, that are listed.
_LISTED = 100


def state_of(server: WebSocketServer, *, names: bool) -> dict[str, Any]:
    """Return what the server counts and, with ``names``, its clients and rooms.

    Outside of Development every user of the application may be admitted, so no name of another client is shown.
    """
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
    if names:
        rooms = sorted(server.rooms.items(), key=lambda room: (-room[1], room[0]))
        state["room_list"] = [{"name": name, "clients": count} for name, count in rooms[:_LISTED]]
        state["client_list"] = [_client(server, client) for client in islice(reversed(server.clients), _LISTED)]
    return state


def _client(server: WebSocketServer, client: ServerConnection) -> dict[str, Any]:
    info = server.auth.get_client_info(client)
    address = info["address"]
    return {
        "address": f"{address[0]}:{address[1]}" if address else "unix socket",
        "identity": info["identity"],
        "since": info["connected_at"].timestamp(),
        "path": client.path,
        "rooms": [room for room in client.rooms if not room.startswith("@")],
        "latency": client.latency,
    }
