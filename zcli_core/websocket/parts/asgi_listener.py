"""A listener that is an ASGI application: an ASGI server accepts the connections and owns them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zcli_core.errors import is_ctrl_c
from zcli_core.websocket.contract import Accept, Decision, PlainResponse, Refuse, State
from zcli_core.websocket.parts.asgi_connection import AsgiConnection, PreparedEvent, Receive
from zcli_core.websocket.parts.asgi_request import Scope, check_head, encode_headers, make_request
from zcli_core.websocket.parts.asgi_sender import Event, Send
from zcli_core.websocket.parts.delivery import NULL_RECEIVER
from zcli_core.websocket.parts.frames import check_close
from zcli_core.websocket.parts.handshake import check_subprotocol
from zcli_core.websocket.parts.upgrade import BadRequest

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Acceptor, Address, Limits, Message, Receiver, Request

#: Called when a connection is gone, in the server's task.
Ended = Callable[[AsgiConnection], Awaitable[None]]

_STOPPING = Refuse(1001, "the server is shutting down")
_UNDECIDED = Refuse(1011, "no decision within the open timeout")
_MESSAGE = "websocket.receive"
_FAILED = Refuse(1011, "the server failed to decide")


class _Upgrade(NamedTuple):
    """An upgrade that is being decided on."""

    request: Request
    receive: Receive
    send: Send
    task: asyncio.Task[Any]


class AsgiListener:
    """Implements :class:`zcli_core.websocket.contract.Listener`.

    It answers the scope types ``websocket`` and ``http``. The ASGI server reads, writes, pings and enforces limits of
    its own besides those of :class:`~zcli_core.websocket.contract.Limits` that are enforced here: ``max_size`` of a
    whole message, ``max_send_buffer`` of what the server has not accepted, the timeouts, and the size of a head.
    """

    def __init__(self, acceptor: Acceptor, limits: Limits, log: logging.Logger, ended: Ended | None = None) -> None:
        """Make a listener in the running event loop.

        Args:
            acceptor: The core.
            limits: The limits.
            log: Where errors are logged.
            ended: Awaited in the server's task before the application returns from a connection.
        """
        self.acceptor = acceptor
        self.limits = limits
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.connections: set[AsgiConnection] = set()
        self._ended = ended
        #: Number of clients whose refusal is delayed.
        self._delayed = 0
        #: Decisions that have not ended although they were cancelled.
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._stopped: asyncio.Future[None] = self.loop.create_future()

    @property
    def addresses(self) -> list[Address]:
        """Empty: the server listens."""
        return []

    def prepare(self, message: Message) -> PreparedEvent:
        """Encode a message once."""
        return PreparedEvent(message)

    def close_sockets(self) -> None:
        """Do nothing: the server listens."""

    async def finish_accepting(self) -> None:
        """Do nothing: the server listens."""

    def stop_accepting(self) -> None:
        """Admit no further client, and drop those that are not admitted."""
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """Stop accepting, close every connection and wait until all are gone."""
        self.stop_accepting()
        connections = list(self.connections)
        for connection in connections:
            connection.close(code, reason)
        for connection in connections:
            await connection.wait_closed()

    # Plain HTTP ---------------------------------------------------------------------------------------------------

    async def http(self, scope: Scope, send: Send) -> None:
        """Respond to a scope of the type ``http``."""
        request = make_request(scope)
        try:
            response = self.acceptor.http(request)
            if self._stopped.done() and response.status != 503:  # /ready says why itself
                response = PlainResponse(503)
            encode_headers(response.headers)
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self.log.exception("cannot respond to %r", request)
            response = PlainResponse(500)
        await _respond(send, "http.response", response, with_body=request.method != "HEAD")

    # Upgrades -----------------------------------------------------------------------------------------------------

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a scope of the type ``websocket`` until its connection is gone."""
        event = await receive()
        if event["type"] != "websocket.connect":
            return
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        upgrade = _Upgrade(make_request(scope), receive, send, task)
        decision = self._decide(upgrade.request)
        if isinstance(decision, (Accept, Refuse, PlainResponse)):
            await self._carry_out(decision, upgrade, None)
        else:
            await self._decide_later(decision, upgrade)

    def _decide(self, request: Request) -> Decision | Awaitable[Decision]:
        if self._stopped.done():
            return _STOPPING
        try:
            check_head(request.headers, self.limits)
            return self.acceptor.upgrade(request)
        except BadRequest as bad:
            return Refuse(1008, str(bad), delay=self.acceptor.refused(str(bad), request.remote_address, request))
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            return self._failed(error, request)

    def _failed(self, error: BaseException, request: Request) -> Decision:
        """Log that a decision raised or cannot be carried out; return the one that takes its place."""
        self.log.error("deciding on an upgrade failed", exc_info=error)
        return PlainResponse(500) if request.can_be_refused_with_status else _FAILED

    async def _decide_later(self, decision: Awaitable[Decision], upgrade: _Upgrade) -> None:
        """Wait for a decision until ``open_timeout``, or until the client leaves."""
        opened: tuple[AsgiConnection, Receiver] | Refuse | PlainResponse
        receiving = asyncio.ensure_future(_received(upgrade.receive))
        opening = self.loop.create_task(self._open_when_decided(decision, upgrade, receiving))
        if inspect.iscoroutine(decision):
            # A task that is cancelled before its first step does not await it.
            opening.add_done_callback(lambda _: decision.close())
        try:
            await self._wait_until({opening, self._stopped}, receiving, self.limits.open_timeout)
            left = _has_left(receiving) and not opening.done()
            if not opening.done():
                opening.cancel()
                await asyncio.wait([opening], timeout=self.limits.close_timeout)
        except asyncio.CancelledError:
            receiving.cancel()
            if not opening.cancel() and isinstance(opened := opening.result(), tuple):
                opened[0].abort()  # it was opened already, so the core must learn of its end
                await self._run(*opened)
            raise
        if not opening.done():
            self._abandoned.add(opening)  # the decision ignores that it was cancelled
            opening.add_done_callback(self._abandoned.discard)
            opened = _UNDECIDED
        else:
            opened = opening.result()
        if isinstance(opened, tuple):
            await self._run(*opened)
        elif not left:
            await self._refuse(opened, upgrade, receiving)

    async def _open_when_decided(
        self, decision: Awaitable[Decision], upgrade: _Upgrade, receiving: asyncio.Future[Event]
    ) -> tuple[AsgiConnection, Receiver] | Refuse | PlainResponse:
        """Wait for a decision and open the connection at once, because a limit that was checked must still hold."""
        try:
            decided = await decision
        except asyncio.CancelledError:
            return _STOPPING if self._stopped.done() else _UNDECIDED
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            decided = self._failed(error, upgrade.request)
        if asyncio.current_task() in self._abandoned:
            return _UNDECIDED
        return self._open(decided, upgrade, receiving)

    async def _carry_out(self, decision: Decision, upgrade: _Upgrade, receiving: asyncio.Future[Event] | None) -> None:
        opened = self._open(decision, upgrade, receiving)
        if isinstance(opened, tuple):
            await self._run(*opened)
        else:
            await self._refuse(opened, upgrade, receiving)

    def _open(
        self, decision: Decision, upgrade: _Upgrade, receiving: asyncio.Future[Event] | None
    ) -> tuple[AsgiConnection, Receiver] | Refuse | PlainResponse:
        """Accept the upgrade if that is the decision; return how to refuse it otherwise."""
        request = upgrade.request
        try:
            if isinstance(decision, PlainResponse):
                encode_headers(decision.headers)
                return decision
            check_subprotocol(decision.subprotocol, request)
            if isinstance(decision, Refuse):
                check_close(decision.code, decision.reason)
                return decision
            headers = encode_headers(decision.headers)
            connection = self._connection(upgrade, decision.subprotocol, receiving)
            connection.accept(headers)
        except Exception as error:  # noqa: BLE001 - _failed() logs it
            failed = self._failed(error, request)
            assert not isinstance(failed, Accept)
            return failed
        if connection.state is not State.OPEN:
            return connection, NULL_RECEIVER  # the client is gone
        self.connections.add(connection)
        try:
            return connection, decision.opened(connection)
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self.log.exception("opening a connection failed")
            connection.close(1011, "the server failed to open the connection")
            return connection, NULL_RECEIVER

    def _connection(
        self, upgrade: _Upgrade, subprotocol: str | None, receiving: asyncio.Future[Event] | None
    ) -> AsgiConnection:
        request, receive, send, task = upgrade
        return AsgiConnection(self, request, subprotocol, receive, send, task, receiving)

    async def _run(self, connection: AsgiConnection, receiver: Receiver) -> None:
        try:
            await connection.run(receiver)
        finally:
            if self._ended is not None and not self.loop.is_closed():
                await self._ended(connection)

    # Refusals -----------------------------------------------------------------------------------------------------

    async def _refuse(
        self, refusal: Refuse | PlainResponse, upgrade: _Upgrade, receiving: asyncio.Future[Event] | None
    ) -> None:
        if receiving is None:
            receiving = asyncio.ensure_future(_received(upgrade.receive))
        try:
            if not await self._is_there_after(refusal.delay, receiving):
                return
            if isinstance(refusal, Refuse):
                connection = self._connection(upgrade, refusal.subprotocol, receiving)
                connection.accept([])
                connection.close(refusal.code, refusal.reason)
                await connection.run(NULL_RECEIVER)
            elif upgrade.request.can_be_refused_with_status:
                await _respond(upgrade.send, "websocket.http.response", refusal, with_body=True)
            else:
                await upgrade.send({"type": "websocket.close"})  # the server responds with 403
        except OSError as error:
            self.log.debug("a client left before it was refused: %s", error)
        finally:
            receiving.cancel()

    async def _is_there_after(self, delay: float, receiving: asyncio.Future[Event]) -> bool:
        """Wait for the delay of a refusal; return whether the client is there and the server has not stopped."""
        if delay <= 0 or self._delayed >= self.limits.max_pending_connections:
            return True
        self._delayed += 1
        try:
            await self._wait_until({self._stopped}, receiving, delay)
        finally:
            self._delayed -= 1
        return not self._stopped.done() and not _has_left(receiving)

    async def _wait_until(
        self, waiting: set[asyncio.Future[Any]], receiving: asyncio.Future[Event], timeout: float
    ) -> None:
        """Wait for one of the futures, or until the client leaves; a message that comes too early is ignored."""
        deadline = self.loop.time() + timeout
        done, _ = await asyncio.wait({*waiting, receiving}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if done == {receiving} and not _has_left(receiving):
            left = max(deadline - self.loop.time(), 0)
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)


def _has_left(receiving: asyncio.Future[Event]) -> bool:
    """Return whether the next event is the end of the client, or cannot be received."""
    if not receiving.done():
        return False
    return receiving.cancelled() or receiving.exception() is not None or receiving.result()["type"] != _MESSAGE


async def _received(receive: Receive) -> Event:
    return await receive()


async def _respond(send: Send, kind: str, response: PlainResponse, with_body: bool) -> None:
    """Send a response as two events, ``<kind>.start`` and ``<kind>.body``."""
    headers = encode_headers(response.headers)
    if response.status not in (204, 304):  # these have no content, and no length of it (RFC 9110, 8.6 and 15)
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": f"{kind}.start", "status": response.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": response.body if with_body else b""})
