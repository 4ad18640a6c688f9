"""The transport: a limit on messages around zCLI's own."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import replace

from zcli_core.plugins.contract import Context
from zcli_core.websocket.contract import (
    Accept,
    Acceptor,
    Address,
    Closed,
    Connection,
    Decision,
    Endpoint,
    Limits,
    Listener,
    Message,
    PlainResponse,
    Receiver,
    Refuse,
    Request,
    Transport,
)
from zcli_wsproto import zcli_websocket_transports

from zcli_skeleton.settings import Skeleton


class SkeletonTransport:
    """Implements :class:`zcli_core.websocket.contract.Transport`."""

    def __init__(self, context: Context) -> None:
        self._rate = context.config.section(Skeleton).messages_per_second
        self._engine = make_engine(context)

    async def listen(self, endpoint: Endpoint, acceptor: Acceptor, limits: Limits) -> Listener:
        """Start listening; the core hears of messages through the limit, if there is one."""
        if self._rate is not None:
            acceptor = LimitedAcceptor(acceptor, self._rate)
        return await self._engine.listen(endpoint, acceptor, limits)


def make_engine(context: Context) -> Transport:
    """What does the work: the transport that comes with zCLI, made as zCLI makes it."""
    (offer,) = zcli_websocket_transports()
    return offer.factory(context)


class LimitedAcceptor:
    """Passes the core's decisions on, and stands between the core and each connection that it accepts."""

    def __init__(self, core: Acceptor, rate: float) -> None:
        self._core = core
        self._rate = rate

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        """The core's decision, at once if the core decides at once."""
        decision = self._core.upgrade(request)
        if isinstance(decision, Accept | Refuse | PlainResponse):
            return self._limit(decision)
        return self._decide_later(decision)

    def http(self, request: Request) -> PlainResponse:
        """The core's answer."""
        return self._core.http(request)

    def refused(self, cause: str, address: Address, request: Request | None = None) -> float:
        """Tell the core of a client that the engine has refused itself."""
        return self._core.refused(cause, address, request)

    async def _decide_later(self, decision: Awaitable[Decision]) -> Decision:
        return self._limit(await decision)

    def _limit(self, decision: Decision) -> Decision:
        if not isinstance(decision, Accept):
            return decision
        opened = decision.opened
        return replace(
            decision,
            opened=lambda connection: LimitedReceiver(connection, opened(connection), self._rate),
        )


class LimitedReceiver:
    """Hands messages to the core; one more in a second than the limit says ends the connection."""

    def __init__(self, connection: Connection, core: Receiver, rate: float) -> None:
        self._connection = connection
        self._core = core
        self._rate = rate
        # A bucket of one second's worth, which a message takes from and time fills.
        self._left = max(1.0, rate)
        self._filled_at = time.monotonic()

    def message(self, message: Message) -> bool:
        """Hand the message on. This is the path of every message: no task, no queue, no waiting."""
        now = time.monotonic()
        self._left = min(max(1.0, self._rate), self._left + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._left < 1.0:
            self._connection.close(1008, f"more than {self._rate:g} messages in a second")
            return True
        self._left -= 1.0
        return self._core.message(message)

    def end(self) -> bool:
        """No message follows."""
        return self._core.end()

    def closed(self, closed: Closed) -> None:
        """The connection is gone."""
        self._core.closed(closed)
