"""A probe ends at its deadline, whatever keeps it, and a signal ends it at once."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from slow_resolver import SLOW_HOST, slow_resolver

from zcli_core.app import zCLI
from zcli_core.comm.services.wire import NoConnectionError, Wire
from zcli_core.contracts.service import Exchange
from zcli_core.testing.tcp_peers import Stranger


def test_wire_slow_resolver_times_out() -> None:
    """The look-up of a name counts against the deadline."""
    started = time.monotonic()
    message = "not resolved in time"
    with slow_resolver(), Wire(SLOW_HOST, 1, 0.05) as wire, pytest.raises(NoConnectionError, match=message):
        wire.exchange(Exchange(b"hello", bool))
    assert time.monotonic() - started < 30


def test_status_slow_resolver_keeps_timeout(make: Callable[..., zCLI]) -> None:
    """``services.timeout`` holds for a service on a host whose name is not resolved."""
    z = make(timeout=0.05, redis={"host": SLOW_HOST})
    started = time.monotonic()
    with slow_resolver():
        assert z.comm.service_status("redis")["running"] is False
    assert time.monotonic() - started < 30


def test_status_stranger_resolves_the_host_once(make: Callable[..., zCLI], monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding out what answered, and who holds the port, does not wait for the name server again."""
    resolver, asked = socket.getaddrinfo, []

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == b"counted.invalid":
            asked.append(host)
            host = b"127.0.0.1"
        return resolver(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with Stranger(b"") as stranger:
        z = make(timeout=0.2, redis={"host": "counted.invalid", "port": stranger.port})
        assert z.comm.service_status("redis")["state"] == "silent"
    assert len(asked) == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_wire_signal_exception_passes_through() -> None:
    """A handler's TimeoutError is not taken for the silence of the service."""

    def ring(*_: Any) -> None:
        raise TimeoutError("by a signal")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, Wire(*listener.getsockname(), 30.0) as wire:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(TimeoutError, match="by a signal"):
                wire.exchange(Exchange(b"hello", bool))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
