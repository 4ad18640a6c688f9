"""A probe ends at its deadline, and an exception of a signal handler ends it at once."""

from __future__ import annotations

import itertools
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from slow_resolver import SLOW_HOST, slow_resolver

from zcli_core.app import zCLI
from zcli_core.services.contract import Exchange
from zcli_core.services.probe_connection import MAX_REPLY, NoConnectionError, ProbeConnection
from zcli_core.testing.tcp_peers import BannerServer, TcpPeer


def test_connection_slow_resolver_times_out() -> None:
    """Resolving the name counts against the deadline."""
    started = time.monotonic()
    message = "cannot resolve .* in time"
    with slow_resolver(), ProbeConnection(SLOW_HOST, 1, 0.05) as wire, pytest.raises(NoConnectionError, match=message):
        wire.exchange(Exchange(b"hello", bool))
    assert time.monotonic() - started < 30


def test_status_slow_resolver_keeps_timeout(make: Callable[..., zCLI]) -> None:
    """``services.probe_timeout`` holds for a service on a host whose name is not resolved."""
    z = make(probe_timeout=0.05, redis={"host": SLOW_HOST})
    started = time.monotonic()
    with slow_resolver():
        assert z.comm.service_status("redis")["running"] is False
    assert time.monotonic() - started < 30


def test_status_resolves_the_host_once(make: Callable[..., zCLI], monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding the holder of the port does not resolve the name again."""
    resolver, asked = socket.getaddrinfo, []

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == b"counted.invalid":
            asked.append(host)
            host = b"127.0.0.1"
        return resolver(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with BannerServer(b"") as stranger:
        z = make(probe_timeout=0.2, redis={"host": "counted.invalid", "port": stranger.port})
        assert z.comm.service_status("redis")["state"] == "silent"
    assert len(asked) == 1


class Dripping(TcpPeer):
    """Sends some bytes and then single bytes, ``count`` of them or until the client closes."""

    def __init__(self, beginning: bytes, count: int | None = None) -> None:
        super().__init__()
        self._beginning = beginning
        self._count = count

    def talk(self, connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(self._beginning)
        for _ in itertools.repeat(None) if self._count is None else range(self._count):
            connection.sendall(b"\0")


# Each reply is incomplete in its own protocol: a login, an array, a document.
BEGINNINGS = {
    "postgresql": b"NS\0\0\0\x04E\0\xff\xff\xff",
    "redis": b"-" + b"x" * 2000,
    "mongodb": struct.pack("<iiii", 40_000_000, 1, 1, 2013),
    "nats": b"INFO {",
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_status_of_a_dripping_service_ends(make: Callable[..., zCLI], name: str) -> None:
    """The probe ends at its deadline although the server keeps sending bytes."""
    with Dripping(BEGINNINGS[name]) as peer:
        z = make(probe_timeout=0.2, **{name: {"port": peer.port}})
        assert z.comm.service_status(name)["ready"] is False


def test_connection_single_bytes_end_at_the_deadline() -> None:
    """It does not read until the limit of bytes."""
    with Dripping(b"") as peer, ProbeConnection("127.0.0.1", peer.port, 0.05) as wire:
        reply = wire.exchange(Exchange(b"hello", lambda data: False))
    assert len(reply) < MAX_REPLY


def test_connection_pieces_are_not_parsed_one_by_one() -> None:
    """A long reply in single bytes is parsed each time that it has grown by an eighth, or pauses."""
    parsed: list[int] = []
    with Dripping(b"", MAX_REPLY) as peer, ProbeConnection("127.0.0.1", peer.port, 60) as wire:
        reply = wire.exchange(Exchange(b"hello", lambda data: parsed.append(len(data)) or False))  # type: ignore[func-returns-value]
    assert len(reply) == MAX_REPLY
    assert sum(parsed) < 100 * MAX_REPLY


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_connection_signal_exception_passes_through() -> None:
    """A TimeoutError of a signal handler is not handled as a timeout of the service."""

    def ring(*_: Any) -> None:
        raise TimeoutError("by a signal")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, ProbeConnection(*listener.getsockname(), 30.0) as wire:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(TimeoutError, match="by a signal"):
                wire.exchange(Exchange(b"hello", bool))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
