"""The backplane ``nats``: connects, publishes and subscribes."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from typing import Any

from zcli_core.backplane.contract import Backplane, Capability, EngineConnection, EngineReport, Sink
from zcli_core.backplane.parts.failures import unreachable
from zcli_core.errors import BackplaneFailure
from zcli_core.printable import printable
from zcli_nats.address import Address
from zcli_nats.failures import no_tls
from zcli_nats.stream import NatsStream


class NatsBackplane(Backplane):
    """A NATS server, or any server of a cluster."""

    capabilities = Capability.REMOTE

    def __init__(self, address: Address, namespace: str) -> None:
        self._address = address
        self._namespace = namespace

    @property
    def address(self) -> str:
        """Such as ``"nats://127.0.0.1:4222"``."""
        return str(self._address)

    async def connect(self, process: str, sink: Sink) -> NatsConnection:
        """Connect and log in."""
        connection = NatsConnection(self._address, self._namespace, sink)
        try:
            await connection.open(process)
        except BaseException:
            await connection.close()
            raise
        return connection


class NatsConnection(EngineConnection):
    """One socket. The subject of a channel is the namespace and the channel in hexadecimal digits."""

    def __init__(self, address: Address, namespace: str, sink: Sink) -> None:
        self._address = address
        self._namespace = namespace
        self._sink = sink
        self._stream = NatsStream(str(address), self._ended, self._received, address.login_from)
        self._is_open = False
        self._last_number = 0
        self._numbers: dict[str, bytes] = {}
        self._channels: dict[bytes, str] = {}

    @property
    def max_payload(self) -> int | None:  # type: ignore[override]  # the server may change it at any time
        """Largest message that the server accepts, in bytes."""
        size = self._stream.info.get("max_payload")
        return size if isinstance(size, int) else None

    async def open(self, process: str) -> None:
        """Connect, begin TLS if the server or the URL wants it, and log in."""
        address = self._address
        try:
            await self._stream.loop.create_connection(lambda: self._stream, address.host, address.port)
            info = await self._stream.greeting()
            if info.get("tls_required") or (address.tls and info.get("tls_available")):
                await self._stream.encrypt(address.context, address.host)
            elif address.tls:
                raise no_tls(str(address))
        except (OSError, ValueError) as error:
            raise self._stream.failure or unreachable(str(address), "backplane.nats", error) from error
        await self._stream.confirmed(b"CONNECT %b\r\n" % json.dumps(self._login(process, info)).encode())
        self._is_open = True

    def _login(self, process: str, info: dict[str, Any]) -> dict[str, Any]:
        """Return the options of CONNECT."""
        address = self._address
        options: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "echo": True,
            "name": f"zcli-{process}",
        }
        if address.credentials is not None:
            signature = address.credentials.sign(str(info.get("nonce", "")).encode())
            encoded = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
            options.update(jwt=address.credentials.token, sig=encoded)
        elif address.user is not None:
            options.update(user=address.user, **{"pass": address.password})
        elif address.token is not None:
            options.update(auth_token=address.token)
        return options

    def _ended(self, failure: BackplaneFailure) -> None:
        was_open, self._is_open = self._is_open, False
        if was_open:
            self._sink.lost(failure)

    def _received(self, subscription: bytes, data: bytes) -> None:
        channel = self._channels.get(subscription)
        if channel is not None:
            self._sink.message(channel, data)

    def _subject(self, channel: str) -> bytes:
        return f"{self._namespace}.{channel.encode('utf-8', 'surrogatepass').hex()}".encode()

    async def subscribe(self, channels: Collection[str]) -> None:
        """Subscribe."""
        new = [channel for channel in dict.fromkeys(channels) if channel not in self._numbers]
        commands = []
        for channel in new:
            self._last_number += 1
            number = b"%d" % self._last_number
            self._numbers[channel] = number
            self._channels[number] = channel
            commands.append(b"SUB %b %b\r\n" % (self._subject(channel), number))
        try:
            await self._stream.confirmed(b"".join(commands))
        except BackplaneFailure:
            # The server does not say which of them it refuses.
            self._stream.send(self._forget(new))
            raise

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """End subscriptions."""
        await self._stream.confirmed(self._forget(channels))

    def _forget(self, channels: Collection[str]) -> bytes:
        """Return the commands that end subscriptions; no message is passed on from now on."""
        numbers = [self._numbers.pop(channel) for channel in dict.fromkeys(channels) if channel in self._numbers]
        for number in numbers:
            del self._channels[number]
        return b"".join(b"UNSUB %b\r\n" % number for number in numbers)

    async def publish(self, channel: str, data: bytes) -> None:
        """Publish; returns when the server has the message."""
        limit = self.max_payload
        if limit is not None and len(data) > limit:
            text = f"{self._address}: the message has {len(data)} bytes, the server accepts {limit} (max_payload)"
            raise BackplaneFailure("too_large", text)
        command = b"PUB %b %d\r\n%b\r\n" % (self._subject(channel), len(data), data)
        await self._stream.confirmed(command, droppable=True)

    async def report(self, largest_message: int) -> EngineReport:
        """Report the version, and whether the server accepts the largest message."""
        await self._stream.confirmed(b"")
        problems = []
        limit = self.max_payload
        if limit is not None and limit < largest_message:
            problems.append(
                f"max_payload is {limit} bytes, but a message may have {largest_message} bytes; raise max_payload on "
                "the server, or lower backplane.max_message"
            )
        version = printable(str(self._stream.info.get("version", "(unknown version)")))
        return EngineReport(f"NATS {version}", tuple(problems))

    async def close(self) -> None:
        """Drop the socket."""
        self._is_open = False
        await self._stream.close()
