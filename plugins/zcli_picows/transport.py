"""The transport ``picows``, its listener and its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from picows import WSMsgType, WSTransport

from zcli_core.contracts.websocket_parts.connection import AsyncioConnection
from zcli_core.contracts.websocket_parts.frames import message_frame
from zcli_core.contracts.websocket_parts.listening import AsyncioListener
from zcli_core.contracts.websocket_parts.sending import OPEN
from zcli_picows.decoder import Decoder
from zcli_picows.parser import SILENT, Parser

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Iterable

    from zcli_core.contracts.websocket import Acceptor, Endpoint, Limits, Message, Prepared, Request

_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY

#: Prepared messages over this many bytes are written as one frame for all, where picows would copy for each.
_COPIED = 4096


class PicowsTransport:
    """Implements :class:`zcli_core.contracts.websocket.Transport`."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    async def listen(self, endpoint: Endpoint, acceptor: Acceptor, limits: Limits) -> PicowsListener:
        """Start listening."""
        if limits.compression is not None:
            self._log.warning(
                "websocket.compression is on, but the transport picows does not compress: messages are sent as they are"
            )
        listener = PicowsListener(acceptor, limits, self._log)
        await listener.start(endpoint)
        return listener


class PicowsListener(AsyncioListener["PicowsConnection"]):
    """Implements :class:`zcli_core.contracts.websocket.Listener`."""

    def __init__(self, acceptor: Acceptor, limits: Limits, log: logging.Logger) -> None:
        super().__init__(acceptor, limits, log)
        self.parser = Parser()

    def connection(self, transport: asyncio.Transport, request: Request, subprotocol: str | None) -> PicowsConnection:
        """A connection."""
        return PicowsConnection(self, transport, request, subprotocol)

    def prepare(self, message: Message) -> PreparedMessage:
        """Encode a message once."""
        return PreparedMessage(message)


class PreparedMessage:
    """A message for a whole broadcast: its frame, and what picows makes one of."""

    __slots__ = ("frame", "kind", "payload", "size")

    def __init__(self, message: Message) -> None:
        self.frame = message_frame(message)
        self.kind = _TEXT if isinstance(message, str) else _BINARY
        self.payload = message.encode() if isinstance(message, str) else bytes(message)
        self.size = len(self.payload)


class _Output:
    """What picows may do to a connection: write to it.

    It writes to an idle socket directly and falls back to this. A long message it would give away as a view of a header
    that it overwrites with the next one, and asyncio keeps what it is given: here both are joined at once.
    """

    __slots__ = ("get_extra_info", "get_write_buffer_size", "write")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.write = transport.write

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Write pieces that are not ours to keep."""
        self.write(b"".join(pieces))


class PicowsConnection(AsyncioConnection):
    """Implements :class:`zcli_core.contracts.websocket.Connection`: frames that are made and sent in C."""

    __slots__ = ("_send_frame",)

    def __init__(
        self, listener: PicowsListener, transport: asyncio.Transport, request: Request, subprotocol: str | None
    ) -> None:
        super().__init__(listener, transport, request, subprotocol, Decoder(listener.limits, listener.parser))
        self._send_frame: Any = WSTransport(False, _Output(transport), SILENT, listener.loop).send  # type: ignore[call-arg]

    def send(self, message: Message) -> None:
        """Send a message."""
        if self.state is not OPEN:
            raise self._closed_error()
        if self._corked is not None:
            self._push(message_frame(message))
        elif type(message) is str:
            self._send_frame(_TEXT, message)
        elif type(message) is bytes:
            self._send_frame(_BINARY, message)
        else:
            self._write(message_frame(message))
        if self.write_paused and self._too_slow():
            raise self._closed_error()

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message; whether it was sent."""
        if self.state is not OPEN or (self.write_paused and self._too_slow()):
            return False
        message: PreparedMessage = prepared  # type: ignore[assignment]  # the contract: made by this listener
        if self._corked is None and message.size <= _COPIED:
            self._send_frame(message.kind, message.payload)
        else:
            self._push(message.frame)
        return True
