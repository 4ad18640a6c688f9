"""The requests of one client: handled at the same time, each with one response."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_bifrost.data.errors import DataError
from zcli_bifrost.messages import (
    InvalidMessage,
    Request,
    RequestId,
    Result,
    error_message,
    parse_request,
    result_message,
)
from zcli_core.errors import ConnectionClosed, EventError, is_ctrl_c
from zcli_core.websocket.contract import State

if TYPE_CHECKING:
    from zcli_bifrost.data.actor import Actor
    from zcli_core.websocket.connection import ServerConnection

#: Most plain functions that run for one client at a time, each in a thread of its own; further ones wait.
MAX_THREADS = 8
#: What a large response may add to what the client has not read yet.
_UNREAD = 64 * 1024

#: Handles an event of a client.
EventHandler = Callable[["BifrostClient", dict[str, Any]], Awaitable[Result]]
_NO_FIELDS: dict[str, str] = {}


class Limits(NamedTuple):
    """The limits of each client.

    Attributes:
        requests: Most requests that are handled at the same time.
        response: Size of the largest response, in bytes.
    """

    requests: int
    response: int


class BifrostClient:
    """A connected client.

    Attributes:
        connection: Its connection.
        actor: On whose behalf it reads and changes data.
        threads: Limits the plain functions that run for it.
    """

    def __init__(self, connection: ServerConnection, actor: Actor, limits: Limits, log: logging.Logger) -> None:
        self.connection = connection
        self.actor = actor
        self.threads = asyncio.Semaphore(MAX_THREADS)
        self._limits = limits
        self._log = log
        self._requests = 0
        self._ids: set[RequestId] = set()
        # One response at a time waits for a client that reads slowly, so that all together stay within its limit.
        self._sending = asyncio.Lock()

    async def receive(self, message: str | bytes, find: Callable[[str], EventHandler | None]) -> None:
        """Begin to handle a message. Return when the next one may be handled."""
        try:
            request = parse_request(message)
        except InvalidMessage as invalid:
            await self._send_error(invalid.request_id, str(invalid), "invalid")
            return
        handler = find(request.event)
        if handler is None:
            await self._send_error(request.request_id, f"unknown event {request.event!r}", "not_found")
        elif request.request_id in self._ids:
            text = f"a request with the _requestId {request.request_id!r} is being handled already"
            await self._send_error(request.request_id, text, "conflict")
        elif self._requests >= self._limits.requests:
            text = f"{self._requests} requests of this client are being handled already; wait for a response"
            await self._send_error(request.request_id, text, "too_many")
        else:
            self._requests += 1
            if request.request_id is not None:
                self._ids.add(request.request_id)
            self.connection.start_task(self._handle(request, handler))

    async def _handle(self, request: Request, handler: EventHandler) -> None:
        try:
            response = await self._respond(request, handler)
            if response is not None:
                await self._send(response)
        finally:
            self._requests -= 1
            if request.request_id is not None:
                self._ids.discard(request.request_id)

    async def _respond(self, request: Request, handler: EventHandler) -> str | None:
        """Return the response to a request; None if it needs none."""
        request_id = request.request_id
        try:
            result = await handler(self, request.data)
        except (EventError, DataError) as error:
            return self._error(request_id, error.text, error.code, error.fields)
        except BaseException as error:
            if self._ends_more_than_a_request(error):
                raise
            # The text of the error is for the log only: it may show what the client must not know.
            self._log.exception("the handler of the event %r failed for %r", request.event, self.connection)
        else:
            if request_id is None:
                return None
            response = result_message(request_id, result)
            if _size(response) <= self._limits.response:
                return response
            text = "the result of the event %r for %r has %d bytes; a response may have %d (websocket.max_send_buffer)"
            self._log.error(text, request.event, self.connection, _size(response), self._limits.response)
            return self._error(request_id, "the request was handled, but its result is too large to be sent", "failed")
        return self._error(request_id, "the server failed to handle the request", "failed")

    def _ends_more_than_a_request(self, error: BaseException) -> bool:
        """Whether an error says that the connection has ended, or must end the task or the program."""
        if isinstance(error, ConnectionClosed):
            return error.connection is self.connection
        if isinstance(error, asyncio.CancelledError):  # also what a handler raises itself
            return self.connection.state is not State.OPEN
        return is_ctrl_c(error) or isinstance(error, GeneratorExit)

    def _error(self, request_id: RequestId | None, text: str, code: str, fields: dict[str, str] = _NO_FIELDS) -> str:
        return error_message(request_id, text, code, fields)

    async def _send_error(self, request_id: RequestId | None, text: str, code: str) -> None:
        await self._send(self._error(request_id, text, code))

    async def _send(self, message: str) -> None:
        async with self._sending:
            await self.connection.send(message)


def largest_response(max_send_buffer: int) -> int:
    """Return the size of the largest response, in bytes, that does not end the connection of a client that reads."""
    return max(max_send_buffer - _UNREAD, max_send_buffer // 2)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
