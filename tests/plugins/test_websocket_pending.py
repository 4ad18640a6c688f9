"""Which connection is closed for a new one, where too many are not let in."""

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


class HandshakeProtocol:
    """A connection that can be dropped."""

    def __init__(self, host: str) -> None:
        self.address: Address = None if host == "unix" else (host, 1)
        self.is_open = True

    def abort(self) -> None:
        assert self.is_open
        self.is_open = False

    def drop(self) -> None:
        self.abort()


def crowd(limit: int, *hosts: str) -> tuple[PendingConnections, list[HandshakeProtocol]]:
    """Connections of these addresses, in this order."""
    openings, made = PendingConnections(limit), [HandshakeProtocol(host) for host in hosts]
    for opening in made:
        openings.add(opening, opening.address)
    return openings, made


def test_openings_one_address_may_use_the_whole_limit() -> None:
    """All clients of a proxy have its address."""
    openings, made = crowd(100, *["192.0.2.1"] * 100)
    assert len(openings) == 100
    assert all(opening.is_open for opening in made)


@pytest.mark.parametrize("stranger", ["192.0.2.1", "2001:db8::{}", "::ffff:192.0.2.1", "unix"])
def test_openings_address_with_most_loses_its_oldest(stranger: str) -> None:
    """A stranger cannot shut out the clients of other addresses; an IPv6 /64 counts as one address."""
    hosts = [stranger.format(number) for number in range(1, 50)]
    openings, made = crowd(10, "192.0.2.7", "2001:db8:0:1::7", *hosts)
    assert len(openings) == 10
    assert [opening.is_open for opening in made] == [True, True] + [False] * 41 + [True] * 8
    assert openings.evicted == 41


def test_openings_that_have_gone_do_not_count() -> None:
    """They were let in, or have left; to say so twice is harmless."""
    openings, made = crowd(3, "192.0.2.1", "192.0.2.1", "192.0.2.2")
    for opening in made[:2] * 2:
        openings.discard(opening)
    assert openings.add(HandshakeProtocol("192.0.2.2"), ("192.0.2.2", 1)) is False
    assert len(openings) == 2
    openings.discard(made[2])
    assert openings.evict()
    assert not openings.evict()
    assert all(opening.is_open for opening in made)


@settings(max_examples=100, deadline=None)
@given(limit=st.integers(1, 6), steps=st.lists(st.tuples(st.sampled_from("aabc"), st.booleans()), max_size=40))
def test_openings_dropped_one_has_the_largest_share(limit: int, steps: list[tuple[str, bool]]) -> None:
    """Whoever comes and goes, the choice is the same as if all were counted anew each time."""
    openings = PendingConnections(limit)
    there: list[HandshakeProtocol] = []
    for host, comes in steps:
        if not comes:
            if there:
                openings.discard(there.pop(len(there) // 2))
            continue
        there.append(HandshakeProtocol(host))
        evicted = openings.add(there[-1], there[-1].address)
        assert evicted == (len(there) > limit)
        if evicted:
            counts = Counter(opening.address for opening in there)
            (dropped,) = (opening for opening in there if not opening.is_open)
            assert counts[dropped.address] == max(counts.values())
            assert dropped is next(opening for opening in there if opening.address == dropped.address)
            assert dropped is not there[-1]
            there.remove(dropped)
        assert set(openings) == set(there)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_openings_of_one_address_leave_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Also where real sockets are closed; the log says it once."""
    with serve("wsproto", Limits(max_pending_connections=5)) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        other = stack.enter_context(socket.create_connection(address, 20, ("127.0.0.2", 0)))
        flood = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(30)]
        until(lambda: ends(flood[-5]))
        assert not ends(other)
        assert not any(map(ends, flood[-4:]))
    (line,) = [message for message in caplog.messages if "in the handshake" in message]
    assert line.startswith("5 connections are in the handshake or being refused, which is the limit")
