"""``last_failure``: what it contains, and for which client, thread and task."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest
from http_clients import URL, Clock, client_over, failure_of

from zcli_core.http.client import HttpClient
from zcli_core.http.contract import FailureKind, HttpFailure, HttpRequest, RawResponse, TransportFailure
from zcli_core.testing import MockRequest, MockTransport, make_response


@pytest.fixture
def http() -> HttpClient:
    """A client to which every server responds."""
    return client_over(make_response())


def test_last_failure_holds_what_happened(clock: Clock) -> None:
    """Kind, message, method, URL without query values, and seconds."""

    def fail(request: MockRequest) -> RawResponse:
        clock.now += 0.25
        raise TransportFailure("refused", "nothing listens on host.example:81")

    http = client_over(fail)
    assert http.last_failure is None
    assert http.put("http://host.example:81/path?key=secret", data="x") is None
    failure = failure_of(http)
    assert (failure.kind, failure.method, failure.url) == ("refused", "PUT", "http://host.example:81/path?key=***")
    assert failure.message == "nothing listens on host.example:81"
    assert failure.elapsed == pytest.approx(0.25)
    assert "refused after 0.250 s" in str(failure)


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_last_failure_has_the_transports_kind(kind: FailureKind) -> None:
    """Each kind of failure gives None and keeps its name."""
    http = client_over(TransportFailure(kind, "why"))
    assert http.get(URL) is None
    assert (failure_of(http).kind, failure_of(http).message) == (kind, "why")


@pytest.mark.parametrize("status", [200, 404, 500])
def test_last_failure_is_cleared_by_a_response(http: HttpClient, status: int) -> None:
    """A response of any status is not a failure."""
    assert http.get("") is None
    assert http.last_failure is not None
    http.use_transport(MockTransport(make_response(status)))
    assert http.get(URL) is not None
    assert http.last_failure is None


def test_last_failure_is_logged_in_one_line(http: HttpClient, caplog: pytest.LogCaptureFixture) -> None:
    """With everything that it contains."""
    http.get("ftp://x")
    assert [record.getMessage() for record in caplog.records] == [str(http.last_failure)]
    assert "\n" not in caplog.records[0].getMessage()


def test_last_failure_belongs_to_one_client(http: HttpClient) -> None:
    """Another client's calls do not change it."""
    other = client_over(make_response())
    http.get("")
    failure = http.last_failure
    assert failure is not None
    assert other.last_failure is None
    other.get("")
    assert http.last_failure is failure
    other.get(URL)
    assert http.last_failure is failure


def test_last_failure_belongs_to_one_thread(http: HttpClient) -> None:
    """Calls of other threads at the same time do not change it."""
    barrier = threading.Barrier(2, timeout=20)

    def call(url: str) -> bool:
        http.get(url)
        barrier.wait()
        return http.last_failure is None

    with ThreadPoolExecutor(2) as threads:
        good = threads.submit(call, URL)
        bad = threads.submit(call, "")
        assert good.result()
        assert not bad.result()
    assert http.last_failure is None


def test_last_failure_belongs_to_one_task(http: HttpClient) -> None:
    """Calls of other asyncio tasks in the same thread do not change it."""

    async def call(url: str, called: asyncio.Event, other: asyncio.Event) -> bool:
        http.get(url)
        called.set()
        await other.wait()
        return http.last_failure is None

    async def both() -> list[bool]:
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(call(URL, one, two), call("", two, one))

    assert asyncio.run(both()) == [True, False]
    assert http.last_failure is None


class BrokenTransport:
    """A plugin with a bug."""

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        raise ZeroDivisionError("a bug")

    def close(self) -> None:
        pass


def test_transport_bug_gives_none_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The transport is named, and the log has the traceback."""
    http = client_over(BrokenTransport(), transport="mine")
    assert http.get(URL) is None
    assert failure_of(http).kind == "transport"
    assert "'mine'" in failure_of(http).message
    assert "ZeroDivisionError" in caplog.text
    assert "'mine'" in caplog.text


def test_failure_repr_has_no_path() -> None:
    """A path may hold a key, and a repr may come into any log; str() is for people."""
    failure = HttpFailure("refused", "nothing listens there", "GET", "https://hooks.example:8443/T0/SECRET", 0.1)
    assert repr(failure) == "<HttpFailure refused: GET https://hooks.example:8443>"
    assert "/T0/SECRET" in str(failure)
