"""Refusals: how long the response to a refused client is delayed, and the log of a burst."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
from websocket_serving import DEADLINE, TOKEN, Certificates, Served, eventually, talks

from zcli_core.websocket import refusals
from zcli_core.websocket.refusals import RefusalLog, RefusalPacer
from zcli_core.websocket.throttle import MAX_ADDRESSES

Serve = Callable[..., Served]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- how long answers wait ---


def test_pacer_fast_reconnects_are_few() -> None:
    """A client that reconnects at once after every response makes a dozen attempts in three seconds."""
    clock = Clock()
    pacer = RefusalPacer(3.0, clock)
    attempts = 0
    while clock.now < 1003:
        clock.now += pacer.delay("192.0.2.1") + 0.001
        attempts += 1
    assert attempts < 15


def test_pacer_delay_grows_to_its_limit() -> None:
    """The first responses have no delay, and none exceeds the setting."""
    pacer = RefusalPacer(3.0, Clock())
    delays = [pacer.delay("192.0.2.1") for _ in range(100)]
    assert delays[:5] == [0.0] * 5
    assert delays == sorted(delays)
    assert delays[5] == pytest.approx(0.1)
    assert delays[-1] == 3.0


def test_pacer_other_address_has_no_delay() -> None:
    """Each address has its own delay."""
    pacer = RefusalPacer(3.0, Clock())
    for _ in range(20):
        pacer.delay("192.0.2.1")
    assert pacer.delay("192.0.2.2") == 0.0


def test_pacer_quiet_address_is_forgotten() -> None:
    """Two minutes after the last refusal there is no delay."""
    clock = Clock()
    pacer = RefusalPacer(3.0, clock)
    for _ in range(1000):
        pacer.delay("192.0.2.1")
    clock.now += 120
    assert pacer.delay("192.0.2.1") == 0.0


def test_pacer_zero_has_no_delay() -> None:
    """The setting turns it off."""
    pacer = RefusalPacer(0.0, Clock())
    assert {pacer.delay("192.0.2.1") for _ in range(100)} == {0.0}


def test_pacer_memory_is_bounded() -> None:
    """Addresses with the oldest refusals are forgotten first."""
    pacer = RefusalPacer(3.0, Clock())
    for number in range(MAX_ADDRESSES + 10):
        pacer.delay(f"host-{number}")
    assert len(pacer._refusals) == MAX_ADDRESSES


@pytest.mark.parametrize("refuse_with", ["close", "http"])
@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"max_connections": 1}, "/"),
        ({"require_auth": True, "token": TOKEN}, "/?token=wrong"),
        ({"require_auth": True, "token": TOKEN}, "/"),
    ],
    ids=["full", "wrong token", "no token"],
)
def test_refusal_is_delayed(serve: Serve, settings: dict[str, Any], path: str, refuse_with: str) -> None:
    """For every kind of refusal; the response itself is the same."""
    served = serve(**settings, refuse_with=refuse_with, max_refusal_delay=0.2)
    with served.client(f"/?token={TOKEN}"):
        outcome = served.status if refuse_with == "http" else served.refusal
        first = outcome(path)
        for _ in range(5):
            outcome(path)
        began = time.monotonic()
        assert outcome(path) == first
        assert time.monotonic() - began >= 0.19  # uvloop rounds to milliseconds


def test_refusal_of_oversized_head_is_delayed(serve: Serve) -> None:
    """The transport refuses it without calling the gate, with the same delay."""
    served = serve(max_refusal_delay=0.2, max_header_bytes=1024)
    for _ in range(7):
        began = time.monotonic()
        assert served.refusal(f"/?{'x' * 2000}") == (1008, "The request's head is over 1024 bytes.")
    assert time.monotonic() - began >= 0.19  # uvloop rounds to milliseconds
    assert served.log().count("head is over 1024 bytes") == 1


def test_accepted_client_is_not_delayed(serve: Serve) -> None:
    """Other clients of the same address are refused meanwhile."""
    served = serve(require_auth=True, token=TOKEN, max_refusal_delay=30)
    for _ in range(5):
        served.refusal("/?token=wrong")
    with served.client(f"/?token={TOKEN}") as client:
        assert talks(client)


def test_stop_drops_delayed_refusals(serve: Serve) -> None:
    """The server does not wait for delayed responses."""
    served = serve(require_auth=True, token=TOKEN, max_refusal_delay=60)
    for _ in range(16):
        served.websocket._servers[0].loop.call_soon_threadsafe(
            served.websocket._servers[0].gate._pacer.delay, "127.0.0.1"
        )
    request = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as waiting:
        waiting.sendall(request)
        served.logged("it sent no credential")
        began = time.monotonic()
        served.handle.stop()
        assert time.monotonic() - began < DEADLINE
        with contextlib.suppress(ConnectionResetError):
            assert waiting.recv(100) == b""


# --- what is logged ---


@pytest.fixture
def short_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log the number of refusals after a shorter time."""
    monkeypatch.setattr(refusals, "BURST", 0.05)


