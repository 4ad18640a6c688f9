"""Tests of an engine that is killed or frozen, and of a path that fails."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from zcli_core.backplane.contract import Backplane
from zcli_core.errors import BackplaneFailure
from zcli_core.net.ports import find_free_port
from zcli_core.testing.backplane.base import Base
from zcli_core.testing.backplane.engine import EngineProcess, FaultyPath
from zcli_core.testing.backplane.peers import Peer, connected, given_up, in_loop, until, within
from zcli_core.testing.tcp_peers import BannerServer

_OTHER = "8899aabbccddeeff"
#: Seconds that a call gets in a test in which it cannot return.
_SHORT = 0.3
#: What other programs send first.
OTHER_PROGRAMS = {
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "ones": b"\xff" * 100_000,
}


class Faults(Base):
    """What fails."""

    @in_loop
    async def test_connect_without_engine_raises(self, faulty: EngineProcess) -> None:
        """Nothing listens at the port."""
        plane: Backplane = self.make("backplane", self.context_at(faulty, find_free_port()))
        with pytest.raises(BackplaneFailure) as raised:
            await within(plane.connect("0011223344556677", Peer()), "connect()")
        assert raised.value.kind == "down"
        assert not raised.value.maybe_delivered

    @pytest.mark.parametrize("banner", OTHER_PROGRAMS.values(), ids=OTHER_PROGRAMS)
    @in_loop
    async def test_connect_other_protocol_raises(self, faulty: EngineProcess, banner: bytes) -> None:
        """Another program listens at the port. It is a BackplaneFailure at the latest when the core gives up."""
        with BannerServer(banner) as other:
            plane: Backplane = self.make("backplane", self.context_at(faulty, other.port))
            error = await given_up(plane.connect("0011223344556677", Peer()), _SHORT)
            assert error is None or isinstance(error, BackplaneFailure), repr(error)

    @in_loop
    async def test_connect_given_up_leaves_nothing(self, faulty: EngineProcess) -> None:
        """A server accepts the connection and sends nothing, so the core cancels the call."""
        with BannerServer(b"") as silent:
            plane: Backplane = self.make("backplane", self.context_at(faulty, silent.port))
            error = await given_up(plane.connect("0011223344556677", Peer()), _SHORT)
            assert error is None or isinstance(error, BackplaneFailure), repr(error)

    @in_loop
    async def test_engine_killed_is_lost_once(self, plane: Backplane, faulty: EngineProcess) -> None:
        """Waiting and later calls raise, and the same backplane connects again when the engine is back."""
        async with connected(plane) as here:
            await here.connection.subscribe(["r:a"])
            faulty.freeze()
            waiting = [asyncio.ensure_future(here.connection.publish("r:a", b"x")) for _ in range(10)]
            await asyncio.sleep(0)
            faulty.kill()
            failure = await here.until_lost()
            assert failure.kind in ("down", "protocol")
            outcomes = await within(asyncio.gather(*waiting, return_exceptions=True), "publish()")
            # An engine without confirmations takes a message when it is written.
            assert all(outcome is None or isinstance(outcome, BackplaneFailure) for outcome in outcomes), outcomes
            for call in (here.connection.publish("r:a", b"x"), here.connection.subscribe(["r:b"])):
                with pytest.raises(BackplaneFailure):
                    await within(call, "a call after lost()")
            with pytest.raises(BackplaneFailure):
                await within(plane.connect("0011223344556677", Peer()), "connect()")
            faulty.start()
            async with connected(plane) as again:
                await again.connection.subscribe(["r:a"])
                await again.connection.publish("r:a", b"back")
                await again.until_message()
                assert again.messages == [("r:a", b"back")]

    @in_loop
    async def test_engine_frozen_message_arrives_once(self, plane: Backplane, faulty: EngineProcess) -> None:
        """A message that was given up during a freeze arrives once or never; the connection works again, or is lost."""
        async with connected(plane) as here, connected(plane, _OTHER) as other:
            await here.connection.subscribe(["r:a"])
            faulty.freeze()
            errors = [await given_up(other.connection.publish("r:a", b"%d" % n), _SHORT) for n in range(2)]
            assert all(error is None or isinstance(error, BackplaneFailure) for error in errors), errors
            faulty.thaw()
            with contextlib.suppress(BackplaneFailure):
                await within(other.connection.publish("r:a", b"after"), "publish() after a freeze")
                await _until_message_or_lost(here, b"after")
            arrived = here.on("r:a")
            assert len(arrived) == len(set(arrived)), f"published once, arrived more than once: {arrived}"
            if not other.failures and not here.failures:
                assert arrived[-1:] == [b"after"], "the connection neither works nor was it reported as lost"

    @in_loop
    async def test_cancelled_calls_do_not_mix_up_replies(self, plane: Backplane, faulty: EngineProcess) -> None:
        """After calls were cancelled, later calls get their own replies, or the end is reported."""
        async with connected(plane) as here:
            await here.connection.subscribe(["r:a"])
            faulty.freeze()
            for call in (
                here.connection.subscribe(["r:b"]), here.connection.publish("r:a", b"1"),
                here.connection.publish("r:none", b"2"), here.connection.unsubscribe(["r:b"]),
            ):  # fmt: skip
                await given_up(call, 0.05)
            faulty.thaw()
            try:
                count = await within(here.connection.publish("r:a", b"last"), "publish()")
                assert count in (1, None), f"a publish got the reply of another call: {count}"
                await within(here.connection.subscribe(["r:c"]), "subscribe()")
                await here.connection.publish("r:c", b"c")
                await _until_message_or_lost(here, b"c")
            except BackplaneFailure:
                await here.until_lost()

    @in_loop
    async def test_path_silent_close_returns(self, relayed: Backplane, path: FaultyPath) -> None:
        """Nothing arrives and nothing is reported, so the core drops the connection; close() does not wait."""
        async with connected(relayed) as here:
            await here.connection.subscribe(["r:a"])
            path.silence()
            error = await given_up(here.connection.publish("r:a", b"x"), _SHORT)
            assert error is None or isinstance(error, BackplaneFailure)
            error = await given_up(here.connection.subscribe(["r:b"]), _SHORT)
            assert error is None or isinstance(error, BackplaneFailure)
            assert here.messages == []
            await within(here.connection.close(), "close()")
            path.restore()

    @in_loop
    async def test_path_cut_is_lost_once(self, relayed: Backplane, path: FaultyPath) -> None:
        """A connection that is idle notices the reset, too."""
        async with connected(relayed) as here:
            await here.connection.subscribe(["r:a"])
            path.cut()
            await here.until_lost()
            with pytest.raises(BackplaneFailure):
                await within(here.connection.publish("r:a", b"x"), "publish()")

    @in_loop
    async def test_path_slow_message_arrives_whole(self, relayed: Backplane, path: FaultyPath) -> None:
        """A message that arrives in many pieces is one message."""
        async with connected(relayed) as here:
            await here.connection.subscribe(["r:a"])
            path.slow(50_000)
            await within(here.connection.publish("r:a", bytes(range(256)) * 40), "publish()")
            await here.until_message()
            assert here.on("r:a") == [bytes(range(256)) * 40]
            path.restore()

    @in_loop
    async def test_slow_subscriber_blocks_no_publisher(
        self, plane: Backplane, relayed: Backplane, faulty: EngineProcess, path: FaultyPath
    ) -> None:
        """A process that does not read is cut by the engine, which is reported; the others go on."""
        if faulty.slow_limit is None:
            pytest.skip("the engine has no limit for a slow connection")
        message = bytes(64 * 1024)
        async with connected(relayed) as slow, connected(plane, _OTHER) as other:
            await slow.connection.subscribe(["r:a"])
            path.silence()
            # The system's buffers of both sockets take some megabytes before the engine notices.
            for number in range((4 * faulty.slow_limit + 16 * 1024 * 1024) // len(message)):
                await within(other.connection.publish("r:a", b"%8d" % number + message), "publish()")
            path.restore()
            await slow.until_lost()
            numbers = [int(data[:8]) for data in slow.on("r:a")]
            assert numbers == list(range(len(numbers))), "messages are missing before the end"
            assert not other.failures

    @in_loop
    async def test_close_frozen_engine_returns(self, plane: Backplane, faulty: EngineProcess) -> None:
        """Nothing is left, although calls still wait for the engine. Those calls end."""
        async with connected(plane) as here:
            await here.connection.subscribe(["r:a"])
            faulty.freeze()
            waiting = asyncio.ensure_future(here.connection.subscribe(["r:b"]))
            await asyncio.sleep(0)
            await within(here.connection.close(), "close()")
            waiting.cancel()
            await within(asyncio.wait({waiting}), "a call at the time of close()")
            assert here.failures == []


async def _until_message_or_lost(peer: Peer, data: bytes) -> None:
    await until(
        lambda: bool(peer.failures) or any(found == data for _, found in peer.messages),
        lambda: f"{data!r} did not arrive, and the end of the connection was not reported",
    )
