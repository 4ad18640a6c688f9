"""Retries: off by default, never of a request that might be carried out twice, never beyond the deadline."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, get_args

import pytest
from http_clients import URL, Clock, client_over, failure_of

from zcli_core.http.contract import FailureKind, Headers, RawResponse, TransportFailure
from zcli_core.http.retries import retry_after
from zcli_core.testing import MockRequest, MockTransport, make_response

pytestmark = pytest.mark.usefixtures("clock")  # no test waits for a pause

BUSY = make_response(503, "busy", headers={"Retry-After": "0"})
GOOD = make_response(200, "good")
REFUSED = TransportFailure("refused", "nothing listens there")

#: Another attempt may go better.
PASSING = {"dns", "refused", "unreachable", "reset", "proxy", "protocol"}


def test_retries_are_off_by_default() -> None:
    """A response is returned and a failure is final."""
    for outcome in (BUSY, REFUSED):
        mock = MockTransport(outcome)
        client_over(mock).get(URL)
        assert len(mock.requests) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retry_after_a_passing_status(status: int) -> None:
    """Too many requests, bad gateway, unavailable, gateway timeout."""
    found = client_over([make_response(status), GOOD]).get(URL, retries=1)
    assert found is not None
    assert found.content == b"good"


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_no_retry_after_a_lasting_status(status: int) -> None:
    """The server would respond in the same way."""
    assert client_over([make_response(status)]).get(URL, retries=3)


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_retry_after_a_passing_failure_only(clock: Clock, kind: FailureKind) -> None:
    """An invalid certificate stays invalid, and a timeout has used up the time of the call."""

    def respond(request: MockRequest) -> RawResponse:
        if len(mock.requests) > 1:
            return GOOD
        if kind == "timeout":
            clock.now = request.deadline
        raise TransportFailure(kind, "why")

    mock = MockTransport(respond)
    http = client_over(mock)
    found = http.get(URL, retries=1)
    assert (found is not None) == (kind in PASSING)
    assert len(mock.requests) == (2 if kind in PASSING else 1)
    if found is None:
        assert failure_of(http).kind == kind


def test_retries_follow_the_configuration() -> None:
    """``http.retries``."""
    mock = MockTransport([REFUSED, BUSY, GOOD])
    found = client_over(mock, retries=2).get(URL)
    assert found is not None
    assert found.content == b"good"
    assert len(mock.requests) == 3


def test_retries_used_up_give_the_last_outcome() -> None:
    """The last response, or the last failure."""
    found = client_over([REFUSED, BUSY, BUSY]).get(URL, retries=2)
    assert found is not None
    assert found.status_code == 503
    http = client_over([BUSY, REFUSED])
    assert http.get(URL, retries=1) is None
    assert failure_of(http).kind == "refused"


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("settings", "arguments", "sent"),
    [
        ({}, {"retries": 2}, 1),
        ({}, {"retries": 1, "retry_all_methods": True}, 2),
        ({"retries": 1, "retry_all_methods": True}, {}, 2),
        ({"retries": 1, "retry_all_methods": True}, {"retry_all_methods": False}, 1),
    ],
    ids=["default", "argument", "configured", "argument first"],
)
def test_retry_of_post_must_be_asked_for(
    method: str, settings: dict[str, Any], arguments: dict[str, Any], sent: int
) -> None:
    """RFC 9110, section 9.2.2: the server may have carried out the first one."""
    mock = MockTransport(BUSY)
    assert client_over(mock, **settings).request(method, URL, data="x", **arguments)
    assert len(mock.requests) == sent


@pytest.mark.parametrize("all_methods", [False, True])
def test_no_retry_of_an_unrepeatable_body(all_methods: bool) -> None:
    """An iterator can be read once, so the response to the first attempt is returned."""
    mock = MockTransport(BUSY)
    assert client_over(mock).put(URL, data=iter([b"once"]), retries=2, retry_all_methods=all_methods)
    assert len(mock.requests) == 1


def test_retry_after_header_sets_the_pause(clock: Clock) -> None:
    """RFC 9110, section 10.2.3."""
    assert client_over([make_response(503, headers={"Retry-After": "7"}), GOOD]).get(URL, retries=1)
    assert clock.pauses == [7]


@pytest.mark.parametrize("seconds", [30, 3600])
def test_retry_after_beyond_the_deadline_ends_the_call(clock: Clock, seconds: int) -> None:
    """The response is returned at once."""
    found = client_over([make_response(429, headers={"Retry-After": str(seconds)})]).get(URL, retries=5, timeout=30)
    assert found is not None
    assert found.status_code == 429
    assert clock.pauses == []


def test_pauses_grow_to_a_bound(clock: Clock) -> None:
    """Each is random, below a bound that doubles from a quarter of a second to eight seconds."""
    assert client_over(REFUSED).get(URL, retries=9, timeout=1000) is None
    assert len(clock.pauses) == 9
    bounds = [min(8, 0.25 * 2**number) for number in range(9)]
    assert all(0 <= pause <= bound for pause, bound in zip(clock.pauses, bounds, strict=True))
    assert len(set(clock.pauses)) > 1


def test_retry_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """The outcome and the pause, and no query value."""
    caplog.set_level("INFO")
    assert client_over([BUSY, GOOD]).get(f"{URL}?key=hidden", retries=1)
    assert "503 Service Unavailable; trying again in 0.00 s" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("9" * 400, float("inf"))],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    """A number that is not a whole one is ignored."""
    assert retry_after(Headers([("Retry-After", value)])) == seconds


def test_retry_after_as_a_date() -> None:
    """A date that has passed means now."""

    def seconds_until(moment: datetime) -> float | None:
        return retry_after(Headers([("Retry-After", format_datetime(moment, usegmt=True))]))

    now = datetime.now(timezone.utc)
    assert seconds_until(now + timedelta(seconds=60)) == pytest.approx(60, abs=5)
    assert seconds_until(now - timedelta(days=1)) == 0
