"""The backplane ``redis``: connects, publishes and subscribes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from zcli_core.backplane.contract import Backplane, Capability, EngineConnection, EngineReport, Member, Sink
from zcli_core.backplane.parts.failures import unreachable
from zcli_core.errors import BackplaneFailure
from zcli_redis_backplane import checks, failures
from zcli_redis_backplane.address import Address
from zcli_redis_backplane.presence import Presence
from zcli_redis_backplane.resp import ErrorReply, encode, encode_publish
from zcli_redis_backplane.stream import RedisStream
from zcli_redis_backplane.subscriptions import Subscriptions


class RedisBackplane(Backplane):
    """Redis 6.2 or later, or Valkey, as a single server or as the primary of replicas."""

    capabilities = Capability.REMOTE | Capability.COUNTS | Capability.PRESENCE

    def __init__(self, address: Address, namespace: str, presence_timeout: float) -> None:
        self._address = address
        self._namespace = namespace
        self._presence_timeout = presence_timeout

    @property
    def address(self) -> str:
        """Such as ``"redis://127.0.0.1:6379"``."""
        return str(self._address)

    async def connect(self, process: str, sink: Sink) -> RedisConnection:
        """Connect and log in twice: Redis allows no other commands on a connection that has subscribed."""
        connection = RedisConnection(self._address, self._namespace, sink)
        try:
            await connection.open(process, self._presence_timeout)
        except BaseException:
            await connection.close()
            raise
        return connection


class RedisConnection(EngineConnection):
    """Two sockets that end together: one for commands, one for messages."""

    _commands: RedisStream
    _messages: RedisStream
    _presence: Presence

    def __init__(self, address: Address, namespace: str, sink: Sink) -> None:
        self._where = str(address)
        self._address = address
        self._prefix = f"{namespace}:"
        self._sink = sink
        self._streams: list[RedisStream] = []
        self._subscriptions = Subscriptions(self._where, self._prefix, sink.message)
        self._is_open = False

    async def open(self, process: str, presence_timeout: float) -> None:
        """Connect, log in, and check that the engine can be used."""
        self._commands = await self._open_stream(process)
        self._presence = Presence(self._commands, self._where, self._prefix, process, presence_timeout)
        info = await self._commands.execute(*checks.INFO)
        problem = checks.check_engine(self._where, checks.read_info(info))
        if problem is not None:
            raise problem
        self._messages = await self._open_stream(process, self._subscriptions.received)
        # The first socket may have ended while the second was opened.
        if self._commands.failure is not None:
            raise self._commands.failure
        self._is_open = True

    async def _open_stream(self, process: str, received: Callable[[bytes, bytes], None] | None = None) -> RedisStream:
        loop, address = asyncio.get_running_loop(), self._address
        stream = RedisStream(self._where, self._ended, received)
        self._streams.append(stream)
        try:
            if address.path is not None:
                await loop.create_unix_connection(lambda: stream, address.path)
            else:
                server_hostname = address.host if address.tls is not None else None
                await loop.create_connection(
                    lambda: stream, address.host, address.port, ssl=address.tls, server_hostname=server_hostname
                )
        except (OSError, ValueError) as error:
            raise unreachable(self._where, "backplane.redis", error) from error
        try:
            await self._log_in(stream, process)
        except BackplaneFailure as failure:
            if failure.kind == "down" and address.tls is None and address.path is None:
                hint = "if the server uses TLS, set backplane.redis.url to a rediss:// URL"
                raise BackplaneFailure("down", f"{failure} during the login; {hint}") from None
            raise
        return stream

    async def _log_in(self, stream: RedisStream, process: str) -> None:
        address = self._address
        if address.password is not None:
            login = (address.user, address.password) if address.user is not None else (address.password,)
            (reply,) = await stream.execute(encode("AUTH", *login))
            if isinstance(reply, ErrorReply):
                raise failures.login_refusal(self._where, reply, str(address.login_from))
        select = [encode("SELECT", address.database)] if address.database else []
        named, *selected = await stream.execute(encode("CLIENT", "SETNAME", f"zcli-{process}"), *select)
        # The name only helps an operator to find the connection, so a user who may not set it can connect.
        needed = selected if _is_forbidden(named) else [named, *selected]
        for reply in needed:
            if isinstance(reply, ErrorReply):
                raise failures.refusal(self._where, reply)

    def _ended(self, failure: BackplaneFailure) -> None:
        """End both sockets with the failure of one."""
        was_open, self._is_open = self._is_open, False
        for stream in self._streams:
            stream.end(failure)
        if was_open:
            self._presence.close()
            self._sink.lost(failure)

    # Messages ---------------------------------------------------------------------------------------------------------

    async def subscribe(self, channels: Collection[str]) -> None:
        """Subscribe."""
        await self._subscriptions.subscribe(self._messages, channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """End subscriptions."""
        await self._subscriptions.unsubscribe(self._messages, channels)

    async def publish(self, channel: str, data: bytes) -> int:
        """Publish, and return how many connections took the message."""
        command = encode_publish((self._prefix + channel).encode("utf-8", "surrogatepass"), data)
        (reply,) = await self._commands.request(command, droppable=True)
        if isinstance(reply, ErrorReply):
            raise failures.refusal(self._where, reply)
        return int(reply)

    async def report(self, largest_message: int) -> EngineReport:
        """Report the version, and settings of the engine that could disconnect or lose something."""
        replies = await self._commands.execute(*checks.INFO, *checks.CONFIG)
        info, config = replies[: len(checks.INFO)], replies[len(checks.INFO) :]
        return checks.report(checks.read_info(info), config, largest_message)

    async def close(self) -> None:
        """Drop both sockets, and end the presence of this process if the engine reads."""
        if self._is_open:
            self._is_open = False
            removal = self._presence.removal()
            if removal is not None:
                self._commands.send(removal)
            self._presence.close()
        for stream in self._streams:  # all at once, because this may be cancelled while it waits
            stream.drop()
        for stream in self._streams:
            await stream.close()

    # Presence ---------------------------------------------------------------------------------------------------------

    async def beat(self, seconds: float) -> None:
        """State that this process is alive."""
        await self._presence.beat(seconds)

    async def enter(self, members: Collection[tuple[str, Member]]) -> None:
        """Add members of this process."""
        await self._presence.enter(members)

    async def leave(self, members: Collection[tuple[str, str]]) -> None:
        """Remove members of this process."""
        await self._presence.leave(members)

    async def present(self, room: str, limit: int) -> tuple[Member, ...]:
        """Return members of a room."""
        return await self._presence.present(room, limit)

    async def count(self, room: str) -> int:
        """Return the number of members of a room."""
        return await self._presence.count(room)

    async def processes(self) -> tuple[str, ...]:
        """Return the processes that are alive."""
        return await self._presence.processes()


def _is_forbidden(reply: object) -> bool:
    return isinstance(reply, ErrorReply) and (reply.word == "NOPERM" or reply.text.startswith("ERR unknown command"))
