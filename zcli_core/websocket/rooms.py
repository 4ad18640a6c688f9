"""The rooms of one running server: which clients are in which room."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from zcli_core.backplane.contract import Member
from zcli_core.errors import ConnectionClosed
from zcli_core.websocket.contract import State

if TYPE_CHECKING:
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import Connection

#: Longest name of a room, in bytes of UTF-8.
MAX_ROOM_BYTES = 255
#: Most bytes of UTF-8 in the data that a client joins with, keys and values together.
MAX_DATA_BYTES = 1024
#: First character of the rooms that hold the clients of one identity.
IDENTITY_MARK = "@"
#: Begins what replaces an identity that cannot be part of a name.
_HASHED = "sha256:"

#: A run hook about a client and a room; None if no plugin implements it.
RoomObserver = Callable[["ServerConnection", str], None] | None


class RoomLink(Protocol):
    """What the rooms use of the link to other processes."""

    async def add(self, room: str) -> Any:
        """Receive the messages of a room from now on; return when the engine has confirmed it, or its time is over."""

    def remove(self, room: str) -> None:
        """Receive the messages of a room no longer."""

    def enter(self, room: str, member: Member) -> None:
        """Show a client as present."""

    def leave(self, room: str, connection: str) -> None:
        """Show a client as present no longer."""


def check_room(room: object) -> str:
    """Return the name of a room.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty, longer than 255 bytes of UTF-8, has a control character, or begins with ``@``.
    """
    if not isinstance(room, str):
        raise TypeError(f"a room must be a string, got {type(room).__name__}")
    shown = repr(room if len(room) <= 40 else f"{room[:40]}...")
    if room.startswith(IDENTITY_MARK):
        raise ValueError(
            f"the name of a room to join must not begin with @, got {shown}; each authenticated client is in the room "
            "of its identity already"
        )
    problem = _name_problem(room)
    if problem is not None:
        raise ValueError(f"the name of a room must be 1 to {MAX_ROOM_BYTES} bytes of UTF-8, {shown} {problem}")
    return room


def _name_problem(name: str) -> str | None:
    if not name:
        return "is empty"
    if not name.isprintable() and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in name):
        return "has a control character"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "has a lone surrogate"
    return None if size <= MAX_ROOM_BYTES else f"has {size}"


def identity_room(identity: str) -> str:
    """Return the room of an identity. If the identity cannot be part of a name, its hash is used.

    An identity that looks like such a hash is hashed too, so that two identities never share a room.
    """
    room = IDENTITY_MARK + identity
    if _name_problem(room) is None and not identity.startswith(_HASHED):
        return room
    return f"{IDENTITY_MARK}{_HASHED}{hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _check_data(data: object) -> Mapping[str, str]:
    if data is None:
        return {}
    if not isinstance(data, Mapping) or not all(isinstance(text, str) for item in data.items() for text in item):
        raise TypeError(f"data must be a mapping of str to str, got {data!r:.80}")
    size = sum(len(text.encode("utf-8", "surrogatepass")) for item in data.items() for text in item)
    if size > MAX_DATA_BYTES:
        raise ValueError(f"data must be at most {MAX_DATA_BYTES} bytes, got {size}")
    return dict(data)


class Rooms:
    """The rooms of one running server. Use it in the thread of its event loop only."""

    def __init__(self, limit: int, limit_text: str, joined: RoomObserver, left: RoomObserver) -> None:
        """Make the object.

        Args:
            limit: Most rooms of one client, besides that of its identity.
            limit_text: The setting of the limit and where it was set, for an error.
            joined: The run hook ``zcli_websocket_joined``.
            left: The run hook ``zcli_websocket_left``.
        """
        #: The clients of each room, each with the transport's side of the connection, in the order of joining.
        self.members: dict[str, dict[ServerConnection, Connection]] = {}
        #: Identifier of this server in the list of who is present.
        self.process = secrets.token_hex(8)
        #: The link to other processes; None if there is none.
        self.link: RoomLink | None = None
        self._limit = limit
        self._limit_text = limit_text
        self._joined = joined
        self._left = left

    async def join(self, client: ServerConnection, room: str, data: Mapping[str, str] | None) -> None:
        """Add a client to a room; see :meth:`ServerConnection.join`."""
        check_room(room)
        checked = _check_data(data)
        if client.state is not State.OPEN:
            raise ConnectionClosed(client.close_code or 1006, client.close_reason or "", client)
        joined = client._rooms
        if joined is None:
            joined = client._rooms = {}
        is_new = room not in joined
        if is_new and len(joined) >= self._limit:
            raise RuntimeError(f"the client is in {self._limit} rooms already, which is the limit ({self._limit_text})")
        joined[room] = checked
        link = self.link
        if is_new:
            self._add(room, client)
            if self._joined is not None:
                self._joined(client, room)
        if link is not None:
            try:
                if is_new:
                    await link.add(room)
            finally:  # also if the call was cancelled, because the client is in the room
                # The client may have left while the engine confirmed.
                if client in self.members.get(room, ()):
                    link.enter(room, self._member(client, joined[room]))

    def leave(self, client: ServerConnection, room: str) -> None:
        """Remove a client from a room; do nothing if it is not in it."""
        check_room(room)
        if client in self.members.get(room, ()):
            assert client._rooms is not None
            del client._rooms[room]
            self._remove(room, client)

    # --- a client connects and disconnects ---

    def enter_identity(self, client: ServerConnection, identity: str) -> None:
        """Add a new client to the room of its identity."""
        self._add(identity_room(identity), client)

    async def confirm_identity(self, client: ServerConnection) -> None:
        """Wait until messages of other processes to the client's identity arrive."""
        identity = client._admission.identity
        if self.link is not None and identity is not None:
            room = identity_room(identity)
            if client in self.members.get(room, ()):  # it may have disconnected already
                await self.link.add(room)
            if client in self.members.get(room, ()):
                self.link.enter(room, self._member(client, {}))

    def leave_all(self, client: ServerConnection) -> None:
        """Remove a client that has disconnected. ``client.rooms`` still shows where it was."""
        for room in client._rooms or ():
            self._remove(room, client)
        identity = client._admission.identity
        if identity is not None:
            room = identity_room(identity)
            self._forget(room, client)
            if self.link is not None:
                self.link.leave(room, client.id.hex)

    def _add(self, room: str, client: ServerConnection) -> None:
        members = self.members.get(room)
        if members is None:
            members = self.members[room] = {}
        members[client] = client._connection

    def _remove(self, room: str, client: ServerConnection) -> None:
        self._forget(room, client)
        if self.link is not None:
            self.link.leave(room, client.id.hex)
        if self._left is not None:
            self._left(client, room)

    def _forget(self, room: str, client: ServerConnection) -> None:
        members = self.members.get(room)
        if members is None or members.pop(client, None) is None:
            return
        if not members:
            del self.members[room]
            if self.link is not None:
                self.link.remove(room)

    # --- who is there ---

    def counts(self) -> dict[str, int]:
        """Return the number of members of each room. May be called from any thread."""
        return {room: len(members) for room, members in list(self.members.items()) if room[0] != IDENTITY_MARK}

    def count(self, room: str) -> int:
        """Return the number of members of a room. May be called from any thread."""
        return len(self.members.get(room, ()))

    def present(self, room: str, limit: int) -> list[Member]:
        """Return at most ``limit`` clients of a room that this server serves."""
        clients = itertools.islice(self.members.get(room, ()), limit)
        return [self._member(client, (client._rooms or {}).get(room, {})) for client in clients]

    def _member(self, client: ServerConnection, data: Mapping[str, str]) -> Member:
        return Member(self.process, client.id.hex, client._admission.identity, data)

    def members_of(self, rooms: Iterable[str]) -> dict[ServerConnection, Connection]:
        """Return the clients of several rooms, each once."""
        found: dict[ServerConnection, Connection] = {}
        for room in rooms:
            found.update(self.members.get(room, {}))
        return found
