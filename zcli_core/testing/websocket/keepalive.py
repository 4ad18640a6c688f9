"""Contract suite, part: pings, and clients that become silent."""

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
from zcli_core.testing.websocket.suite import Serve, WebSocketSuite, requires
from zcli_core.websocket.contract import Capability, ClosedBy, Limits


class KeepaliveTests(WebSocketSuite):
    """Pings of the core, and pings that the transport sends itself."""

    # Pings of the core --------------------------------------------------------------------------------------------

    @requires(Capability.PINGS)
    def test_ping_returns_seconds_until_the_pong(self, serve: Serve) -> None:
        """It also sets the latency, which is 0.0 before; a pong with another payload changes nothing."""
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

    @requires(Capability.PINGS)
    def test_pong_resolves_earlier_pings(self, serve: Serve) -> None:
        """A pong answers the pings before its own, and not those after it (RFC 6455, 5.5.3)."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            futures = server.call(lambda: [connection.ping(b"%d" % at) for at in range(4)])
            client.send(frame(PONG, b"2"))
            until(futures[2].done)
            assert [future.done() for future in futures] == [True, True, True, False]

    @requires(Capability.PINGS)
    def test_ping_without_payload_is_random(self, serve: Serve) -> None:
        """Each ping has its own random payload of at most 125 bytes."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            futures = server.call(lambda: [connection.ping() for _ in range(3)])
            pings = [client.read() for _ in range(3)]
            assert {ping.opcode for ping in pings} == {PING}
            assert len({ping.payload for ping in pings}) == 3
            client.send(frame(PONG, pings[0].payload))
            until(futures[0].done)
            assert [future.done() for future in futures] == [True, False, False]

    @requires(Capability.PINGS)
    def test_ping_payload_over_125_bytes_raises(self, serve: Serve) -> None:
        """A payload of 125 bytes is sent (RFC 6455, 5.5); a longer one leaves the connection open."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            with pytest.raises(ValueError, match="125"):
                server.call(connection.ping, b"x" * 126)
            server.call(connection.ping, b"x" * 125)
            assert client.read() == Frame(PING, b"x" * 125)

    @requires(Capability.PINGS)
    @pytest.mark.parametrize("end", ["close", "abort", "by the client"])
    def test_ping_raises_when_the_connection_ends(self, serve: Serve, end: str) -> None:
        """The future raises ConnectionClosed as soon as the connection closes."""
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

    @requires(Capability.PINGS)
    def test_ping_without_a_waiter_logs_nothing(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """The future may be unanswered at the end, or cancelled before its pong."""
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

    def test_silent_client_is_closed_with_1011(self, serve: Serve) -> None:
        """It gets a ping first, and is dropped if it does not respond to the close frame."""
        limits = Limits(ping_interval=0.1, ping_timeout=0.2, close_timeout=0.2)
        with serve(limits) as server, server.connect() as client:
            ping, last = client.read(), client.read()
            assert (ping.opcode, last.opcode, last.payload[:2]) == (PING, CLOSE, (1011).to_bytes(2, "big"))
            closed = server.has_closed()
            assert (closed.code, closed.by) == (1011, ClosedBy.SERVER)
            assert closed.reason

    @requires(Capability.PINGS)
    def test_client_that_sends_pongs_stays(self, serve: Serve) -> None:
        """The pongs set the latency."""
        with serve(Limits(ping_interval=0.05, ping_timeout=PATIENCE)) as server, server.connect() as client:
            for _ in range(4):
                ping = client.read()
                assert ping.opcode == PING
                client.send(frame(PONG, ping.payload))
            until(lambda: server.connection.latency)
            assert server.closed == []

    @requires(Capability.PINGS)
    def test_busy_client_is_pinged_too(self, serve: Serve) -> None:
        """A ping is sent in every interval, whatever else the client sends."""
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

    @requires(Capability.PINGS)
    def test_any_byte_ends_the_silence(self, serve: Serve) -> None:
        """Examples: an unasked pong, a message, one byte of a large upload on a slow line."""
        for ping_timeout in (0.6, 6.0):  # a loaded machine may be too slow for the first
            slow = iter(frame(BINARY, b"x" * 10_000))
            limits = Limits(ping_interval=ping_timeout / 2, ping_timeout=ping_timeout)
            with serve(limits) as server, server.connect() as one, server.connect() as two, server.connect() as three:
                last = time.monotonic()
                end, longest_pause = last + 3 * ping_timeout, 0.0
                while last < end and server.closed == []:
                    one.send(frame(PONG, b"unasked"))
                    two.send(frame(TEXT, b"x"))
                    three.send(bytes([next(slow)]))
                    time.sleep(0.02)  # the client's pace; the test waits for nothing here
                    longest_pause, last = max(longest_pause, time.monotonic() - last), time.monotonic()
                if longest_pause < ping_timeout / 3:
                    assert server.closed == []
                    return

    def test_interval_0_sends_no_ping(self, serve: Serve) -> None:
        """The timeout has no effect without an interval."""
        with serve(Limits(ping_interval=0, ping_timeout=0.05)) as server, server.connect() as client:
            server.wait(asyncio.sleep(0.4))  # several times longer than the timeout
            assert client.echo() == b"are you there?"
            assert server.closed == []

    def test_held_client_is_not_closed_as_silent(self, serve: Serve) -> None:
        """While the core holds delivery, the transport does not read, so silence has no meaning."""
        limits = Limits(ping_interval=0.1, ping_timeout=0.1)
        with serve(limits, receiver=Holding) as server, server.connect() as client:
            client.send(frame(TEXT, b"x"))
            assert client.read_message() == (TEXT, b"x")
            client.send(frame(TEXT, b"y"))  # the last data that is read
            server.wait(asyncio.sleep(0.6))  # several times longer than the timeout
            assert server.closed == []
