"""Limits for connected clients: connections of one address, messages per second, and the expiry of the credential."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

from zcli_core.websocket.connection import ServerConnection, client_label
from zcli_core.websocket.parts.addresses import address_key

if TYPE_CHECKING:
    from zcli_core.config.sections import WebSocket
    from zcli_core.websocket.contract import Address, Closed, Connection, Message, Receiver

#: Longest time until the clock is read again, in seconds, because it may be set or the machine may sleep meanwhile.
_RECHECK = 600.0

#: A time in the far future. An ``expires_at`` given as int may be too large for a float.
_NEVER = 2.0**53


class ClientLimits:
    """The limits of one running server. A limit that is off has no cost."""

    def __init__(self, settings: WebSocket, loop: asyncio.AbstractEventLoop, log: logging.Logger) -> None:
        self._loop = loop
        self._log = log
        self._rate = settings.max_messages_per_second
        self._counting = settings.max_connections_per_address is not None
        self._counts: Counter[str] = Counter()
        self._expiring: dict[ServerConnection, _Expiry] = {}

    def count_of(self, address: Address) -> int:
        """Return the number of clients of an address. A disconnected client counts until its handler has ended."""
        return self._counts[address_key(address)]

    def enter(self, client: ServerConnection, connection: Connection, receiver: Receiver) -> Receiver:
        """Apply the limits to a new client; return the receiver of its messages."""
        if self._rate is not None:
            receiver = _PacedReceiver(client, connection, receiver, self._rate, self._loop, self._log)
        expires_at = client._admission.expires_at
        if expires_at is not None:
            self._expiring[client] = _Expiry(connection, expires_at, self._loop)
        if self._counting:
            self._counts[address_key(client.remote_address)] += 1
        return receiver

    def leave(self, client: ServerConnection) -> None:
        """Release what :meth:`enter` counted: the client has disconnected, and its handler has ended."""
        if self._counting:
            key = address_key(client.remote_address)
            self._counts[key] -= 1
            if self._counts[key] <= 0:
                del self._counts[key]
        expiry = self._expiring.pop(client, None)
        if expiry is not None:
            expiry.cancel()


class _Expiry:
    """A timer that closes a connection (1008) when the client's credential expires."""

    def __init__(self, connection: Connection, expires_at: float, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._expires_at = min(expires_at, _NEVER)
        self._loop = loop
        self._timer = loop.call_later(self._wait(), self._check)

    def _wait(self) -> float:
        return min(max(self._expires_at - time.time(), 0.0), _RECHECK)

    def _check(self) -> None:
        if time.time() >= self._expires_at:
            self._connection.close(1008, "the credential has expired")
        else:
            self._timer = self._loop.call_later(self._wait(), self._check)

    def cancel(self) -> None:
        """Stop the timer, because the client has disconnected."""
        self._timer.cancel()


class _PacedReceiver:
    """A receiver that delays delivery, and drops nothing, if a client exceeds its messages per second.

    A client may send the messages of one second at once. After that it is read no faster than the limit, so that TCP
    slows it down. Implements :class:`zcli_core.websocket.contract.Receiver` and forwards to another receiver.
    """

    __slots__ = ("_client", "_connection", "_left", "_log", "_loop", "_most", "_rate", "_receiver", "_since", "_timer")

    def __init__(
        self,
        client: ServerConnection,
        connection: Connection,
        receiver: Receiver,
        rate: float,
        loop: asyncio.AbstractEventLoop,
        log: logging.Logger,
    ) -> None:
        self._client = client
        self._connection = connection
        self._receiver = receiver
        self._rate = rate
        self._loop = loop
        #: None after the first delay was logged.
        self._log: logging.Logger | None = log
        #: Messages that may be delivered now; below 0 if the handler made the transport deliver early.
        self._left = self._most = max(rate, 1.0)
        self._since = loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def message(self, message: Message) -> bool:
        """Forward a message; return whether the next one may be delivered now."""
        now = self._loop.time()
        self._left = min(self._left + (now - self._since) * self._rate, self._most) - 1
        self._since = now
        if not self._receiver.message(message):
            return False  # the receiver resumes delivery itself
        if self._left >= 1:
            return True
        if self._log is not None:
            self._log.info(
                "%s sends more than %g messages a second and is read more slowly (websocket.max_messages_per_second)",
                client_label(self._client), self._rate,
            )  # fmt: skip
            self._log = None
        self._stop_timer()
        self._timer = self._loop.call_later((1 - self._left) / self._rate, self._connection.resume_delivery)
        return False

    def end(self) -> bool:
        """Forward the end of the messages."""
        self._stop_timer()
        return self._receiver.end()

    def closed(self, closed: Closed) -> None:
        """Forward the end of the connection."""
        self._stop_timer()
        self._receiver.closed(closed)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
