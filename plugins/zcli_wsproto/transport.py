"""The transport ``wsproto``, its listener and its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.websocket.contract import Capability
from zcli_core.websocket.parts.connection import AsyncioConnection
from zcli_core.websocket.parts.frames import BINARY, FIN, TEXT, TEXT_HEADERS, frame, message_frame
from zcli_core.websocket.parts.listener import AsyncioListener
from zcli_core.websocket.parts.sending import OPEN
from zcli_wsproto.decoder import MessageDecoder
from zcli_wsproto.deflate import Deflater, negotiate

if TYPE_CHECKING:
    import asyncio
    import logging

    from zcli_core.websocket.contract import Acceptor, Endpoint, Limits, Message, Prepared, Request
    from zcli_wsproto.deflate import Agreement


class PreparedMessage:
    """A message that is encoded once: its plain frame, and one for each compression window of the receivers."""

    __slots__ = ("_deflated", "_deflater", "_first", "_payload", "plain", "size")

    def __init__(self, message: str | bytes, deflater: Deflater | None) -> None:
        self.plain = message_frame(message)
        self._payload = message.encode() if isinstance(message, str) else bytes(message)
        self._first = FIN | (TEXT if isinstance(message, str) else BINARY)
        self._deflater = deflater
        self._deflated: dict[int, bytes] = {}
        self.size = len(self._payload)

    def compressed(self, window_bits: int) -> bytes:
        """Return the frame for a client with that window: compressed, if that makes it smaller."""
        found = self._deflated.get(window_bits)
        if found is None:
            assert self._deflater is not None  # otherwise no client has agreed on a window
            found = self._deflated[window_bits] = self._deflater.frame(self._first, self._payload, window_bits)
        return found


class WsprotoTransport:
    """Implements :class:`zcli_core.websocket.contract.Transport`."""

    capabilities = frozenset(Capability)

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    async def listen(self, endpoint: Endpoint, acceptor: Acceptor, limits: Limits) -> WsprotoListener:
        """Start listening."""
        listener = WsprotoListener(acceptor, limits, self._log)
        await listener.start(endpoint)
        return listener


class WsprotoConnection(AsyncioConnection):
    """Implements :class:`zcli_core.websocket.contract.Connection`: encodes and compresses messages."""

    __slots__ = ("_deflater", "_server_bits")

    def __init__(
        self,
        listener: WsprotoListener,
        transport: asyncio.Transport,
        request: Request,
        subprotocol: str | None,
        agreement: Agreement | None,
    ) -> None:
        decoder = MessageDecoder(listener.limits, agreement)
        extensions = agreement.header if agreement is not None else None
        super().__init__(listener, transport, request, subprotocol, decoder, extensions)
        #: Compresses messages; None if no compression was agreed on.
        self._deflater = listener.deflater if agreement is not None else None
        self._server_bits = agreement.server_bits if agreement is not None else 0

    def send(self, message: Message) -> None:
        """Send a message."""
        if self.state is not OPEN:
            raise self._closed_error()
        if self._deflater is not None:
            data = self._compressed(message)
        elif type(message) is str:
            payload = message.encode()
            length = len(payload)
            data = TEXT_HEADERS[length] + payload if length < 126 else frame(FIN | TEXT, payload)
        else:
            data = message_frame(message)
        if self._corked is not None:
            self._push(data)
        elif not self._is_lost():
            self._write(data)
        if self.write_paused and self._close_if_slow():
            raise self._closed_error()

    def _compressed(self, message: Message) -> bytes:
        """Encode a message for this client: compressed, if that makes it smaller."""
        deflater = self._deflater
        assert deflater is not None
        if isinstance(message, str):
            return deflater.frame(FIN | TEXT, message.encode(), self._server_bits)
        if isinstance(message, (bytes, bytearray, memoryview)):
            return deflater.frame(FIN | BINARY, bytes(message), self._server_bits)
        return message_frame(message)  # raises the TypeError

    def send_prepared(self, prepared: Prepared) -> bool:
        """Send a prepared message; return whether it was sent."""
        if self.state is not OPEN or (self.write_paused and self._close_if_slow()):
            return False
        message: PreparedMessage = prepared  # type: ignore[assignment]  # made by this listener
        data = message.plain if self._deflater is None else message.compressed(self._server_bits)
        if self._corked is not None:
            self._push(data)
        elif not self._is_lost():
            self._write(data)
        return True


class WsprotoListener(AsyncioListener[WsprotoConnection]):
    """Implements :class:`zcli_core.websocket.contract.Listener`."""

    def __init__(self, acceptor: Acceptor, limits: Limits, log: logging.Logger) -> None:
        super().__init__(acceptor, limits, log)
        self.deflater = Deflater(limits.compression) if limits.compression is not None else None

    def connection(self, transport: asyncio.Transport, request: Request, subprotocol: str | None) -> WsprotoConnection:
        """Make a connection, with the compression that client and server agree on."""
        offer = self.limits.compression
        agreement = negotiate(request.headers.get_all("sec-websocket-extensions"), offer) if offer is not None else None
        return WsprotoConnection(self, transport, request, subprotocol, agreement)

    def prepare(self, message: Message) -> PreparedMessage:
        """Encode a message once."""
        return PreparedMessage(message, self.deflater)
