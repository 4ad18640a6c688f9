"""The deadline of a call that the client passes to the transport. The contract suite tests that transports keep it."""

from __future__ import annotations

from typing import Any

import pytest
from http_clients import URL, Clock, client_over, failure_of, redirect

from zcli_core.http.contract import RawResponse, TransportFailure
from zcli_core.testing import MockRequest, MockTransport, make_response


@pytest.mark.parametrize(
    ("settings", "arguments", "seconds"),
    [
        ({}, {}, 10.0),
        ({"timeout": 3.5}, {}, 3.5),
        ({"timeout": 3.5}, {"timeout": 0.25}, 0.25),
        ({}, {"timeout": 7}, 7.0),
        ({}, {"timeout": 1e300}, 1e6),
        ({}, {"timeout": 10**400}, 1e6),
    ],
    ids=["default", "configured", "argument first", "int", "far away", "beyond float"],
)
def test_timeout_sets_the_transports_deadline(
    clock: Clock, settings: dict[str, Any], arguments: dict[str, Any], seconds: float
) -> None:
    """Counted from the beginning of the call, and never more than a socket's timeout can hold."""
    mock = MockTransport(make_response())
    assert client_over(mock, **settings).get(URL, **arguments)
    assert mock.requests[0].deadline == clock.now + seconds


def test_redirects_share_one_deadline(clock: Clock) -> None:
    """Each of them takes a while, and together they take too long."""

    def respond(request: MockRequest) -> RawResponse:
        clock.now += 0.15
        return redirect("/again")

    mock = MockTransport(respond)
    http = client_over(mock)
    started = clock.now
    assert http.get(URL, timeout=0.4) is None
    assert [request.deadline for request in mock.requests] == [started + 0.4] * 3
    assert failure_of(http).kind == "timeout"
    assert failure_of(http).elapsed == pytest.approx(0.45)


def test_retries_share_one_deadline(clock: Clock) -> None:
    """No retry begins after it, and the pauses before retries count too."""
    mock = MockTransport(TransportFailure("refused", "nothing listens there"))
    http = client_over(mock)
    started = clock.now
    assert http.get(URL, retries=1000, timeout=20) is None
    assert {request.deadline for request in mock.requests} == {started + 20}
    assert 2 < len(mock.requests) < 1000
    assert sum(clock.pauses) < 20
    assert failure_of(http).kind == "refused"


def test_timeout_is_not_retried(clock: Clock) -> None:
    """The time of the call is used up."""

    def time_out(request: MockRequest) -> RawResponse:
        clock.now = request.deadline
        raise TransportFailure("timeout", "the deadline passed")

    mock = MockTransport(time_out)
    http = client_over(mock)
    assert http.get(URL, retries=3) is None
    assert len(mock.requests) == 1
    assert failure_of(http).kind == "timeout"
