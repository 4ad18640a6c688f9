"""One socket to NATS: the client protocol.

https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

from zcli_core.backplane.parts.stream import EngineStream, Incomplete
from zcli_core.errors import BackplaneFailure
from zcli_nats.failures import server_error

#: Longest line, in bytes; the INFO of a large cluster names many servers.
_LONGEST_LINE = 256 * 1024
#: Largest message that a server may be configured for (``max_payload``), in bytes.
_LARGEST = 64 * 1024 * 1024
#: The errors after which the server keeps the connection, in lower case.
_CONNECTION_GOES_ON = ("permissions violation", "maximum subscriptions")
_PING = b"PING\r\n"
_PONG = b"PONG\r\n"


class NatsStream(EngineStream):
    """A connection to NATS. A request ends with PING: the PONG confirms all that was sent before it."""

    product = "a NATS server"

    def __init__(
        self,
        address: str,
        ended: Callable[[BackplaneFailure], None],
        received: Callable[[bytes, bytes], None],
        login_from: str | None = None,
    ) -> None:
        """Make the protocol of a connection.

        Args:
            address: Where the server is, for errors.
            ended: Gets the failure that ends the connection.
            received: Gets subscription and data of each message.
            login_from: The setting of the credential and where it was set, for errors; None without a credential.
        """
        super().__init__(address, ended)
        self._received = received
        self._login_from = login_from
        self._greeted: asyncio.Future[dict[str, Any]] = self.loop.create_future()
        #: What the server says about itself, updated when it changes.
        self.info: dict[str, Any] = {}

    async def greeting(self) -> dict[str, Any]:
        """Return the first thing that the server sends: what it is and what it wants."""
        if self.failure is not None:
            raise self.failure
        return await self._greeted

    async def encrypt(self, context: ssl.SSLContext, host: str) -> None:
        """Begin TLS, after the greeting."""
        plain, self._transport = self._transport, None
        if plain is None or self.failure is not None:
            raise ConnectionResetError("the connection ended before the TLS handshake")
        try:
            self._transport = await self.loop.start_tls(plain, self, context, server_hostname=host)
        finally:
            if self._transport is None:
                # Python 3.10 does not call connection_lost after a handshake that failed.
                plain.abort()
        if self._transport is None:
            raise ConnectionResetError("the connection ended during the TLS handshake")

    async def confirmed(self, data: bytes, *, droppable: bool = False) -> None:
        """Send something; returns when the server has handled it. For ``droppable`` see :meth:`request`.

        Raises:
            BackplaneFailure: The server refuses it, or the connection has ended.
        """
        for reply in await self.request(data + _PING, droppable=droppable):
            if reply is not None:
                raise reply

    def decode(self, data: bytes, start: int) -> tuple[Any, int]:
        """Return a message as a tuple of subscription and data, or an operation as a list of name and argument."""
        end = data.find(b"\r\n", start)
        if end < 0:
            if len(data) - start > _LONGEST_LINE or (
                not data[start : start + 1].isalpha() and data[start] not in b"+-"
            ):
                raise ValueError("not an operation of NATS")
            raise Incomplete(len(data) - start + 1)
        line = data[start:end]
        if line.startswith(b"MSG "):
            # MSG subject subscription [reply subject] bytes
            parts = line.split(b" ")
            length = int(parts[-1])
            begin = end + 2
            if not 0 <= length <= _LARGEST or not 4 <= len(parts) <= 5:
                raise ValueError("an invalid message")
            if begin + length + 2 > len(data):
                raise Incomplete(begin + length + 2 - start)
            if not data.startswith(b"\r\n", begin + length):
                raise ValueError("a message that does not end where it should")
            return (parts[2], data[begin : begin + length]), begin + length + 2
        name, _, argument = line.partition(b" ")
        return [name, argument], end + 2

    def handle(self, reply: Any) -> None:
        """Pass a message on, or follow an operation of the server."""
        if type(reply) is tuple:
            self._received(*reply)
            return
        name, argument = reply
        if name == b"PONG":
            self.resolve(self._refusal)
            self._refusal = None
        elif name == b"PING":
            self.send(_PONG)
        elif name == b"INFO":
            self._learn(argument)
        elif name == b"-ERR":
            self._refuse(argument.decode("utf-8", "replace").strip("'"))
        elif name != b"+OK":
            raise ValueError("not an operation of NATS")

    #: Why the server refuses a part of the oldest request that waits.
    _refusal: BackplaneFailure | None = None

    def _learn(self, argument: bytes) -> None:
        info = json.loads(argument)
        if not isinstance(info, dict):
            raise ValueError("not the greeting of NATS")  # noqa: TRY004 - the data of a server, not an argument
        self.info.update(info)
        if not self._greeted.done():
            self._greeted.set_result(info)

    def _refuse(self, text: str) -> None:
        failure = server_error(self.address, text, self._login_from)
        # The error comes before the PONG of the request.
        if text.lower().startswith(_CONNECTION_GOES_ON) and self._sent:
            self._refusal = failure
        else:
            self.end(failure)

    def end(self, failure: BackplaneFailure) -> None:
        """End the connection now, also for :meth:`greeting`."""
        super().end(failure)
        if not self._greeted.done():
            self._greeted.set_exception(failure)
            self._greeted.exception()
