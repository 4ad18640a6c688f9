"""Limits for what clients that connect and disconnect can make a server hold and log."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websocket_serving import DEADLINE, Served, eventually

from zcli_core.security_warnings import warn_security
from zcli_core.testing.websocket.client import Client, reset, upgrade_request
from zcli_core.testing.websocket.frames import TEXT, frame
from zcli_core.websocket import log_limit
from zcli_core.websocket.log_limit import LogLimit

Serve = Callable[..., Served]


class Blocking:
    """A plain function that blocks until the test ends."""

    def __init__(self) -> None:
        self.calls = 0
        self.may_return = threading.Event()

    def __call__(self, *_: Any) -> None:
        self.calls += 1
        self.may_return.wait(60)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    """A function that blocks until the test ends."""
    function = Blocking()
    yield function
    function.may_return.set()


def connect(served: Served) -> Client:
    """Return a client that has received the response to its upgrade."""
    return Client(socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE), upgrade_request(target="/"))


def was_let_in(served: Served, client: Client) -> bool:
    """Whether a client is connected; False if it received a close frame."""

    def decided() -> bool:
        return bool(served.websocket.client_count or client._buffer or _has_more(client.sock))

    eventually(decided, "an answer to the upgrade")
    return bool(served.websocket.client_count)


def _has_more(sock: socket.socket) -> bool:
    sock.settimeout(0.001)
    with contextlib.suppress(TimeoutError):
        return bool(sock.recv(1, socket.MSG_PEEK))
    return False


def come_and_go(served: Served, blocking: Blocking, times: int) -> int:
    """Connect, send and disconnect repeatedly; return the number of refused clients."""
    refused = 0
    for _ in range(times):
        before = blocking.calls
        client = connect(served)
        client.send(frame(TEXT, b"work"))
        let_in = was_let_in(served, client)
        reset(client.sock)
        refused += not let_in
        eventually(lambda: served.websocket.client_count == 0)
        if let_in:
            eventually(lambda count=before: blocking.calls > count, "the call")  # type: ignore[misc]
    return refused


@pytest.mark.parametrize("callback", ["handler", "on_connect"])
@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
def test_handlers_of_gone_clients_count(serve: Serve, blocking: Blocking, callback: str, limit: str) -> None:
    """There are never more handlers than clients may be connected."""
    served = serve(**{callback: blocking, limit: 3}, close_timeout=0.1)
    assert come_and_go(served, blocking, 6) == 3
    assert blocking.calls == 3
    blocking.may_return.set()

    def is_let_in() -> bool:
        with connect(served) as client:
            return was_let_in(served, client)

    eventually(is_let_in, "a free place")


def test_on_disconnect_calls_are_limited(serve: Serve, blocking: Blocking) -> None:
    """To as many calls as clients may be connected, so that a client may reconnect at once."""
    served = serve(on_disconnect=blocking, max_connections=3)
    assert come_and_go(served, blocking, 8) == 2
    assert blocking.calls == 6


# --- the log ---


class Clock:
    """A clock that the test sets, with scheduled calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.later: list[Callable[[], None]] = []

    def __call__(self) -> float:
        return self.now

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self.later.append(function)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[logging.Logger, Clock]]:
    """A logger that allows 3 lines of a kind, and one more every 10 s."""
    monkeypatch.setattr(log_limit, "_AT_ONCE", 3)
    log, clock = logging.getLogger("test-log-limit"), Clock()
    limit = LogLimit(log, clock.call_later, clock)
    log.addFilter(limit)
    yield log, clock
    log.removeFilter(limit)


def test_log_limit_omits_and_counts_lines(
    limited: tuple[logging.Logger, Clock], caplog: pytest.LogCaptureFixture
) -> None:
    """Each place in the code by itself, whatever its lines say; lines below WARNING are all logged."""
    log, clock = limited
    caplog.set_level(logging.INFO)
    for number in range(10):
        log.error("a failed for %d", number)
        log.warning(f"b failed for {number}")
        log.info("c came")
    assert len(caplog.messages) == 3 + 3 + 10
    assert len(clock.later) == 1
    clock.later.pop()()
    assert caplog.messages[-2:] == [
        "7 more lines like this one were omitted: a failed for 9",
        "7 more lines like this one were omitted: b failed for 9",
    ]
    assert [record.levelname for record in caplog.records[-2:]] == ["ERROR", "WARNING"]


def test_log_limit_cuts_a_long_line_between_words(
    limited: tuple[logging.Logger, Clock], caplog: pytest.LogCaptureFixture
) -> None:
    """The filter of the log would not find a part of a secret."""
    log, clock = limited
    for _ in range(5):
        log.error("%s hunter2-hunter2 %s", "a" * 290, "b" * 300)
    clock.later.pop()()
    assert caplog.messages[-1] == "2 more lines like this one were omitted: " + "a" * 290


def test_log_limit_invalid_arguments_raise_nothing(
    limited: tuple[logging.Logger, Clock], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the lines that are not omitted, whose errors logging reports."""
    monkeypatch.setattr(log_limit, "_AT_ONCE", 0)
    log, clock = limited
    log.error("%d clients", "no")
    clock.later.pop()()
    assert caplog.messages == ["1 more lines like this one were omitted: a line with invalid arguments"]


def test_log_limit_recovers_with_time(limited: tuple[logging.Logger, Clock], caplog: pytest.LogCaptureFixture) -> None:
    """One line per interval, and after a long time as many as at first."""
    log, clock = limited
    for now, logged in ((0, 3), (5, 0), (11, 1), (1000, 3)):
        clock.now = now
        caplog.clear()
        for _ in range(4):
            log.error("failed")
        assert len(caplog.messages) == logged, now


def test_log_limit_keeps_security_warnings(
    limited: tuple[logging.Logger, Clock], caplog: pytest.LogCaptureFixture
) -> None:
    """They all come from one place in the code."""
    log, _ = limited
    for number in range(10):
        warn_security(log, "trust is given to %d", number)
    assert len(caplog.messages) == 10


def test_log_limit_bounds_handler_tracebacks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that makes the handler raise causes a bounded number of tracebacks; the rest is counted."""
    monkeypatch.setattr(log_limit, "_AT_ONCE", 2)

    async def fail(websocket: Any, message: str) -> None:
        raise ValueError(message)

    served = serve(fail)
    for _ in range(6):
        client = connect(served)
        client.send(frame(TEXT, b"nonsense"))
        assert client.close_code() == 1011
        client.sock.close()
    served.handle.stop()
    assert served.log().count("Traceback") == 2
    served.logged("4 more lines like this one were omitted: the handler failed on 127.0.0.1:")
