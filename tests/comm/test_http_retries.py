"""Retries: off unless asked for, never of what might be done twice, never beyond the deadline."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from zcli_core.comm.http import HttpClient
from zcli_core.comm.http.retries import retry_after
from zcli_core.contracts.http import Headers
from zcli_core.testing.http.peer import ScriptedServer, answering, closed_port, response

BUSY = response(b"busy", "503 Service Unavailable", "Retry-After: 0")
GOOD = response(b"good")


def failing(times: int) -> Callable[[ScriptedServer, socket.socket], None]:
    """Closes without an answer so many times, then answers."""

    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        while server.read_request(connection):
            if len(server.requests) <= times:
                return
            connection.sendall(GOOD)

    return handle


def test_nothing_is_retried_by_default(http: HttpClient) -> None:
    with ScriptedServer(answering(BUSY, GOOD)) as server:
        found = http.get(server.url)
        assert found is not None
        assert found.status_code == 503
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "status", ["429 Too Many Requests", "502 Bad Gateway", "503 Unavailable", "504 Gateway Timeout"]
)
def test_a_passing_status_is_retried(http: HttpClient, status: str) -> None:
    with ScriptedServer(answering(response(b"", status), GOOD)) as server:
        found = http.get(server.url, retries=1)
        assert found is not None
        assert found.content == b"good"


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "404 Not Found", "500 Internal Server Error"])
def test_a_lasting_status_is_not(http: HttpClient, status: str) -> None:
    with ScriptedServer(answering(response(b"", status))) as server:
        assert http.get(server.url, retries=3)
        assert len(server.requests) == 1


def test_a_broken_connection_is_retried_as_configured(make_http: Callable[..., HttpClient]) -> None:
    http = make_http(retries=2)
    with ScriptedServer(failing(2)) as server:
        found = http.get(server.url)
        assert found is not None
        assert found.content == b"good"
        assert len(server.requests) == 3


def test_the_last_outcome_counts_when_the_retries_are_used_up(http: HttpClient) -> None:
    with ScriptedServer(answering(BUSY)) as server:
        found = http.get(server.url, retries=2)
        assert found is not None
        assert found.status_code == 503
        assert len(server.requests) == 3
    assert http.get(f"http://127.0.0.1:{closed_port()}", retries=1) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "refused"


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_might_be_done_twice_is_retried_only_if_asked(
    http: HttpClient, make_http: Callable[..., HttpClient], method: str
) -> None:
    with ScriptedServer(answering(BUSY)) as server:
        assert http.request(method, server.url, data="x", retries=2)
        assert len(server.requests) == 1
        assert http.request(method, server.url, data="x", retries=1, retry_all_methods=True)
        assert len(server.requests) == 3
        assert make_http(retries=1, retry_all_methods=True).request(method, server.url)
        assert len(server.requests) == 5


def test_a_body_that_can_be_read_once_is_not_retried(http: HttpClient) -> None:
    with ScriptedServer(answering(BUSY)) as server:
        assert http.put(server.url, data=iter([b"once"]), headers={"Content-Length": "4"}, retries=2)
        assert len(server.requests) == 1


def test_a_failed_tls_handshake_is_not_retried(http: HttpClient) -> None:
    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 This is no TLS\r\n\r\n")

    with ScriptedServer(handle) as server:
        assert http.get(server.url.replace("http:", "https:"), retries=3) is None
        assert server.connections == 1
    assert http.last_failure is not None
    assert http.last_failure.kind == "tls"


def test_retry_after_is_respected(http: HttpClient) -> None:
    with ScriptedServer(answering(response(b"", "503 Busy", "Retry-After: 1"), GOOD)) as server:
        started = time.monotonic()
        found = http.get(server.url, retries=1)
        assert found is not None
        assert found.content == b"good"
        assert time.monotonic() - started >= 1


def test_an_answer_that_asks_to_wait_beyond_the_deadline_is_returned_at_once(http: HttpClient) -> None:
    with ScriptedServer(answering(response(b"", "429 Slow down", "Retry-After: 3600"))) as server:
        started = time.monotonic()
        found = http.get(server.url, retries=5, timeout=30)
        assert found is not None
        assert found.status_code == 429
        assert time.monotonic() - started < 20


def test_all_attempts_share_one_deadline(http: HttpClient) -> None:
    started = time.monotonic()
    assert http.get(f"http://127.0.0.1:{closed_port()}", retries=10, timeout=0.5) is None
    assert time.monotonic() - started < 8


def test_a_retry_is_logged_without_secrets(http: HttpClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with ScriptedServer(answering(BUSY, GOOD)) as server:
        assert http.get(f"{server.url}/?key=hidden", retries=1)
    assert "503 Service Unavailable; trying again in 0.00 s" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("9" * 400, float("inf"))],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after(Headers([("Retry-After", value)])) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime.now(timezone.utc)
    later = retry_after(Headers([("Retry-After", format_datetime(now + timedelta(seconds=60), usegmt=True))]))
    assert later == pytest.approx(60, abs=5)
    assert retry_after(Headers([("Retry-After", format_datetime(now - timedelta(days=1), usegmt=True))])) == 0
