"""The handshake of a connection: from the accepted socket to the response to its first request."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from zcli_core.errors import is_ctrl_c
from zcli_core.websocket.contract import Accept, Address, Decision, PlainResponse, Refuse, Request
from zcli_core.websocket.parts.connection import AsyncioConnection
from zcli_core.websocket.parts.frames import close_frame
from zcli_core.websocket.parts.sending import release_buffer
from zcli_core.websocket.parts.upgrade import (
    BadRequest,
    accept_response,
    head_too_large,
    http_response,
    parse_head,
    shorten_lines,
    split_head,
)

if TYPE_CHECKING:
    from zcli_core.websocket.parts.listener import AsyncioListener


#: Seconds for which a TLS connection is read on after a response before it is closed. TLS has no half-closed state, and
#: closing it while the client still sends resets the connection before the client has read the response.
_TLS_LINGER = 0.25

#: Bytes that are passed to the TLS layer at once.
_TLS_PIECE = 16 * 1024

#: Bytes a second that a client must be able to read to get the whole of a long response.
_SLOWEST_READER = 16 * 1024

#: Bytes of a head that is too large that are read before the client is dropped.
_MAX_EXCESS = 4 * 1024 * 1024


class HandshakeProtocol(asyncio.BufferedProtocol):
    """Reads one request, asks the core for a decision, and carries it out.

    It is made when the socket is accepted, before any TLS handshake, so its timer covers the TLS handshake too.
    """

    __slots__ = (
        "_abandon", "_accepted_at", "_address", "_buffer", "_deciding", "_delayed", "_done", "_excess", "_expired",
        "_listener", "_timer", "_transport", "_unsent", "_write_paused",
    )  # fmt: skip

    def __init__(
        self,
        listener: AsyncioListener[Any],
        address: Address = None,
        abandon: Callable[[], None] | None = None,
    ) -> None:
        """Count the connection as pending, if its address is known already.

        Args:
            listener: The listener of the connection.
            address: The client's address.
            abandon: Drops the connection while it has no transport; None if the transport will show its address.
        """
        self._accepted_at = time.monotonic()
        self._listener = listener
        self._abandon = abandon
        self._address = address
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        #: Bytes that were read since the head is over its limit.
        self._excess = 0
        self._deciding: asyncio.Task[None] | None = None
        #: Whether the response is known and delayed.
        self._delayed = False
        #: Whether a response was sent: what still comes is read and dropped.
        self._done = False
        #: The part of a response that is not passed to the TLS layer yet.
        self._unsent = memoryview(b"")
        self._write_paused = False
        #: Whether a decision was cancelled because its time is over.
        self._expired = False
        self._timer = listener.loop.call_later(listener.limits.open_timeout, self._expire)
        if abandon is not None:
            listener.add_pending(self, address)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the socket is ready (asyncio): after the TLS handshake, if there is one."""
        self._transport = cast("asyncio.Transport", transport)
        if self._listener.stopped or self._done:  # the listener has dropped it during the TLS handshake
            self._transport.abort()
            return
        if self._abandon is None:
            self._address = _address(self._transport.get_extra_info("peername"))
            self._listener.add_pending(self, self._address)
        self._listener.connected(self._transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into (asyncio): a small part, because the data may have to be kept."""
        return self._listener.read_buffer[: self._listener.limits.max_header_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """Handle bytes from the client (asyncio)."""
        if self._done:
            return
        assert self._transport is not None
        self._buffer += self._listener.read_buffer[:nbytes]
        if self._deciding is not None or self._delayed:
            # Reading goes on, so that the loop notices when the client leaves; but early data must not pile up.
            if len(self._buffer) > self._listener.limits.max_header_bytes:
                self._transport.pause_reading()
            return
        try:
            self._shorten_if_too_large(nbytes)
            parts = split_head(self._buffer, self._listener.limits)
            if parts is None:
                return
            head, self._buffer = parts
            info = self._transport.get_extra_info
            request, key = parse_head(
                head, self._address, _address(info("sockname")), info("sslcontext") is not None,
                info("peercert") or None, self._accepted_at,
            )  # fmt: skip
        except BadRequest as bad:
            self._listener.log.debug("refused a request: %s", bad)
            self._send_last(http_response(bad.response))
            return
        if self._excess:
            self._refuse_too_large(request, key)
        elif key is None:
            self._respond_to_http(request)
        else:
            self._decide(request, key)

    # A head over the limit ----------------------------------------------------------------------------------------

    def _shorten_if_too_large(self, nbytes: int) -> None:
        """Read on over the limit but keep at most the limit, so that an upgrade can be closed with a reason."""
        limit = self._listener.limits.max_header_bytes
        if self._excess or len(self._buffer) > limit:
            self._excess += nbytes
            self._buffer = shorten_lines(self._buffer)
            if self._excess > _MAX_EXCESS or self._buffer.count(b"\n") > self._listener.limits.max_headers + 2:
                raise head_too_large(limit)

    def _refuse_too_large(self, request: Request, key: str | None) -> None:
        refusal = head_too_large(self._listener.limits.max_header_bytes)
        if key is None:
            self._send_last(http_response(refusal.response))
        else:
            delay = self._listener.acceptor.refused(str(refusal), request.remote_address, request)
            self._carry_out(Refuse(1008, str(refusal), delay=delay), request, key)

    # Deciding -----------------------------------------------------------------------------------------------------

    def _respond_to_http(self, request: Request) -> None:
        try:
            response = http_response(self._listener.acceptor.http(request), with_body=request.method != "HEAD")
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self._listener.log.exception("cannot respond to %r", request)
            response = http_response(PlainResponse(500))
        self._send_last(response)

    def _decide(self, request: Request, key: str) -> None:
        """Ask the core for a decision; wait in a task only if the decision is an awaitable."""
        try:
            decision = self._listener.acceptor.upgrade(request)
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self._fail(error)
            return
        if isinstance(decision, (Accept, Refuse, PlainResponse)):
            self._carry_out(decision, request, key)
            return
        self._deciding = self._listener.loop.create_task(self._wait_for(decision, request, key))
        if inspect.iscoroutine(decision):
            # A task that is cancelled before its first step does not await it.
            self._deciding.add_done_callback(lambda _: decision.close())

    async def _wait_for(self, decision: Awaitable[Decision], request: Request, key: str) -> None:
        assert self._transport is not None
        try:
            decided = await decision
        except asyncio.CancelledError:
            decided = Refuse(1011, "no decision within the open timeout")
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self._fail(error)
            return
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._carry_out(decided, request, key)

    def _carry_out(self, decision: Decision, request: Request, key: str) -> None:
        """Send the response to a decision; a decision that cannot be carried out is an error of the core."""
        try:
            if isinstance(decision, PlainResponse):
                last = http_response(decision)
                self._respond_after(decision.delay, lambda: self._send_last(last))
                return
            check_subprotocol(decision.subprotocol, request)
            assert self._transport is not None
            connection = self._listener.connection(self._transport, request, decision.subprotocol)
            if isinstance(decision, Refuse):
                response = accept_response(key, decision.subprotocol, None)
                close_frame(decision.code, decision.reason)  # raises for an invalid code before the 101 is sent
            else:
                response = accept_response(key, decision.subprotocol, connection.extensions, decision.headers)
        except Exception as error:  # noqa: BLE001 - _fail() logs it
            self._fail(error)
            return
        if isinstance(decision, Refuse):
            refuse = decision
            self._respond_after(refuse.delay, lambda: self._refuse(refuse, connection, response))
        else:
            self._open(decision, connection, response)

    def _fail(self, error: BaseException) -> None:
        """Log that the decision raised or cannot be carried out, and respond with 500."""
        self._listener.log.error("deciding on an upgrade failed", exc_info=error)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._send_last(http_response(PlainResponse(500)))

    # Responding ---------------------------------------------------------------------------------------------------

    def _open(self, accept: Accept, connection: AsyncioConnection, response: bytes) -> None:
        """Send the 101 response and pass the transport to the connection."""
        assert self._transport is not None
        transport = self._transport
        transport.write(response)
        received, self._buffer = self._buffer, b""
        self._end()
        transport.set_protocol(connection)
        self._listener.connections.add(connection)
        try:
            receiver = accept.opened(connection)
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self._listener.log.exception("opening a connection failed")
            self._listener.add_pending(connection, connection.request.remote_address)
            connection.close(1011, "the server failed to open the connection")
            connection.discard(received)
            return
        connection.start(receiver, received)

    def _respond_after(self, delay: float, respond: Callable[[], None]) -> None:
        """Respond after ``delay`` seconds, unless the client leaves before."""
        if delay <= 0:
            respond()
            return
        transport = self._transport
        assert transport is not None
        self._deciding = None
        self._delayed = True

        def respond_late() -> None:
            if not transport.is_closing():
                transport.resume_reading()
                respond()

        self._restart_timer(delay, respond_late)

    def _refuse(self, refuse: Refuse, connection: AsyncioConnection, response: bytes) -> None:
        """Send the 101 response and a close frame; the connection waits for the client's close frame."""
        assert self._transport is not None
        received, self._buffer = self._buffer, b""
        self._end()
        self._transport.set_protocol(connection)
        self._listener.add_pending(connection, connection.request.remote_address)
        connection.refuse(response, refuse.code, refuse.reason, received)

    def _send_last(self, data: bytes) -> None:
        """Send the only response, then drop what comes until the client or the timer closes the connection."""
        assert self._transport is not None
        self._done = True
        self._buffer = b""
        seconds = self._listener.limits.close_timeout + len(data) / _SLOWEST_READER
        if not self._transport.can_write_eof():
            self._write_to_tls(data)
            self._restart_timer(seconds)
            return
        self._transport.write(data)
        with contextlib.suppress(OSError):  # the client has reset the connection
            self._transport.write_eof()
        self._restart_timer(seconds)

    def _write_to_tls(self, data: bytes) -> None:
        """Write in pieces, each when the one before has left the TLS layer, and then close.

        Closing starts the timeout of the TLS shutdown, in which only a little can still be sent.
        """
        assert self._transport is not None
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._unsent = memoryview(data)
        self._write_piece()

    def _write_piece(self) -> None:
        transport = self._transport
        assert transport is not None
        while self._unsent and not self._write_paused and not transport.is_closing():
            piece, self._unsent = self._unsent[:_TLS_PIECE], self._unsent[_TLS_PIECE:]
            transport.write(piece)
        if not self._unsent and not self._write_paused:
            self._listener.loop.call_later(_TLS_LINGER, transport.close)

    def pause_writing(self) -> None:
        """Note that the TLS layer holds data (asyncio)."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Note that the TLS layer holds no data any more (asyncio)."""
        self._write_paused = False
        if self._done:
            self._write_piece()

    # Ending -------------------------------------------------------------------------------------------------------

    def _restart_timer(self, seconds: float, action: Callable[[], None] | None = None) -> None:
        self._timer.cancel()
        self._timer = self._listener.loop.call_later(seconds, action or self._expire)

    def _expire(self) -> None:
        """End the connection: the time for the handshake, or for the client to close after a response, is over."""
        if self._deciding is not None and not self._deciding.done() and not self._expired:
            self._expired = True
            self._deciding.cancel()
            self._restart_timer(self._listener.limits.close_timeout)
        elif self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """Stop, because the TLS handshake has failed."""
        self._done = True
        self._end()

    def drop(self) -> None:
        """Close without a response, because the listener stops."""
        self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._deciding is not None:
            self._deciding.cancel()
        if self._transport is not None:
            self._transport.abort()
        elif self._abandon is not None:
            self.give_up()
            self._abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client is gone (asyncio)."""
        self._done = True
        self._end()
        release_buffer(self._transport)
        if self._deciding is not None:
            self._deciding.cancel()

    def _end(self) -> None:
        self._timer.cancel()
        self._listener.pending.discard(self)


def check_subprotocol(chosen: str | None, request: Request) -> None:
    """Check the subprotocol of a decision. Raises ValueError if the client has not offered it."""
    if chosen is not None and chosen not in request.subprotocols:
        offered = ", ".join(request.subprotocols) or "none"
        raise ValueError(f"subprotocol must be one that the client offered ({offered}), got {chosen!r}")


def _address(found: object) -> Address:
    """Return the address of a socket; None for a Unix socket."""
    return cast("Address", found) if isinstance(found, tuple) else None
