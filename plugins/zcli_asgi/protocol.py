"""uvicorn's WebSocket protocol, with the limits of zCLI and the client's certificate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from zcli_core.websocket.contract import Cause
from zcli_core.websocket.parts.asgi_connection import CAUSE
from zcli_core.websocket.parts.asgi_request import CLIENT_CERTIFICATE

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Limits


def protocol_class(limits: Limits) -> type[asyncio.Protocol]:
    """Return the class of a listener's connections."""

    class LimitedProtocol(WebSocketsSansIOProtocol):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.close_timeout = limits.close_timeout
            self._abort: asyncio.TimerHandle | None = None

        async def run_asgi(self) -> None:
            certificate = self.transport.get_extra_info("peercert")
            if certificate:
                extensions: Any = self.scope["extensions"]
                extensions[CLIENT_CERTIFICATE] = certificate
            await super().run_asgi()

        def handle_parser_exception(self) -> None:
            self._close_because(Cause.VIOLATION)

        def keepalive_timeout(self) -> None:
            self.pong_timer = None
            if not self.close_sent and not self.transport.is_closing():
                self.conn.fail(1011, f"keepalive: no pong for {limits.ping_timeout:g} s")
                self._close_because(Cause.SILENT)

        def _close_because(self, cause: Cause) -> None:
            """Close, and tell the core why: ASGI has no field for that."""
            close = self.conn.close_sent
            assert close is not None
            event: Any = {
                "type": "websocket.disconnect", "code": close.code, "reason": close.reason, CAUSE: cause,
            }  # fmt: skip
            self.queue.put_nowait(event)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()

        def on_task_complete(self, task: asyncio.Task[None]) -> None:
            super().on_task_complete(task)
            if not self.disconnected:
                # A client that reads nothing would keep the closed connection open.
                self._abort = self.loop.call_later(limits.close_timeout, self.transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._abort is not None:
                self._abort.cancel()

    return LimitedProtocol
