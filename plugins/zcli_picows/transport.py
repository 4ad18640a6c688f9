"""The transport ``picows``, its listener and its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.contracts.websocket_parts.connection import FOR_THE_CORE, AsyncioConnection
from zcli_core.contracts.websocket_parts.events import Failure
from zcli_core.contracts.websocket_parts.frames import FIN, TEXT, TEXT_HEADERS, frame, message_frame
from zcli_core.contracts.websocket_parts.listening import AsyncioListener
from zcli_core.contracts.websocket_parts.sending import OPEN
from zcli_picows.decoder import Decoder
from zcli_picows.parser import Parser

if TYPE_CHECKING:
    import asyncio
    import logging

    from zcli_core.contracts.websocket import Acceptor, Endpoint, Limits, Message, Prepared, Request


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
    """A message and its frame."""

    __slots__ = ("frame", "size")

    def __init__(self, message: Message) -> None:
        self.frame = message_frame(message)
        self.size = len(message.encode() if isinstance(message, str) else bytes(message))


class PicowsConnection(AsyncioConnection):
    """Implements :class:`zcli_core.contracts.websocket.Connection`: most reads are one short message."""

    __slots__ = ("_only",)

    def __init__(
        self, listener: PicowsListener, transport: asyncio.Transport, request: Request, subprotocol: str | None
    ) -> None:
        decoder = Decoder(listener.limits, listener.parser)
        super().__init__(listener, transport, request, subprotocol, decoder)
        self._only = decoder.only

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the client (asyncio)."""
        event = None if self._held else self._only(self._read_buffer[:nbytes])
        if event is None:
            super().buffer_updated(nbytes)
            return
        self.quiet_ticks = 0
        if isinstance(event, Failure):
            self._decoder.finish()
            self._handle(event)
        elif self.state is OPEN and not self._receiver.message(event):
            self._held = FOR_THE_CORE

    def send(self, message: Message) -> None:
        """Send a message."""
        if self.state is not OPEN:
            raise self._closed_error()
        if type(message) is str:
            payload = message.encode()
            length = len(payload)
            data = TEXT_HEADERS[length] + payload if length < 126 else frame(FIN | TEXT, payload)
        else:
            data = message_frame(message)
        if self._corked is None:
            self._write(data)
        else:
            self._push(data)
        if self.write_paused and self._too_slow():
            raise self._closed_error()

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message; whether it was sent."""
        if self.state is not OPEN or (self.write_paused and self._too_slow()):
            return False
        message: PreparedMessage = prepared  # type: ignore[assignment]  # the contract: made by this listener
        self._push(message.frame)
        return True
