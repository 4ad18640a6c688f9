"""The choice of the connection that is closed for a new one if too many are pending."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_transports import serve

from zcli_core.testing.websocket.client import until
from zcli_core.testing.websocket.pending import ends
from zcli_core.websocket.contract import Address, Limits
from zcli_core.websocket.parts.pending import PendingConnections


class FakeConnection:
    """A connection that can be dropped."""

    def __init__(self, host: str) -> None:
        self.address: Address = None if host == "unix" else (host, 1)
        self.is_open = True

    def abort(self) -> None:
        assert self.is_open
        self.is_open = False

    def drop(self) -> None:
        self.abort()


def crowd(limit: int, *hosts: str) -> tuple[PendingConnections, list[FakeConnection]]:
    """Add connections of these addresses, in this order."""
    pending, made = PendingConnections(limit), [FakeConnection(host) for host in hosts]
    for connection in made:
        pending.add(connection, connection.address)
    return pending, made


def test_pending_one_address_can_use_the_whole_limit() -> None:
    """All clients behind a proxy have its address."""
    pending, made = crowd(100, *["192.0.2.1"] * 100)
    assert len(pending) == 100
    assert all(connection.is_open for connection in made)


@pytest.mark.parametrize("stranger", ["192.0.2.1", "2001:db8::{}", "::ffff:192.0.2.1", "unix"])
def test_pending_address_with_most_loses_its_oldest(stranger: str) -> None:
    """One client cannot block clients of other addresses; an IPv6 /64 counts as one address."""
    hosts = [stranger.format(number) for number in range(1, 50)]
    pending, made = crowd(10, "192.0.2.7", "2001:db8:0:1::7", *hosts)
    assert len(pending) == 10
    assert [connection.is_open for connection in made] == [True, True] + [False] * 41 + [True] * 8
    assert pending.evicted == 41


def test_pending_discarded_do_not_count() -> None:
    """They were admitted or have left; discarding one twice has no effect."""
    pending, made = crowd(3, "192.0.2.1", "192.0.2.1", "192.0.2.2")
    for connection in made[:2] * 2:
        pending.discard(connection)
    assert pending.add(FakeConnection("192.0.2.2"), ("192.0.2.2", 1)) is False
    assert len(pending) == 2
    pending.discard(made[2])
    assert pending.evict()
    assert not pending.evict()
    assert all(connection.is_open for connection in made)


@settings(max_examples=100, deadline=None)
@given(limit=st.integers(1, 6), steps=st.lists(st.tuples(st.sampled_from("aabc"), st.booleans()), max_size=40))
def test_pending_evicted_one_has_the_largest_share(limit: int, steps: list[tuple[str, bool]]) -> None:
    """The choice is the same as by counting all connections again each time."""
    pending = PendingConnections(limit)
    there: list[FakeConnection] = []
    for host, comes in steps:
        if not comes:
            if there:
                pending.discard(there.pop(len(there) // 2))
            continue
        there.append(FakeConnection(host))
        evicted = pending.add(there[-1], there[-1].address)
        assert evicted == (len(there) > limit)
        if evicted:
            counts = Counter(connection.address for connection in there)
            (dropped,) = (connection for connection in there if not connection.is_open)
            assert counts[dropped.address] == max(counts.values())
            assert dropped is next(connection for connection in there if connection.address == dropped.address)
            assert dropped is not there[-1]
            there.remove(dropped)
        assert set(pending) == set(there)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_pending_of_one_address_spare_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """This holds for real sockets too, and the log says it once."""
    with serve("wsproto", Limits(max_pending_connections=5)) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        other = stack.enter_context(socket.create_connection(address, 20, ("127.0.0.2", 0)))
        flood = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(30)]
        until(lambda: ends(flood[-5]))
        assert not ends(other)
        assert not any(map(ends, flood[-4:]))
    (line,) = [message for message in caplog.messages if "in the handshake" in message]
    assert line.startswith("5 connections are in the handshake or being refused, which is the limit")
