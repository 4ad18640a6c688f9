"""The contract between the core and a backplane, which carries messages between processes.

A plugin knows how to be connected to its engine once. The core does the rest, for all engines: it connects again,
subscribes again, proves the path with a probe, limits every wait and every queue, and encodes the messages. So a plugin
must turn off the reconnecting and the retries of its library.

1. The core calls :meth:`Backplane.connect` and gets an :class:`EngineConnection`, which lives once.
2. The connection passes messages to the :class:`Sink`, and reports its end there, once.
3. After the end the core drops the connection, waits, and connects again.

All calls happen in the thread of one event loop. The core may cancel any coroutine of a connection, for example because
its time is over. The connection must stay usable then, or report its end.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from zcli_core.errors import BackplaneFailure


class Capability(enum.Flag):
    """What an engine offers beyond carrying messages."""

    NONE = 0
    #: It reaches other processes. Without this the core does not connect, because it serves its own clients itself.
    REMOTE = enum.auto()
    #: :meth:`EngineConnection.publish` returns how many connections took the message.
    COUNTS = enum.auto()
    #: :meth:`EngineConnection.beat`, ``enter``, ``leave``, ``present``, ``count`` and ``processes`` work.
    PRESENCE = enum.auto()


class Member(NamedTuple):
    """A client in a room."""

    #: Identifier of the process that serves the client.
    process: str
    #: Identifier of the connection, unique in its process.
    connection: str
    #: The identity that an auth strategy gave it; None without authentication.
    identity: str | None
    #: What the client joined with: ``join(room, data={"name": "Ann"})``.
    data: Mapping[str, str]


class EngineReport(NamedTuple):
    """What ``zcli doctor`` shows about an engine."""

    #: Name and version, such as ``"Valkey 9.1.0"``.
    engine: str
    #: One sentence for each thing that an operator should change: what is wrong, the value, and what to do.
    problems: tuple[str, ...] = ()


class Sink(Protocol):
    """The core's side of a connection. Both are plain functions that neither wait nor raise."""

    def message(self, channel: str, data: bytes) -> None:
        """Handle a message of a subscribed channel, the connection's own messages included.

        A connection that has many messages at once must let the event loop run from time to time: after at most 256.
        """

    def lost(self, failure: BackplaneFailure) -> None:
        """Handle the end of the connection. Called at most once, never for :meth:`EngineConnection.close`.

        However a connection ends, this is called: by an error, by the end of its data, by a bug in a reading task. No
        :meth:`message` follows. Calls that still wait raise the same failure.
        """


class EngineConnection(ABC):
    """One connection to an engine, from :meth:`Backplane.connect` to its end.

    A channel is 1 to 280 bytes of UTF-8 without control characters. It may contain any other character, such as spaces,
    dots and asterisks. The plugin translates it to a name of its engine, under ``backplane.namespace``.

    A message is any bytes, also none.
    """

    #: Largest message that the engine accepts, in bytes; None if it states none.
    max_payload: int | None = None

    @abstractmethod
    async def subscribe(self, channels: Collection[str]) -> None:
        """Subscribe, and return when the engine has confirmed it.

        What is published from then on arrives, or ``lost`` is called.

        Raises:
            BackplaneFailure: The engine refuses one of them (``"refused"``; the connection goes on, and the caller
                subscribes to fewer), or the connection has ended.
        """

    @abstractmethod
    async def unsubscribe(self, channels: Collection[str]) -> None:
        """End subscriptions. Messages may arrive until it returns. Raises as :meth:`subscribe` does."""

    @abstractmethod
    async def publish(self, channel: str, data: bytes) -> int | None:
        """Send a message once. It is never sent again.

        The messages of one connection are sent in the order of the calls, and several calls may wait at the same time.

        Returns:
            The number of connections that took it, with :attr:`Capability.COUNTS`; otherwise None.

        Raises:
            BackplaneFailure: It was not sent, or may not have been sent (``maybe_delivered``).
        """

    @abstractmethod
    async def close(self) -> None:
        """End the connection and all that belongs to it. Does not wait for a frozen engine, and raises nothing."""

    async def report(self, largest_message: int) -> EngineReport:
        """Describe the engine and check its configuration.

        Args:
            largest_message: Largest message that the core publishes, in bytes.
        """
        raise NotImplementedError

    # Presence: Capability.PRESENCE ------------------------------------------------------------------------------------

    async def beat(self, seconds: float) -> None:
        """State that the process is alive. If it does not do so again within ``seconds``, its members are gone.

        If the engine has forgotten the process, because this call came too late or the engine has lost its data, the
        connection ends (``lost``, and a BackplaneFailure), so that the core enters all members again.
        """
        raise NotImplementedError

    async def enter(self, members: Collection[tuple[str, Member]]) -> None:
        """Add members to rooms, as pairs of room and member. A member that is there already gets the new data."""
        raise NotImplementedError

    async def leave(self, members: Collection[tuple[str, str]]) -> None:
        """Remove this process's members from rooms, as pairs of room and connection identifier."""
        raise NotImplementedError

    async def present(self, room: str, limit: int) -> tuple[Member, ...]:
        """Return at most ``limit`` members of a room that belong to processes that are alive."""
        raise NotImplementedError

    async def count(self, room: str) -> int:
        """Return the number of members of a room that belong to processes that are alive."""
        raise NotImplementedError

    async def processes(self) -> tuple[str, ...]:
        """Return the identifiers of the processes that are alive."""
        raise NotImplementedError


class Backplane(ABC):
    """The product of a provider's factory: knows the engine's address, holds no connection."""

    #: What the engine offers.
    capabilities: Capability = Capability.NONE

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the engine is, for logs and errors, without credentials: ``"127.0.0.1:6379"``.

        It is not a URL, because the log hides a setting that may hold a password as a whole.
        """

    @abstractmethod
    async def connect(self, process: str, sink: Sink) -> EngineConnection:
        """Connect to the engine.

        Args:
            process: Identifier of this process's connection, 16 hexadecimal digits. Presence uses it.
            sink: Where messages go.

        Raises:
            BackplaneFailure: The engine cannot be reached, refuses the credentials, or is unusable.
        """
