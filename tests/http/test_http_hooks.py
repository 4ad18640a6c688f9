"""What running hooks see of a call."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from http_clients import URL, client_over, redirect
from verb_client import VerbClient

from zcli_core.config.sections import Http
from zcli_core.http.contract import HttpFailure, HttpRequest, HttpResponse, HttpTransport, TransportFailure
from zcli_core.testing import MockTransport, make_response


def test_request_hook_runs_before_the_request_is_signed() -> None:
    """A signature covers what hooks have added."""

    def add(request: HttpRequest) -> None:
        request.headers["X-Trace"] = f"trace of {request.method} {request.url.target}"

    def sign(request: HttpRequest) -> None:
        request.headers["X-Signed"] = request.headers["X-Trace"]

    mock = MockTransport(make_response())
    assert client_over(mock, on_request=add).get(f"{URL}path", auth=sign)
    assert mock.requests[0].headers["X-Trace"] == "trace of GET /path"
    assert mock.requests[0].headers["X-Signed"] == "trace of GET /path"


def test_request_hook_invalid_header_raises_in_it() -> None:
    """A line break would begin another header."""

    def add(request: HttpRequest) -> None:
        with pytest.raises(ValueError, match="control character"):
            request.headers["X-Evil"] = "a\r\nb: c"

    assert client_over(make_response(), on_request=add).get(URL)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Host", ["a.example", "b.example"]),
        ("Content-Length", ["4"]),
        ("Content-Length", ["3", "3"]),
        ("Transfer-Encoding", ["chunked"]),
    ],
)
def test_request_hook_second_framing_is_dropped(name: str, values: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of a plugin changes nothing, and is logged; the same in a function for auth raises ValueError."""

    def add(request: HttpRequest) -> None:
        for value in values:
            request.headers.add(name, value)

    mock = MockTransport(make_response())
    assert client_over(mock, on_request=add).post(URL, b"abc", headers={"X-Mine": "1"})
    assert name not in mock.requests[0].headers
    assert mock.requests[0].headers["X-Mine"] == "1"
    assert f"the headers set by hooks are invalid and not sent: {'a ' if name[0] == 'T' else ''}{name}" in caplog.text
    with pytest.raises(ValueError, match=name):
        client_over([]).post(URL, b"abc", auth=add)


@pytest.mark.parametrize("by", ["hook", "auth"])
def test_request_function_may_set_one_host(by: str) -> None:
    """One Host, and the length that the body has, leave one reading of the request."""

    def add(request: HttpRequest) -> None:
        request.headers["Host"] = "other.example"
        request.headers["Content-Length"] = "3"

    mock = MockTransport(make_response())
    http = client_over(mock, on_request=add if by == "hook" else None)
    assert http.post(URL, b"abc", **({"auth": add} if by == "auth" else {}))
    assert mock.requests[0].headers["Host"] == "other.example"


def test_response_hook_sees_each_outcome_once() -> None:
    """The response after redirects, or the failure; of an invalid URL there is no request to show."""
    seen: list[Any] = []
    outcomes = [redirect("/second"), make_response(), TransportFailure("protocol", "invalid response")]
    http = client_over(outcomes, on_response=lambda request, outcome: seen.append((request.url.target, outcome)))
    found = http.get(f"{URL}first")
    assert isinstance(found, HttpResponse)
    assert http.get(URL) is None
    failure = http.last_failure
    assert isinstance(failure, HttpFailure)
    http.get("no URL")
    assert seen == [("/first", found), ("/", failure)]


def test_request_hook_header_stays_on_its_site() -> None:
    """A hook does not see redirects, so what it adds must not follow them to another host."""

    def add(request: HttpRequest) -> None:
        request.headers["X-Tenant-Key"] = "hidden"

    mock = MockTransport([redirect("http://other.example/"), make_response()])
    assert client_over(mock, on_request=add).get(URL)
    assert ["x-tenant-key" in request.headers for request in mock.requests] == [True, False]


def test_transport_is_made_once_by_the_first_request() -> None:
    """A script that sends nothing does not pay for a transport."""
    made: list[MockTransport] = []

    def make() -> HttpTransport:
        made.append(MockTransport(make_response()))
        return made[-1]

    http = VerbClient(Http(), make, logging.getLogger("zcli.test"))
    assert not made
    assert http.get(URL)
    assert http.get(URL)
    http.close()
    assert [transport.closed for transport in made] == [True]
