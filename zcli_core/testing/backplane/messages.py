"""Tests of subscribing and publishing while nothing fails."""

from __future__ import annotations

import asyncio

import pytest

from zcli_core.backplane.contract import Backplane, Capability, EngineConnection, EngineReport
from zcli_core.errors import BackplaneFailure
from zcli_core.plugins.contract import Provider
from zcli_core.testing.backplane.base import Base
from zcli_core.testing.backplane.engine import EngineProcess
from zcli_core.testing.backplane.peers import connected, in_loop, within

_OTHER = "8899aabbccddeeff"
#: Channels with every kind of character that some engine gives a meaning.
CHANNELS = (
    "all", "r:news", "r:two words", "r:a.b", "r:*", "r:>", "r:a:b", "r:[ab]", "r:ä€😀", "r:@ann", "r:" + "x" * 278,
    "p:0011223344556677", "r:\\", "r:{x}", "r:a/b?c#d%20",
)  # fmt: skip
MESSAGES = (b"", b"\0", b"x", b"\r\n", bytes(range(256)), "ä€😀".encode(), b"x" * 100_000)
_BURST = 10_000
#: Most messages that may arrive until the event loop runs once; the contract says 256.
_MOST_AT_ONCE = 512


class Messages(Base):
    """Subscribing and publishing."""

    def test_backplane_is_declared(self, plane: Backplane) -> None:
        """It states its capabilities and its address."""
        assert isinstance(plane, Backplane)
        assert isinstance(plane.capabilities, Capability)
        assert plane.address.strip()
        offered = self.offered("backplane")
        if isinstance(offered, Provider):
            assert offered.name == offered.name.lower().strip()

    @in_loop
    async def test_report_describes_the_engine(self, plane: Backplane) -> None:
        """It has a name, and a sentence for each problem."""
        async with connected(plane) as peer:
            report = await within(peer.connection.report(1_000_000), "report()")
        assert isinstance(report, EngineReport)
        assert report.engine.strip()
        assert all(isinstance(problem, str) and problem.strip() for problem in report.problems)

    @in_loop
    async def test_subscribe_confirmed_message_arrives(self, plane: Backplane) -> None:
        """What another process publishes after subscribe() has returned arrives, also on the very first channel."""
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            for number in range(20):
                await here.connection.subscribe([f"r:{number}"])
                await other.connection.publish(f"r:{number}", b"now")
            await here.until_message(20)
            assert [channel for channel, _ in here.messages] == [f"r:{number}" for number in range(20)]

    @in_loop
    async def test_publish_other_channel_does_not_arrive(self, plane: Backplane) -> None:
        """Every channel carries its own messages only, whatever its name means to the engine."""
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            await here.connection.subscribe(CHANNELS)
            for channel in ("r:", "r:new", "r:newss", "R:news", "r:anything", "news", "al", "r:a"):
                await other.connection.publish(channel, b"no")
            for channel in CHANNELS:
                await other.connection.publish(channel, channel.encode())
            await here.until_message(len(CHANNELS))
            assert here.messages == [(channel, channel.encode()) for channel in CHANNELS]

    @in_loop
    async def test_unsubscribe_ends_a_subscription(self, plane: Backplane) -> None:
        """The other channels stay, and the channel can be subscribed again. Doing either twice is allowed."""
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            await here.connection.subscribe(["r:a", "r:b"])
            await here.connection.subscribe(["r:b"])
            await here.connection.unsubscribe(["r:a", "r:never"])
            await other.connection.publish("r:a", b"1")
            await other.connection.publish("r:b", b"2")
            await here.until_message()
            await here.connection.subscribe(["r:a"])
            await other.connection.publish("r:a", b"3")
            await here.until_message(2)
            assert here.messages == [("r:b", b"2"), ("r:a", b"3")]

    @in_loop
    async def test_publish_any_bytes_arrive_unchanged(self, plane: Backplane) -> None:
        """Empty, NUL, line ends, all bytes and a long message."""
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            await here.connection.subscribe(["r:a"])
            for data in MESSAGES:
                await other.connection.publish("r:a", data)
            await here.until_message(len(MESSAGES))
            assert here.on("r:a") == list(MESSAGES)

    @in_loop
    async def test_publish_largest_message_arrives(self, plane: Backplane) -> None:
        """max_payload bytes arrive; one more is refused and harms nothing."""
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            most = other.connection.max_payload
            if most is None:
                pytest.skip("the engine states no largest message")
            await here.connection.subscribe(["r:a"])
            await other.connection.publish("r:a", bytes(most))
            with pytest.raises(BackplaneFailure) as raised:
                await other.connection.publish("r:a", bytes(most + 1))
            assert raised.value.kind == "too_large"
            assert not raised.value.maybe_delivered
            await other.connection.publish("r:a", b"still here")
            await here.until_message(2)
            assert [len(data) for data in here.on("r:a")] == [most, 10]
            assert not here.failures
            assert not other.failures

    @in_loop
    async def test_publish_own_messages_come_back(self, plane: Backplane) -> None:
        """The probe of the core needs them."""
        async with connected(plane) as here:
            await here.connection.subscribe(["p:me"])
            await here.connection.publish("p:me", b"probe")
            await here.until_message()
            assert here.messages == [("p:me", b"probe")]

    @in_loop
    async def test_publish_returns_the_count(self, plane: Backplane) -> None:
        """With COUNTS the number of connections that took it, the own one included; otherwise None."""
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            await here.connection.subscribe(["r:a", "r:b"])
            await other.connection.subscribe(["r:a"])
            counts = [await here.connection.publish(channel, b"x") for channel in ("r:a", "r:b", "r:none")]
            assert counts == ([2, 1, 0] if Capability.COUNTS in plane.capabilities else [None] * 3)

    @in_loop
    async def test_publish_burst_arrives_in_order(self, plane: Backplane) -> None:
        """10,000 messages at once, on 1,000 subscribed channels: none lost, none twice, and the event loop runs."""
        channels = [f"r:{number}" for number in range(1000)]
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            await here.connection.subscribe(channels)
            steps: list[int] = []
            ticking = asyncio.ensure_future(_note_steps(steps, here.messages))
            for start in range(0, _BURST, 500):
                await within(
                    asyncio.gather(
                        *(
                            other.connection.publish(channels[number % 1000], b"%d" % number)
                            for number in range(start, start + 500)
                        )
                    ),
                    "publish()",
                )
            await here.until_message(_BURST)
            ticking.cancel()
            await asyncio.wait({ticking})
            assert [data for _, data in here.messages] == [b"%d" % number for number in range(_BURST)]
            assert all(channel == f"r:{int(data) % 1000}" for channel, data in here.messages)
            if type(self).engine is not None:
                assert max(steps, default=0) <= _MOST_AT_ONCE, "the event loop must run after at most 256 messages"

    @in_loop
    async def test_publish_other_namespace_does_not_arrive(self, server: EngineProcess | None) -> None:
        """Applications with different namespaces on one engine do not get each other's messages."""
        one: Backplane = self.make("backplane", self.context_at(server, None))
        two: Backplane = self.make("backplane", self.context_at(server, None, backplane={"namespace": "another"}))
        async with connected(one) as here, connected(two, _OTHER) as other:
            await here.connection.subscribe(["all"])
            await other.connection.subscribe(["all"])
            await other.connection.publish("all", b"theirs")
            await here.connection.publish("all", b"ours")
            await other.until_message()
            await here.until_message()
            assert (here.on("all"), other.on("all")) == ([b"ours"], [b"theirs"])

    @in_loop
    async def test_close_ends_everything(self, plane: Backplane) -> None:
        """A closed connection gets nothing, raises, and does not report its end; closing twice is allowed."""
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            await here.connection.subscribe(["r:a"])
            await within(here.connection.close(), "close()")
            await other.connection.publish("r:a", b"x")
            with pytest.raises(BackplaneFailure):
                await within(here.connection.publish("r:a", b"x"), "publish() after close()")
            with pytest.raises(BackplaneFailure):
                await within(here.connection.subscribe(["r:b"]), "subscribe() after close()")
            with pytest.raises(BackplaneFailure):
                await within(here.connection.unsubscribe(["r:a"]), "unsubscribe() after close()")
            assert here.messages == []
            assert here.failures == []

    @in_loop
    async def test_connect_again_works(self, plane: Backplane) -> None:
        """One backplane makes one connection after the other, and several at a time."""
        for _ in range(3):
            async with connected(plane) as here:
                await _round_trip(here.connection)
                await here.until_message()


async def _round_trip(connection: EngineConnection) -> None:
    await connection.subscribe(["r:a"])
    await connection.publish("r:a", b"x")


async def _note_steps(steps: list[int], messages: list[tuple[str, bytes]]) -> None:
    """Note how many messages arrive between two turns of the event loop."""
    seen = 0
    while True:
        await asyncio.sleep(0)
        steps.append(len(messages) - seen)
        seen = len(messages)
