"""For whom a message is, and what became of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.errors import BackplaneFailure
from zcli_core.websocket.blocking import BlockingConnection
from zcli_core.websocket.connection import ServerConnection, as_server_connection
from zcli_core.websocket.rooms import IDENTITY_MARK, check_room, identity_room

if TYPE_CHECKING:
    from typing import Any

#: A client as a handler gets it, async or plain.
Client = ServerConnection | BlockingConnection
#: A room, ``"@identity"`` for all clients of one identity, or a client.
Recipient = str | Client


class Delivery(int):
    """To how many clients of this process a message was sent. It is an ``int``.

    Attributes:
        processes: Number of other processes that took the message; None if the backplane does not say so, if nothing
            was published on it, or if the message was for several rooms.
        failure: Why the message did not reach other processes; None if it did, or if none should get it.
    """

    processes: int | None
    failure: BackplaneFailure | None

    def __new__(
        cls, clients: int = 0, processes: int | None = None, failure: BackplaneFailure | None = None
    ) -> Delivery:
        """Make the result."""
        self = super().__new__(cls, clients)
        self.processes = processes
        self.failure = failure
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return int(self), self.processes, self.failure

    def __str__(self) -> str:
        return int.__repr__(self)

    def __repr__(self) -> str:
        more = f", processes={self.processes}" if self.processes is not None else ""
        more += f", failure={self.failure!r}" if self.failure is not None else ""
        return f"Delivery({self}{more})"


class Recipients(NamedTuple):
    """Rooms (those of identities included) and clients."""

    rooms: tuple[str, ...] = ()
    clients: frozenset[ServerConnection] | tuple[ServerConnection, ...] = ()


#: Excludes nothing.
NONE = Recipients()


_TO = "a room, '@identity' or a client"
_EXCLUDE = "a client or '@identity'"


def parse_recipients(argument: str, given: object, expected: str = _TO) -> Recipients:
    """Return the recipients that an argument names, once or as an iterable.

    Args:
        argument: Name of the argument, for errors.
        given: Its value.
        expected: What the argument takes, for errors.

    Raises:
        TypeError: It is None, or has something other than rooms, identities and clients.
        ValueError: The name of a room is invalid.
    """
    if given is None:
        raise TypeError(f"{argument} must be {expected}, or an iterable of these, got None")
    if isinstance(given, str):
        return Recipients((parse_room(given),))
    if not isinstance(given, Iterable) or isinstance(given, (BlockingConnection, ServerConnection, bytes)):
        return Recipients((), (as_server_connection(given, argument, expected),))
    items = tuple(given)
    if set(map(type, items)) == {ServerConnection}:  # a thousand clients are checked in microseconds
        return Recipients((), tuple(dict.fromkeys(items)))
    rooms: dict[str, None] = {}
    clients: dict[ServerConnection, None] = {}
    for each in items:
        if isinstance(each, str):
            rooms[parse_room(each)] = None
        else:
            clients[as_server_connection(each, f"each item of {argument}", expected)] = None
    return Recipients(tuple(rooms), tuple(clients))


def parse_excluded(given: object) -> Recipients:
    """Return the clients and identities that ``exclude`` names.

    Raises:
        TypeError: It has something else, such as a room.
    """
    if given is None:
        return NONE
    found = parse_recipients("exclude", given, _EXCLUDE)
    for room in found.rooms:
        if not room.startswith(IDENTITY_MARK):
            raise TypeError(f"exclude must be {_EXCLUDE}, or an iterable of these, got the room {room!r}")
    return Recipients(found.rooms, frozenset(found.clients))


def parse_room(name: str) -> str:
    """Return the name of a room, or the room of an identity for ``"@identity"``. Raises as :func:`check_room` does."""
    if isinstance(name, str) and len(name) > 1 and name.startswith(IDENTITY_MARK):
        return identity_room(name[1:])
    return check_room(name)


class DeliveryFuture(Future[Delivery]):
    """A future whose ``result()`` raises where it would wait for the event loop that calls it."""

    def __init__(self, loops: Sequence[asyncio.AbstractEventLoop]) -> None:
        """Make the future; ``loops`` are the event loops that the message needs."""
        super().__init__()
        self._loops = loops

    def result(self, timeout: float | None = None) -> Delivery:
        """Wait for the result.

        Raises:
            RuntimeError: It is called in an event loop of the server, which would wait for itself.
        """
        if not self.done() and asyncio._get_running_loop() in self._loops:
            raise RuntimeError(
                "result() would block the event loop of the server forever; use 'await "
                "z.comm.websocket.broadcast(...)', or publish() without result()"
            )
        return super().result(timeout)


def delivery(
    local: Sequence[Future[int]],
    remote: Future[int | None] | None,
    loops: Sequence[asyncio.AbstractEventLoop] = (),
) -> Future[Delivery]:
    """Return a future of what became of a message.

    Args:
        local: For each server of this process, the number of its clients. A server that has stopped counts as 0.
        remote: The number of other processes; None if nothing was published.
        loops: The event loops of the servers.
    """
    waited: tuple[Future[Any], ...] = (*local, remote) if remote is not None else tuple(local)
    result = DeliveryFuture(loops)
    left = itertools.count(len(waited) - 1, -1)

    def ended(_: object) -> None:
        if next(left) <= 0 and result.set_running_or_notify_cancel():
            try:
                clients = sum(each.result() for each in local if not each.cancelled())
                result.set_result(Delivery(clients, *_outcome(remote)))
            except Exception as error:  # noqa: BLE001 - the caller gets it from the future
                result.set_exception(error)

    for each in waited:
        each.add_done_callback(ended)
    if not waited:
        ended(None)
    return result


def _outcome(remote: Future[int | None] | None) -> tuple[int | None, BackplaneFailure | None]:
    if remote is None:
        return None, None
    if remote.cancelled():
        return None, BackplaneFailure("down", "the link to other processes has ended", maybe_delivered=True)
    error = remote.exception()
    if isinstance(error, BackplaneFailure):
        return None, error
    return remote.result(), None