def test_refusal_log_burst_is_one_line_and_a_count(caplog: pytest.LogCaptureFixture, short_bursts: None) -> None:
    """The first refusal is logged at once, the others as a number."""

    async def burst() -> list[str]:
        log = RefusalLog(logging.getLogger("test-refusals"), asyncio.get_running_loop())
        for port in range(1, 1001):
            log.note(("192.0.2.1", port), "wrong token")
            log.note(("2001:db8::1", port), "wrong token")
        log.note(("192.0.2.1", 1), "no token")
        while len(caplog.messages) < 5:
            await asyncio.sleep(0.01)
        log.close()
        return list(caplog.messages)

    assert asyncio.run(burst()) == [
        "refused 192.0.2.1:1: wrong token",
        "refused [2001:db8::1]:1: wrong token",
        "refused 192.0.2.1:1: no token",
        "refused 192.0.2.1 999 more times; the last time: wrong token",
        "refused 2001:db8::/48 999 more times; the last time: wrong token",
    ]


def test_refusal_log_after_quiet_time_restarts(caplog: pytest.LogCaptureFixture, short_bursts: None) -> None:
    """Nothing of the earlier burst is kept."""

    async def twice() -> None:
        log = RefusalLog(logging.getLogger("test-refusals"), asyncio.get_running_loop())
        log.note(("192.0.2.1", 1), "wrong token")
        while log._bursts:
            await asyncio.sleep(0.01)
        assert log._timer is None
        log.note(("192.0.2.1", 2), "wrong token")
        log.close()

    asyncio.run(twice())
    assert caplog.messages == ["refused 192.0.2.1:1: wrong token", "refused 192.0.2.1:2: wrong token"]


def test_refusal_log_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Neither other Origins each time nor ten thousand addresses fill the log."""

    async def flood() -> None:
        log = RefusalLog(logging.getLogger("test-refusals"), asyncio.get_running_loop())
        for number in range(200):
            log.note(("192.0.2.1", 1), f"origin {number}")
        assert len(caplog.messages) == 16
        for number in range(200):
            log.note((f"2001:db8:0:{number:x}::1", 1), f"origin {number}")
        assert len(caplog.messages) == 32
        for number in range(MAX_ADDRESSES + 300):
            log.note((f"host-{number}", 1), "wrong token")
        assert len(log._bursts) == MAX_ADDRESSES + 1
        log.close()

    asyncio.run(flood())
    assert caplog.messages[-1] == "refused other addresses 301 more times; the last time: wrong token"
    assert "refused 192.0.2.1 184 more times; the last time: origin 199" in caplog.messages


def test_refusal_log_has_the_count_at_stop(serve: Serve) -> None:
    """The number is logged at the latest when the server stops."""
    served = serve(require_auth=True, token=TOKEN)
    for _ in range(30):
        served.refusal()
    served.handle.stop()
    log = served.log()
    assert log.count("it sent no credential") == 2
    assert "refused 127.0.0.1 29 more times; the last time: it sent no credential (token)" in log


# --- TLS handshakes ---


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_rejected_certificate_is_logged(serve: Serve, certificates: Certificates, loop: str) -> None:
    """A browser that rejects a self-signed certificate reports it only in a TLS alert."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    certificate, key = certificates.issue("a")
    served = serve(ssl_enabled=True, ssl_cert=str(certificate), ssl_key=str(key), loop=loop)
    for _ in range(3):
        with pytest.raises(ssl.SSLError), served.client(ssl=ssl.create_default_context()):
            pass
    served.logged("refused 127.0.0.1:")
    assert served.log().count("it did not accept the server's certificate (unknown ca)") == 1
    with served.client(ssl=certificates.trusting()) as client:
        assert talks(client)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_port_scan_on_tls_is_not_logged(serve: Serve, certificates: Certificates, loop: str) -> None:
    """Nor is a client that does not speak TLS or disconnects in the handshake."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    certificate, key = certificates.issue("a")
    served = serve(ssl_enabled=True, ssl_cert=str(certificate), ssl_key=str(key), loop=loop)
    before = served.log()
    for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as probe:
            probe.sendall(sent)
    with served.client(ssl=certificates.trusting()) as client:
        assert talks(client)
    eventually(lambda: served.websocket.client_count == 0)
    added = served.log()[len(before) :]
    assert "WARNING" not in added
    assert "ERROR" not in added
