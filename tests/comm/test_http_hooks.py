"""What running hooks see of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zcli_core.comm.http import HttpClient
from zcli_core.contracts.http import HttpFailure, HttpRequest, HttpResponse
from zcli_core.testing.http.peer import ScriptedServer, answering, response


def test_the_request_hook_adds_headers_before_the_request_is_signed(
    make_http: Callable[..., HttpClient], httpbin: str
) -> None:
    def add(request: HttpRequest) -> None:
        request.headers["X-Trace"] = f"trace of {request.method} {request.url.target}"

    def sign(request: HttpRequest) -> None:
        request.headers["X-Signed"] = request.headers["X-Trace"]

    found = make_http(on_request=add).get(f"{httpbin}/headers", auth=sign)
    assert found is not None
    assert found.json()["headers"]["X-Trace"] == "trace of GET /headers"
    assert found.json()["headers"]["X-Signed"] == "trace of GET /headers"


def test_a_header_that_cannot_be_sent_is_refused_in_the_hook(
    make_http: Callable[..., HttpClient], httpbin: str
) -> None:
    def add(request: HttpRequest) -> None:
        with pytest.raises(ValueError, match="line break"):
            request.headers["X-Evil"] = "a\r\nb: c"

    assert make_http(on_request=add).get(f"{httpbin}/headers")


def test_the_response_hook_sees_answers_and_failures_once_a_call(
    make_http: Callable[..., HttpClient], httpbin: str
) -> None:
    seen: list[Any] = []
    http = make_http(on_response=lambda request, outcome: seen.append((request.url.target, outcome)))
    found = http.get(f"{httpbin}/redirect/2")
    assert seen == [("/redirect/2", found)]
    assert isinstance(found, HttpResponse)
    with ScriptedServer(answering(b"no http", keep_open=False)) as server:
        http.get(server.url)
    target, outcome = seen[1]
    assert target == "/"
    assert isinstance(outcome, HttpFailure)
    assert outcome is http.last_failure
    assert len(seen) == 2


def test_headers_of_a_hook_stay_on_their_site(make_http: Callable[..., HttpClient]) -> None:
    def add(request: HttpRequest) -> None:
        request.headers["X-Tenant-Key"] = "hidden"

    http = make_http(on_request=add)
    with (
        ScriptedServer(answering(response())) as other,
        ScriptedServer(answering(response(b"", "302 Found", f"Location: {other.url}"))) as server,
    ):
        assert http.get(server.url)
        assert b"hidden" in server.requests[0]
        assert b"hidden" not in other.requests[0]


def test_the_transport_is_made_with_the_first_request_and_once() -> None:
    import logging

    from zcli_urllib3.transport import Urllib3Transport

    from zcli_core.config.sections import Http

    made: list[Urllib3Transport] = []

    def make() -> Urllib3Transport:
        made.append(Urllib3Transport(Http()))
        return made[-1]

    http = HttpClient(Http(), make, logging.getLogger("zcli.test"))
    assert not made
    with ScriptedServer(answering(response())) as server:
        assert http.get(server.url)
        assert http.get(server.url)
    http.close()
    assert len(made) == 1
