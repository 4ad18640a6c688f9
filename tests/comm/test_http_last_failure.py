"""``last_failure``: what it tells, and to whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from zcli_core.comm.http import HttpClient
from zcli_core.config.sections import Http
from zcli_core.contracts.http import HttpFailure, HttpRequest, RawResponse
from zcli_core.testing.http.peer import closed_port


def test_it_tells_kind_message_method_url_and_elapsed(http: HttpClient) -> None:
    port = closed_port()
    assert http.last_failure is None
    assert http.put(f"http://127.0.0.1:{port}/path?key=secret", data="x") is None
    failure = http.last_failure
    assert failure is not None
    assert (failure.kind, failure.method, failure.url) == ("refused", "PUT", f"http://127.0.0.1:{port}/path?key=***")
    assert f"127.0.0.1:{port}" in failure.message
    assert 0 <= failure.elapsed < 10
    assert "refused" in str(failure)


def test_an_answer_clears_it(http: HttpClient, httpbin: str) -> None:
    assert http.get("") is None
    assert http.last_failure is not None
    assert http.get(f"{httpbin}/status/500") is not None
    assert http.last_failure is None


def test_it_is_logged_in_one_line(http: HttpClient, caplog: pytest.LogCaptureFixture) -> None:
    http.get("ftp://x")
    assert [record.getMessage() for record in caplog.records] == [str(http.last_failure)]
    assert "\n" not in caplog.records[0].getMessage()


def test_two_clients_do_not_share_it(make_http: Callable[..., HttpClient]) -> None:
    one, other = make_http(), make_http()
    one.get("")
    assert one.last_failure is not None
    assert other.last_failure is None


def test_each_thread_has_its_own(http: HttpClient, httpbin: str) -> None:
    barrier = threading.Barrier(2, timeout=20)

    def call(url: str) -> bool:
        http.get(url)
        barrier.wait()
        return http.last_failure is None

    with ThreadPoolExecutor(2) as threads:
        good = threads.submit(call, f"{httpbin}/get")
        bad = threads.submit(call, "")
        assert good.result()
        assert not bad.result()
    assert http.last_failure is None


def test_each_task_has_its_own(http: HttpClient, httpbin: str) -> None:
    async def call(url: str, called: asyncio.Event, other: asyncio.Event) -> bool:
        http.get(url)
        called.set()
        await other.wait()
        return http.last_failure is None

    async def both() -> list[bool]:
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(call(f"{httpbin}/get", one, two), call("", two, one))

    assert asyncio.run(both()) == [True, False]
    assert http.last_failure is None


class BrokenTransport:
    """A plugin with a bug."""

    def exchange(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        raise ZeroDivisionError("a bug")

    def close(self) -> None:
        pass


def test_a_transport_that_breaks_gives_none_and_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    http = HttpClient(Http(transport="mine"), BrokenTransport, logging.getLogger("zcli.test"))
    assert http.get("http://127.0.0.1/") is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "transport"
    assert "'mine'" in http.last_failure.message
    assert "ZeroDivisionError" in caplog.text
    assert "'mine'" in caplog.text


def test_a_failures_repr_has_no_path() -> None:
    """It may hold a key, and a repr may come into any log; str() is for people."""
    failure = HttpFailure("refused", "nothing listens there", "GET", "https://hooks.example:8443/T0/SECRET", 0.1)
    assert repr(failure) == "<HttpFailure refused: GET https://hooks.example:8443>"
    assert "/T0/SECRET" in str(failure)
