"""The opening phase of a connection: from the accepted socket to the answer to its first request."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

from zcli_core.contracts.websocket import Accept, Address, Decision, HttpAnswer, Refuse, Request
from zcli_wsproto.connection import WsprotoConnection
from zcli_wsproto.deflate import negotiate
from zcli_wsproto.frames import close_frame
from zcli_wsproto.upgrade import BadRequest, accept_response, http_response, parse_head, split_head

if TYPE_CHECKING:
    from zcli_wsproto.transport import WsprotoListener


class Opening(asyncio.BufferedProtocol):
    """Reads one request, has it decided on, and answers.

    It is made when the socket is accepted, before any TLS handshake, so its timer covers that too.
    """

    __slots__ = ("_buffer", "_deciding", "_done", "_listener", "_timer", "_transport")

    def __init__(self, listener: WsprotoListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._deciding: asyncio.Task[None] | None = None
        #: Whether an answer was sent: what still comes is read and dropped.
        self._done = False
        self._timer = listener.loop.call_later(listener.limits.open_timeout, self._expire)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready (asyncio): after the TLS handshake, if there is one."""
        self._transport = cast("asyncio.Transport", transport)
        if self._listener.stopped:  # while the TLS handshake was under way
            self._transport.abort()
            return
        self._listener.openings.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read into (asyncio)."""
        return self._listener.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the client (asyncio)."""
        if self._done:
            return
        self._buffer += self._listener.read_buffer[:nbytes]
        if self._deciding is not None:
            return
        assert self._transport is not None
        try:
            parts = split_head(self._buffer, self._listener.limits)
            if parts is None:
                return
            head, self._buffer = parts
            info = self._transport.get_extra_info
            request, key = parse_head(
                head, _address(info("peername")), _address(info("sockname")), info("sslcontext") is not None
            )
        except BadRequest as bad:
            self._listener.log.debug("refused a request: %s", bad)
            self._answer(bad.answer)
            return
        if key is None:
            self._answer_http(request)
        else:
            self._decide(request, key)

    # Deciding -----------------------------------------------------------------------------------------------------

    def _answer_http(self, request: Request) -> None:
        try:
            self._answer(self._listener.acceptor.http(request), with_body=request.method != "HEAD")
        except Exception:
            self._listener.log.exception("answering %s %s failed", request.method, request.path)
            self._answer(HttpAnswer(500))

    def _decide(self, request: Request, key: str) -> None:
        """Ask the core; wait for it in a task only if it has to wait itself."""
        try:
            decision = self._listener.acceptor.upgrade(request)
        except Exception:
            self._listener.log.exception("deciding on an upgrade failed")
            self._answer(HttpAnswer(500))
            return
        if isinstance(decision, (Accept, Refuse, HttpAnswer)):
            self._carry_out(decision, request, key)
        else:
            assert self._transport is not None
            # What a client sends before it is let in is not read: it would pile up here.
            self._transport.pause_reading()
            self._deciding = self._listener.loop.create_task(self._wait_for(decision, request, key))

    async def _wait_for(self, decision: Awaitable[Decision], request: Request, key: str) -> None:
        try:
            decided = await decision
        except asyncio.CancelledError:
            if inspect.iscoroutine(decision):
                decision.close()
            decided = Refuse(1011, "no decision within the open timeout")
        except Exception:
            self._listener.log.exception("deciding on an upgrade failed")
            decided = HttpAnswer(500)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._carry_out(decided, request, key)

    def _carry_out(self, decision: Decision, request: Request, key: str) -> None:
        if isinstance(decision, HttpAnswer):
            self._answer(decision)
            return
        if decision.subprotocol is not None and decision.subprotocol not in request.subprotocols:
            self._listener.log.error("subprotocol %r was not offered by the client", decision.subprotocol)
            self._answer(HttpAnswer(500))
        elif isinstance(decision, Refuse):
            response = accept_response(key, decision.subprotocol, None)
            self._send_last(response + close_frame(decision.code, decision.reason))
        else:
            self._accept(decision, request, key)

    # Answering ----------------------------------------------------------------------------------------------------

    def _accept(self, accept: Accept, request: Request, key: str) -> None:
        assert self._transport is not None
        compression = self._listener.limits.compression
        agreement = None
        if compression is not None:
            agreement = negotiate(request.headers.get_all("sec-websocket-extensions"), compression)
        extensions = agreement.header if agreement is not None else None
        transport = self._transport
        transport.write(accept_response(key, accept.subprotocol, extensions, accept.headers))
        connection = WsprotoConnection(self._listener, transport, request, accept.subprotocol, agreement)
        received, self._buffer = self._buffer, b""
        self._end()
        transport.set_protocol(connection)
        self._listener.connections.add(connection)
        try:
            receiver = accept.opened(connection)
        except Exception:
            self._listener.log.exception("opening a connection failed")
            connection.close(1011, "the server failed to open the connection")
            return
        connection.start(receiver, received)

    def _answer(self, answer: HttpAnswer, with_body: bool = True) -> None:
        self._send_last(http_response(answer, with_body))

    def _send_last(self, data: bytes) -> None:
        """Send the only answer there will be, then drop what comes until the client or the timer closes."""
        assert self._transport is not None
        self._done = True
        self._buffer = b""
        self._transport.write(data)
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._timer.cancel()
            self._timer = self._listener.loop.call_later(self._listener.limits.close_timeout, self._expire)
        else:
            self._transport.close()

    # Ending -------------------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        """The time for opening, or for the client to go after an answer, is over."""
        if self._deciding is not None and not self._done:
            self._deciding.cancel()
        elif self._transport is not None:
            self._transport.abort()

    def drop(self) -> None:
        """The listener stops: close without an answer."""
        if self._deciding is not None:
            self._deciding.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone (asyncio)."""
        self._done = True
        self._end()
        if self._deciding is not None:
            self._deciding.cancel()

    def _end(self) -> None:
        self._timer.cancel()
        self._listener.openings.discard(self)


def _address(found: object) -> Address:
    """The address of a socket; a Unix socket has none."""
    return cast("Address", found) if isinstance(found, tuple) else None
