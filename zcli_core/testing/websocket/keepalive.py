"""Part of the WebSocket contract suite: pings, and clients that fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from zcli_core.errors import ConnectionClosed
from zcli_core.testing.websocket.client import PATIENCE, Frame, until
from zcli_core.testing.websocket.flow_control import Holding, Silent
from zcli_core.testing.websocket.frames import BINARY, CLOSE, PING, PONG, TEXT, close, frame
from zcli_core.testing.websocket.suite import Serve, WebSocketSuite
from zcli_core.websocket.contract import ClosedBy, Limits


class KeepaliveTests(WebSocketSuite):
    """Pings that the core sends, and those that the transport sends by itself."""

    # Pings of the core's ------------------------------------------------------------------------------------------

    def test_a_ping_gives_the_seconds_until_its_pong(self, serve: Serve) -> None:
        """And the latency, which is 0.0 before the first; a pong that answers nothing is no answer."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            assert connection.latency == 0.0

            async def ping() -> float:
                return await connection.ping(b"p")

            waiting = server.start(ping())
            assert client.read() == Frame(PING, b"p")
            client.send(frame(PONG, b"other"), frame(PING, b"mine"))
            assert client.read() == Frame(PONG, b"mine")
            assert not waiting.done()
            client.send(frame(PONG, b"p"))
            assert 0 < waiting.result(PATIENCE) == connection.latency < PATIENCE

    def test_a_pong_answers_the_pings_before_it(self, serve: Serve) -> None:
        """RFC 6455, 5.5.3; but not those after it."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            futures = server.call(lambda: [connection.ping(b"%d" % at) for at in range(4)])
            client.send(frame(PONG, b"2"))
            until(futures[2].done)
            assert [future.done() for future in futures] == [True, True, True, False]

    def test_pings_without_a_payload_are_told_apart(self, serve: Serve) -> None:
        """Each has a random one, of at most 125 bytes."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            futures = server.call(lambda: [connection.ping() for _ in range(3)])
            pings = [client.read() for _ in range(3)]
            assert {ping.opcode for ping in pings} == {PING}
            assert len({ping.payload for ping in pings}) == 3
            client.send(frame(PONG, pings[0].payload))
            until(futures[0].done)
            assert [future.done() for future in futures] == [True, False, False]

    def test_a_payload_may_have_125_bytes(self, serve: Serve) -> None:
        """RFC 6455, 5.5; a longer one is a ValueError and leaves the connection open."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            with pytest.raises(ValueError, match="125"):
                server.call(connection.ping, b"x" * 126)
            server.call(connection.ping, b"x" * 125)
            assert client.read() == Frame(PING, b"x" * 125)

    @pytest.mark.parametrize("end", ["close", "abort", "by the client"])
    def test_a_ping_that_will_not_be_answered_raises_connectionclosed(self, serve: Serve, end: str) -> None:
        """As soon as that is known."""
        with serve() as server, server.connect() as client:
            connection = server.connection

            async def ping() -> Any:
                with pytest.raises(ConnectionClosed):
                    await connection.ping()

            waiting = server.start(ping())
            assert client.read().opcode == PING
            if end == "by the client":
                client.send(close(1000))
            else:
                server.call(getattr(connection, end))
            waiting.result(PATIENCE)

    def test_a_ping_that_nobody_waits_for_leaves_no_trace(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """Neither unanswered at the end, nor cancelled before its answer."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            server.call(connection.ping, b"1")
            cancelled = server.call(connection.ping, b"2")
            server.call(cancelled.cancel)
            client.send(frame(PONG, b"2"))
            server.call(connection.ping, b"3")
            assert [client.read().payload for _ in range(3)] == [b"1", b"2", b"3"]
        assert caplog.text == ""

    # Keepalive ----------------------------------------------------------------------------------------------------

    def test_a_silent_client_is_pinged_and_then_closed_with_1011(self, serve: Serve) -> None:
        """And dropped when it does not answer that either."""
        limits = Limits(ping_interval=0.1, ping_timeout=0.2, close_timeout=0.2)
        with serve(limits) as server, server.connect() as client:
            ping, last = client.read(), client.read()
            assert (ping.opcode, last.opcode, last.payload[:2]) == (PING, CLOSE, (1011).to_bytes(2, "big"))
            closed = server.has_closed()
            assert (closed.code, closed.by) == (1011, ClosedBy.SERVER)
            assert closed.reason

    def test_a_client_that_answers_stays(self, serve: Serve) -> None:
        """The answers give the latency."""
        with serve(Limits(ping_interval=0.05, ping_timeout=PATIENCE)) as server, server.connect() as client:
            for _ in range(4):
                ping = client.read()
                assert ping.opcode == PING
                client.send(frame(PONG, ping.payload))
            until(lambda: server.connection.latency)
            assert server.closed == []

    def test_a_client_that_is_never_silent_is_measured(self, serve: Serve) -> None:
        """A ping goes out in every interval, whatever else the client says."""
        limits = Limits(ping_interval=0.05, ping_timeout=PATIENCE)
        with serve(limits, receiver=Silent) as server, server.connect() as client:

            def measured() -> float:
                client.send(frame(TEXT, b"x") * 10)
                with contextlib.suppress(TimeoutError, AssertionError):
                    found = client.read()
                    assert found.opcode == PING
                    client.send(frame(PONG, found.payload))
                return server.connection.latency

            client.sock.settimeout(0.002)
            until(measured, "the latency of a client that always talks was not measured")

    def test_any_byte_from_the_client_counts_as_life(self, serve: Serve) -> None:
        """A pong that nobody asked for, a message, one byte of a large upload on a slow line."""
        for ping_timeout in (0.6, 6.0):  # a loaded machine may not keep the pace that the first needs
            slow = iter(frame(BINARY, b"x" * 10_000))
            limits = Limits(ping_interval=ping_timeout / 2, ping_timeout=ping_timeout)
            with serve(limits) as server, server.connect() as one, server.connect() as two, server.connect() as three:
                last = time.monotonic()
                end, longest_pause = last + 3 * ping_timeout, 0.0
                while last < end and server.closed == []:
                    one.send(frame(PONG, b"unasked"))
                    two.send(frame(TEXT, b"x"))
                    three.send(bytes([next(slow)]))
                    time.sleep(0.02)  # not to wait for anything: this is the clients' pace
                    longest_pause, last = max(longest_pause, time.monotonic() - last), time.monotonic()
                if longest_pause < ping_timeout / 3:
                    assert server.closed == []
                    return

    def test_an_interval_of_0_sends_no_ping(self, serve: Serve) -> None:
        """The timeout alone means nothing."""
        with serve(Limits(ping_interval=0, ping_timeout=0.05)) as server, server.connect() as client:
            server.wait(asyncio.sleep(0.4))  # several times what would have closed it
            assert client.echo() == b"are you there?"
            assert server.closed == []

    def test_a_client_that_is_not_listened_to_is_not_called_silent(self, serve: Serve) -> None:
        """While the core holds delivery, reading is paused, and nothing can be heard."""
        limits = Limits(ping_interval=0.1, ping_timeout=0.1)
        with serve(limits, receiver=Holding) as server, server.connect() as client:
            client.send(frame(TEXT, b"x"))
            assert client.read_message() == (TEXT, b"x")
            client.send(frame(TEXT, b"y"))  # read once more, then no longer
            server.wait(asyncio.sleep(0.6))  # several times what would have closed it
            assert server.closed == []
