"""``z.comm.websocket.auth``: what the gate found out about a client."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from zcli_core.comm.websocket.blocking import unwrapped
from zcli_core.comm.websocket.connection import ServerConnection

if TYPE_CHECKING:
    from zcli_core.comm.websocket.blocking import BlockingConnection


class ClientAuth:
    """Tells as whom a client was let in."""

    def get_client_info(self, websocket: ServerConnection | BlockingConnection) -> dict[str, Any]:
        """What is known of a client, connected or not any more; never the credential that it showed.

        ``identity`` (the name of the token's holder, say) and ``strategy`` are None where nobody had to say who it
        is; ``claims`` is a mapping of whatever else the strategy knows; ``origin`` is the origin of its page, None
        for a program; ``address`` is ``(host, port)``, None on a Unix socket; ``connected_at`` is a datetime in UTC.

        Raises TypeError for anything that is no client's connection.
        """
        connection = unwrapped(websocket)
        if not isinstance(connection, ServerConnection):
            raise TypeError(f"expected a client's connection, not {type(websocket).__name__}")
        identity, strategy, claims, origin = connection._admission
        address = connection.remote_address
        return {
            "identity": identity,
            "strategy": strategy,
            "claims": dict(claims or {}),
            "origin": origin,
            "address": address[:2] if address else None,
            "connected_at": datetime.datetime.fromtimestamp(connection._connected_at, datetime.timezone.utc),
        }
