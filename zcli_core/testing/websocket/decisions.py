"""Contract suite, part: how the core's decision on an upgrade is carried out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from zcli_core.testing.websocket.client import (
    Client,
    read_all,
    reset,
    send_until_stalled,
    until,
    upgrade_request,
)
from zcli_core.testing.websocket.frames import TEXT, close, frame
from zcli_core.testing.websocket.handshake import ask
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.testing.websocket.suite import Serve, WebSocketSuite, requires
from zcli_core.websocket.contract import Accept, Capability, Decision, Limits, PlainResponse, Refuse, Request

#: More bytes than the buffers of two sockets can hold.
FLOOD = 48 * 1024 * 1024


class Undecided:
    """Decides when ``event`` is set; ``outcome`` is the outcome of the decision."""

    def __init__(self) -> None:
        self.outcome = "asked for"
        self.event: asyncio.Event

    def __call__(self, server: ServerUnderTest, _: Request) -> Any:
        """Decide; passed as ``decide``."""
        return self._decide(server)

    async def _decide(self, server: ServerUnderTest) -> Decision:
        self.event = asyncio.Event()
        self.outcome = "waiting"
        try:
            await self.event.wait()
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        self.outcome = "decided"
        return server.accept()


def at_once(decide: Callable[[ServerUnderTest], Any]) -> Any:
    """Decide in a plain call."""
    return lambda server, _: decide(server)


def in_a_coroutine(decide: Callable[[ServerUnderTest], Any]) -> Any:
    """Decide in a coroutine that waits."""

    async def later(server: ServerUnderTest) -> Any:
        await asyncio.sleep(0.01)
        return decide(server)

    return lambda server, _: later(server)


def in_a_coroutine_that_never_waits(decide: Callable[[ServerUnderTest], Any]) -> Any:
    """Decide in the first step of a coroutine."""

    async def now(server: ServerUnderTest) -> Any:
        return decide(server)

    return lambda server, _: now(server)


every_way = pytest.mark.parametrize("way", [at_once, in_a_coroutine, in_a_coroutine_that_never_waits])


class DecisionTests(WebSocketSuite):
    """Accept, Refuse, PlainResponse: at once, later, never, or invalid."""

    @requires(Capability.EARLY_DATA)
    @every_way
    def test_accept_serves_the_client(self, serve: Serve, way: Any) -> None:
        """Messages that the client sent right after its request are handled too."""
        decide = way(lambda server: server.accept(headers=(("X-A", "1"),)))
        with serve(decide=decide) as server, server.connect(behind=frame(TEXT, b"early")) as client:
            assert client.headers["x-a"] == "1"
            assert client.read_message() == (TEXT, b"early")
            assert client.echo() == b"are you there?"

    @every_way
    def test_refuse_sends_101_and_a_close_frame(self, serve: Serve, way: Any) -> None:
        """No message is delivered, no connection is made, and the server closes TCP."""
        with serve(decide=way(lambda _: Refuse(1008, "nö", "a"))) as server:
            with server.connect("Sec-WebSocket-Protocol: a", behind=frame(TEXT, b"let me in")) as client:
                assert client.headers["sec-websocket-protocol"] == "a"
                assert client.ending() == ([], 1008, "nö")
            assert (server.connections, server.messages) == ([], [])

    @every_way
    def test_plain_response_is_sent(self, serve: Serve, way: Any) -> None:
        """This is the decision for ``refuse_with: http``."""
        decide = way(lambda _: PlainResponse(403, b"no", (("X-Why", "because"),)))
        with serve(decide=decide) as server:
            response = ask(server, upgrade_request())
            assert (response.status, response.body, response.headers["x-why"]) == (403, b"no", "because")

    @requires(Capability.EARLY_DATA)
    @every_way
    @pytest.mark.parametrize("kind", ["refusal", "response"])
    def test_delayed_decision_is_sent_later(self, serve: Serve, kind: str, way: Any) -> None:
        """What the client sends meanwhile is dropped, and other clients do not wait."""
        decision = Refuse(1008, "no", delay=0.3) if kind == "refusal" else PlainResponse(403, b"no", delay=0.3)
        decisions = iter([decision])
        decide = way(lambda server: next(decisions, None) or server.accept())
        with serve(decide=decide) as server, server.socket() as sock:
            began = time.monotonic()
            sock.sendall(upgrade_request() + frame(TEXT, b"let me in"))
            until(lambda: server.upgrades, "the acceptor was not asked")
            with server.connect() as client:
                assert client.echo() == b"are you there?"
            sock.sendall(frame(TEXT, b"x" * 100_000) + close())
            received = read_all(sock)
            assert time.monotonic() - began >= 0.3
            assert received.startswith(b"HTTP/1.1 101 " if kind == "refusal" else b"HTTP/1.1 403 ")
            assert b"no" in received
            assert server.messages == ["are you there?"]

    @requires(Capability.PENDING_CONNECTIONS)
    def test_delayed_decision_client_may_leave(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """Neither a client that leaves nor a listener that stops leaves anything behind."""
        with serve(decide=lambda *_: Refuse(1008, delay=60)) as server:
            for leave in (reset, socket.socket.close):
                sock = server.socket()
                sock.sendall(upgrade_request())
                until(lambda: server.upgrades, "the acceptor was not asked")
                server.upgrades.clear()
                leave(sock)
            waiting = server.socket()
            waiting.sendall(upgrade_request())
            until(lambda: server.upgrades, "the acceptor was not asked")
        with waiting:
            assert read_all(waiting) == b""
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []

    def test_decision_can_be_a_future(self, serve: Serve) -> None:
        """A future that other code completes is a valid decision."""

        def decide(server: ServerUnderTest, _: Request) -> Any:
            future: asyncio.Future[Decision] = server.loop.create_future()
            server.loop.call_later(0.01, future.set_result, Accept(server.open))
            return future

        with serve(decide=decide) as server, server.connect() as client:
            assert client.echo() == b"are you there?"

    @pytest.mark.parametrize("way", [at_once, in_a_coroutine])
    @pytest.mark.parametrize("bad", ["raises", "subprotocol", "refuse", "header", "nothing"])
    def test_invalid_decision_is_500_and_logged(
        self, serve: Serve, bad: str, way: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Examples: an exception, a subprotocol that was not offered, a header with a line break, None."""

        def decide(server: ServerUnderTest) -> Any:
            if bad == "raises":
                raise RuntimeError("of the test")
            return {
                "subprotocol": server.accept("not-offered"),
                "refuse": Refuse(1008, "", "not-offered"),
                "header": server.accept(headers=(("X", "\r\nSet-Cookie: a"),)),
                "nothing": None,
            }[bad]

        with serve(decide=way(decide)) as server:
            response = ask(server, upgrade_request())
            assert (response.status, b"of the test" in response.body) == (500, False)
            assert server.connections == []
        assert len([record for record in caplog.records if record.exc_info and record.levelno >= logging.ERROR]) == 1

    def test_opened_raising_closes_with_1011(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """The client has its 101 response already, so it gets a close frame."""

        def fail(*_: Any) -> Any:
            raise RuntimeError("of the test")

        with serve(receiver=fail) as server, server.connect() as client:
            client.send(close(1011))
            assert client.close_code() == 1011
        assert len([record for record in caplog.records if record.exc_info and record.levelno >= logging.ERROR]) == 1

    # Waiting ------------------------------------------------------------------------------------------------------

    @requires(Capability.EARLY_DATA)
    def test_data_during_a_decision_is_kept_in_order(self, serve: Serve) -> None:
        """Messages that come between the request and the decision are handled in order."""
        undecided = Undecided()
        messages = [b"%06d" % at + b"x" * 1000 for at in range(200)]
        with serve(decide=undecided) as server, server.socket() as sock:
            sock.sendall(upgrade_request() + b"".join(frame(TEXT, message) for message in messages))
            until(lambda: undecided.outcome == "waiting")
            assert server.messages == []
            server.call(undecided.event.set)
            with Client(sock) as client:
                assert [client.read_message()[1] for _ in messages] == messages

    @requires(Capability.EARLY_DATA)
    def test_data_during_a_decision_is_limited(self, serve: Serve) -> None:
        """The transport stops reading, so TCP slows the client."""
        undecided = Undecided()
        with serve(decide=undecided) as server, server.socket() as sock:
            sock.sendall(upgrade_request())
            until(lambda: undecided.outcome == "waiting")
            assert send_until_stalled(sock, bytes(FLOOD)) < FLOOD

    @pytest.mark.parametrize("leave", [lambda sock: sock.close(), reset], ids=["closes", "resets"])
    def test_decision_is_cancelled_when_client_leaves(self, serve: Serve, leave: Any) -> None:
        """The awaitable is cancelled, and no connection is opened."""
        undecided = Undecided()
        with serve(decide=undecided) as server:
            sock = server.socket()
            sock.sendall(upgrade_request())
            until(lambda: undecided.outcome == "waiting")
            leave(sock)
            until(lambda: undecided.outcome == "cancelled", "the decision was not cancelled")
            assert server.connections == []

    def test_decision_over_open_timeout_is_refused_1011(self, serve: Serve) -> None:
        """``open_timeout`` includes the decision, and a page can read the refusal."""
        undecided = Undecided()
        with serve(Limits(open_timeout=0.3), decide=undecided) as server, server.connect() as client:
            before, code, reason = client.ending()
            assert (before, code) == ([], 1011)
            assert reason
            assert undecided.outcome == "cancelled"
            assert server.connections == []

    def test_decision_ignoring_cancellation_opens_nothing(self, serve: Serve) -> None:
        """A strategy that swallows the cancellation and accepts later opens no connection."""
        released: list[asyncio.Event] = []

        async def stubborn(server: ServerUnderTest) -> Decision:
            event = asyncio.Event()
            with contextlib.suppress(asyncio.CancelledError):
                released.append(event)
                await asyncio.Event().wait()
            await event.wait()
            return server.accept()

        limits = Limits(open_timeout=0.2, close_timeout=0.2)
        with serve(limits, decide=lambda server, _: stubborn(server)) as server, server.socket() as sock:
            sock.sendall(upgrade_request())
            received = read_all(sock)  # it ends although the strategy does not
            assert not received.endswith(b"\r\n\r\n"), "admitted without a decision"
            server.call(released[0].set)
            server.wait(asyncio.sleep(0.05))
            assert server.connections == []

    def test_pending_decision_delays_no_other_client(self, serve: Serve) -> None:
        """Neither open connections nor new clients wait for it."""
        undecided = Undecided()

        def decide(server: ServerUnderTest, request: Request) -> Any:
            return undecided(server, request) if request.path == "/slow" else server.accept()

        with serve(decide=decide) as server, server.socket() as slow, server.connect() as early:
            slow.sendall(upgrade_request(target="/slow"))
            until(lambda: undecided.outcome == "waiting")
            assert early.echo() == b"are you there?"
            with server.connect() as late:
                assert late.echo() == b"are you there?"
            assert undecided.outcome == "waiting"

    def test_limit_checked_in_a_decision_holds(self, serve: Serve) -> None:
        """Of many clients at once, exactly as many are admitted as the core counted."""
        places = 5

        def decide(server: ServerUnderTest) -> Decision:
            return server.accept() if len(server.connections) < places else Refuse(1013, "full")

        for way in (at_once, in_a_coroutine, in_a_coroutine_that_never_waits):
            with serve(decide=way(decide)) as server:
                socks = [server.socket() for _ in range(20)]
                for sock in socks:
                    sock.sendall(upgrade_request())
                clients = [Client(sock) for sock in socks]
                until(lambda: len(server.upgrades) == 20)
                assert len(server.connections) == places
                for client in clients:
                    client.sock.close()
                until(lambda: len(server.closed) == places)
