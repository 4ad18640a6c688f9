"""uvicorn's WebSocket protocol, with the limits of zCLI and the client's certificate."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from zcli_core.websocket.contract import Cause
from zcli_core.websocket.parts.asgi_connection import CAUSE
from zcli_core.websocket.parts.asgi_request import CLIENT_CERTIFICATE

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Limits


#: uvicorn logs the URL of each upgrade, which may have a token, and a warning for each invalid request.
QUIET = logging.getLogger("uvicorn.error.zcli")
QUIET.setLevel(logging.ERROR)


class QuietHttpProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which logs errors only."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = QUIET


def protocol_class(limits: Limits) -> type[asyncio.Protocol]:
    """Return the class of a listener's connections."""

    class LimitedProtocol(WebSocketsSansIOProtocol):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.close_timeout = limits.close_timeout
            self._has_failed = False
            self.logger = self.conn.logger = QUIET
            self.conn.debug = False
            self._abort: asyncio.TimerHandle | None = None

        async def run_asgi(self) -> None:
            certificate = self.transport.get_extra_info("peercert")
            if certificate:
                extensions: Any = self.scope["extensions"]
                extensions[CLIENT_CERTIFICATE] = certificate
            await super().run_asgi()

        def data_received(self, data: bytes) -> None:
            if self._has_failed:
                return
            self.conn.receive_data(data)
            self.handle_events()  # also the messages before an invalid frame
            if self.conn.parser_exc is not None and not self._has_failed:
                self.handle_parser_exception()

        def handle_parser_exception(self) -> None:
            if self.conn.close_sent is None:  # the request was invalid
                self.transport.write(b"".join(self.conn.data_to_send()))
                self.transport.close()
            else:
                self._close_because(Cause.VIOLATION)

        def send_receive_event_to_app(self) -> None:
            data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
            self.frames = []
            if self.close_sent:
                return
            event: Any = {"type": "websocket.receive"}
            if self.curr_msg_data_type == "text":
                try:
                    event["text"] = data.decode()
                except UnicodeDecodeError:
                    self.conn.fail(1007, "invalid UTF-8")
                    self._close_because(Cause.VIOLATION)
                    return
            else:
                event["bytes"] = data
            self.queue.put_nowait(event)
            if not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()

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
            self.close_sent = self._has_failed = True
            if not self.transport.can_write_eof():  # TLS
                self.transport.close()
                return
            # Closing while the client still sends would reset the connection, and the client might lose the code.
            self.transport.write_eof()
            self.close_timer = self.loop.call_later(limits.close_timeout, self.transport.close)
            if self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()

        def shutdown(self) -> None:
            try:
                super().shutdown()
            except InvalidState:  # the client has begun to close
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
