"""The parts of workers that need no other process: messages, sockets, sums and the shared throttle."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from zcli_core.errors import ListenError
from zcli_core.websocket.addresses import Network
from zcli_core.websocket.contract import Endpoint
from zcli_core.websocket.parts.binding import bound_groups
from zcli_core.websocket.throttle import FailureThrottle
from zcli_core.websocket.workers.channel import Channel, send_blocking

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers")
balanced = pytest.mark.skipif(sys.platform != "linux", reason="only some systems spread clients over sockets")


# Messages -------------------------------------------------------------------------------------------------------------


class _Pair:
    """Two channels."""

    def __init__(self) -> None:
        self.socks = socket.socketpair()
        self.received: list[Any] = []
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.near = Channel(self.socks[0], print, lambda: None)
        self.far = Channel(self.socks[1], self.received.append, lambda: self.end.set_result(None))

    def close(self) -> None:
        for channel in (self.near, self.far):
            channel.close()
        for sock in self.socks:
            sock.close()


def _with_pair(test: Callable[[_Pair], Any]) -> None:
    async def run() -> None:
        pair = _Pair()
        try:
            await asyncio.wait_for(test(pair), 20)
        finally:
            pair.close()

    asyncio.run(run())


def test_channel_delivers_large_messages_in_order() -> None:
    """Also those that do not fit into the buffers of the system."""

    async def test(pair: _Pair) -> None:
        sent = [{"number": number, "text": "é\n" * 10_000} for number in range(5)]
        assert all(pair.near.send(message) for message in sent)
        while len(pair.received) < len(sent):
            await asyncio.sleep(0)
        assert pair.received == sent

    _with_pair(test)


def test_channel_that_is_not_read_is_bounded() -> None:
    """Messages are dropped as a whole once too much waits, and later ones arrive."""

    async def test(pair: _Pair) -> None:
        pair.far.close()
        message = {"text": "x" * 100_000}
        sent = 0
        while pair.near.send(message):
            sent += 1
            assert sent < 100
        pair.far = Channel(pair.socks[1], pair.received.append, lambda: None)
        while len(pair.received) < sent:
            await asyncio.sleep(0)
        assert pair.near.send({"last": 1})
        while len(pair.received) <= sent:
            await asyncio.sleep(0)
        assert pair.received == [message] * sent + [{"last": 1}]

    _with_pair(test)


@pytest.mark.parametrize("data", [b"", b"no json\n", b"[1]\n", b"x" * 5_000_000], ids=["end", "text", "list", "long"])
def test_channel_ends_with_invalid_data(data: bytes) -> None:
    """As with the end of the other process; messages before it are delivered."""

    async def test(pair: _Pair) -> None:
        pair.near.send({"first": 1})
        pair.near.close()

        def write() -> None:
            pair.socks[0].settimeout(20)
            with contextlib.suppress(OSError):
                pair.socks[0].sendall(data)
                pair.socks[0].shutdown(socket.SHUT_WR)

        writing = asyncio.create_task(asyncio.to_thread(write))
        await pair.end
        pair.socks[1].close()
        await writing
        assert pair.received == [{"first": 1}]
        assert not pair.far.is_open
        assert not pair.far.send({"too": "late"})

    _with_pair(test)


def test_send_blocking_to_lost_process_is_no_error() -> None:
    """The supervisor may be gone."""
    near, far = socket.socketpair()
    with near:
        far.close()
        send_blocking(near, {"kind": "ended"})


# Sockets --------------------------------------------------------------------------------------------------------------


def _bound(endpoint: Endpoint, count: int) -> list[list[socket.socket]]:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(bound_groups(endpoint, loop, count))
    finally:
        loop.close()


@balanced
def test_worker_sockets_share_one_port_and_clients() -> None:
    """The system spreads clients over them, and another program cannot bind the port."""
    with contextlib.ExitStack() as stack:
        groups = _bound(Endpoint(port=0), 3)
        socks = [stack.enter_context(sock) for (sock,) in groups]
        address = socks[0].getsockname()
        assert {sock.getsockname() for sock in socks} == {address}
        for _ in range(60):
            stack.enter_context(socket.create_connection(address, timeout=20))
        counts = []
        for sock in socks:
            counts.append(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.accept()[0].close()
                    counts[-1] += 1
        assert sum(counts) == 60
        assert min(counts) > 0
        for count in (1, 2):
            with pytest.raises(OSError, match="in use"):
                _bound(Endpoint(port=address[1]), count)


@balanced
def test_worker_sockets_with_taken_port_are_an_error(make_z: Any) -> None:
    """Also if the other program allows to share its port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        z = make_z(workers=2, backplane="local", port=other.getsockname()[1])
        with pytest.raises(ListenError, match=r"port \d+ of 127.0.0.1 is in use by this process"):
            z.comm.websocket.start()


# The throttle ---------------------------------------------------------------------------------------------------------

NETWORKS = (Network("192.0.2.1", 1),)


def _throttles(count: int, limit: int) -> tuple[list[FailureThrottle], list[Callable[[], None]]]:
    """Return throttles that count together, and a list of the relays that have not been made."""
    throttles = [FailureThrottle(limit, 60) for _ in range(count)]
    relays: list[Callable[[], None]] = []

    def share(own: FailureThrottle) -> None:
        def relay(networks: Any) -> bool:
            def later() -> None:
                for other in throttles:
                    if other is not own:
                        other.failed_elsewhere(networks)
                own.settled(networks)

            relays.append(later)
            return True

        own.share(relay, count - 1)

    for throttle in throttles:
        share(throttle)
    return throttles, relays


def test_throttle_counts_failures_of_all_workers() -> None:
    """After ``limit`` failures in any workers, every worker lets the client wait for the window."""
    throttles, relays = _throttles(4, 10)
    for number in range(10):
        assert not throttles[number % 4].wait(NETWORKS)
        throttles[number % 4].failed(NETWORKS)
        relays.pop()()
    for throttle in throttles:
        assert 59 < throttle.wait(NETWORKS) <= 60


def test_throttle_limits_a_burst_to_all_workers() -> None:
    """Guesses that arrive everywhere before any relay are few more than the limit, and later ones wait."""
    throttles, relays = _throttles(4, 10)
    guesses = 0
    for throttle in throttles:
        while not throttle.wait(NETWORKS):
            throttle.failed(NETWORKS)
            guesses += 1
    assert 10 <= guesses < 10 + 4
    assert throttles[0].wait(NETWORKS) == 1.0
    for relay in relays:
        relay()
    for throttle in throttles:
        assert throttle.wait(NETWORKS) > 50


def test_throttle_without_relay_counts_alone() -> None:
    """If the supervisor does not take the message, a failure counts once here."""
    throttle = FailureThrottle(4, 60)
    throttle.share(lambda networks: False, 3)
    for _ in range(3):
        throttle.failed(NETWORKS)
        assert not throttle.wait(NETWORKS)
    throttle.failed(NETWORKS)
    assert throttle.wait(NETWORKS) > 50


def test_throttle_forgets_unsettled_failures_with_window() -> None:
    """A supervisor that never confirms does not lock a client out."""
    now = [0.0]
    throttle = FailureThrottle(4, 60, clock=lambda: now[0])
    throttle.share(lambda networks: True, 3)
    throttle.failed(NETWORKS)
    assert throttle.wait(NETWORKS) == 1.0
    now[0] = 61
    assert not throttle.wait(NETWORKS)
    throttle.settled(NETWORKS)
    assert throttle.may_begin(NETWORKS)
