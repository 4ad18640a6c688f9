"""Limits for one client: connections of its address, messages per second, and the expiry of its credential."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websocket_serving import DEADLINE, Served, end_of, eventually, talks
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

from zcli_core.auth.contract import Identified
from zcli_core.testing.auth_server import serving
from zcli_core.websocket import client_limits

Serve = Callable[..., Served]


# --- connections of one address ---


def test_address_limit_reached_is_refused(serve: Serve) -> None:
    """With 1013; a freed slot can be used at once, and other addresses have their own limit."""
    served = serve(max_connections_per_address=2, trusted_proxies=["127.0.0.1"])

    def client(address: str) -> Any:
        return served.client(additional_headers={"X-Forwarded-For": address})

    with client("203.0.113.7") as first, client("203.0.113.7"):
        assert talks(first)
        headers = {"X-Forwarded-For": "203.0.113.7"}
        assert served.refusal(additional_headers=headers) == (1013, "too many connections from this address")
        with client("203.0.113.8") as other:
            assert talks(other)
        with client("2001:db8::1"), client("2001:db8::2"):
            ipv6 = {"X-Forwarded-For": "2001:db8::3"}
            assert served.refusal(additional_headers=ipv6) == (1013, "too many connections from this address")
    eventually(lambda: served.websocket.client_count == 0)
    with client("203.0.113.7") as again:
        assert talks(again)
    assert "its address has 2 connections or running handlers (websocket.max_connections_per_address)" in served.log()
    eventually(
        lambda: (
            served.websocket._servers[0].sessions.limits._counts == {"203.0.113.7": 1}
            or not served.websocket.client_count
        )
    )


def test_address_limit_with_http_refusal_is_429(serve: Serve) -> None:
    """With ``refuse_with: http`` the refusal is an HTTP status."""
    served = serve(max_connections_per_address=1, refuse_with="http")
    with served.client():
        assert served.status() == 429


def test_address_limit_ignores_unix_socket(serve: Serve, tmp_path: Path) -> None:
    """Its clients have no address and do not count as one client."""
    path = str(tmp_path / "s")
    served = serve(unix_path=path, max_connections_per_address=1)
    with unix_connect(path, uri="ws://localhost/") as first, unix_connect(path, uri="ws://localhost/") as second:
        assert talks(first)
        assert talks(second)
    assert served.log()


# --- messages a second ---


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_rate_limit_fast_client_is_delayed(serve: Serve, plain: bool) -> None:
    """No message is lost: the messages of one second are read at once, the others one by one."""
    times: list[float] = []
    texts: list[str] = []

    def note(websocket: Any, message: str) -> None:
        times.append(time.monotonic())
        texts.append(message)

    async def note_async(websocket: Any, message: str) -> None:
        note(websocket, message)

    served = serve(note if plain else note_async, max_messages_per_second=50)
    with served.client() as client:
        for number in range(75):
            client.send(str(number))
        eventually(lambda: len(texts) == 75)
        assert served.websocket.client_count == 1
    assert texts == [str(number) for number in range(75)]
    assert times[-1] - times[0] > 24 / 50  # 50 at once, and 25 more at 50 a second
    assert served.log().count("sends more than 50 messages a second and is read more slowly") == 1


def test_rate_limit_normal_client_is_not_delayed(serve: Serve) -> None:
    """Its messages are handled at once, and nothing is logged."""
    served = serve(max_messages_per_second=1000)
    with served.client() as client:
        for _ in range(100):
            assert talks(client)
    assert "is read more slowly" not in served.log()


def test_rate_limit_other_client_is_not_delayed(serve: Serve) -> None:
    """Each client has its own rate."""
    served = serve(max_messages_per_second=5)
    with served.client() as fast, served.client() as slow:
        for number in range(8):
            fast.send(str(number))
        assert talks(slow)
        assert fast.recv(timeout=DEADLINE) == "0"


def test_rate_limit_delayed_client_can_close(serve: Serve) -> None:
    """Its close frame comes after waiting messages; the server closes and stops in time."""
    served = serve(max_messages_per_second=2, close_timeout=2)
    with served.client() as client:
        for number in range(10):
            client.send(str(number))
        assert client.recv(timeout=DEADLINE) == "0"
        began = time.monotonic()
        served.handle.stop()
        assert time.monotonic() - began < DEADLINE


# --- the time of a credential ---


class _Timed:
    """Accepts every client until the time in its query."""

    never_blocks = True

    def authenticate(self, request: Any) -> Any:
        return Identified("alice", expires_at=eval(request.query))


@pytest.fixture
def timed(isolated: Path) -> Iterator[Any]:
    """A server whose strategy sets the expiry of its clients."""
    with serving(lambda context: _Timed(), {}, isolated) as served:  # type: ignore[arg-type,return-value]
        yield served


@contextlib.contextmanager
def _client(timed: Any, expires_at: object) -> Iterator[Any]:
    with connect(f"ws://127.0.0.1:{timed.port}/?{expires_at}", proxy=None, open_timeout=DEADLINE) as client:
        yield client


def test_expired_credential_closes_connection(timed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1008 and a reason at the expiry, however often the clock was read before."""
    monkeypatch.setattr(client_limits, "_RECHECK", 0.02)
    for seconds in (0.2, 5.0):  # on a loaded machine the first lifetime may end before the client is accepted
        expires_at = time.time() + seconds
        with _client(timed, expires_at) as client:
            with contextlib.suppress(ConnectionClosed):
                talks(client)
            for connection in timed.z.comm.websocket.clients:
                info = timed.z.comm.websocket.auth.get_client_info(connection)
                assert info["expires_at"].timestamp() == pytest.approx(expires_at)
                assert end_of(client) == (1008, "the credential has expired")
                assert time.time() >= expires_at
                return
    pytest.fail("no client got in before its credential expired")


@pytest.mark.parametrize("expires_at", [None, 10**12, 1e300, "10**400"])
def test_credential_without_expiry_keeps_connection(timed: Any, expires_at: Any) -> None:
    """None never expires, and a time in the far future is accepted."""
    with _client(timed, expires_at) as client:
        assert talks(client)
        (connection,) = timed.z.comm.websocket.clients
        info = timed.z.comm.websocket.auth.get_client_info(connection)
        assert (info["expires_at"] is None) == (expires_at is None)
    eventually(lambda: not timed.z.comm.websocket._servers[0].sessions.limits._expiring)


@pytest.mark.parametrize(
    ("expires_at", "code"), [(0, 1008), (-math.pi, 1008), ("'soon'", 1011), ("True", 1011), ("float('nan')", 1011)]
)
def test_credential_with_invalid_expiry_is_refused(timed: Any, expires_at: object, code: int) -> None:
    """An expired one is a wrong credential; an invalid value is an error of the strategy."""
    with _client(timed, expires_at) as client:
        assert end_of(client)[0] == code
