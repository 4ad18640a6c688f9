"""``zcli_core.testing.MockTransport``: installation, responses, requests and contract."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from zCLI import zCLI
from zcli_core.http.contract import Headers, HttpRequest, RawResponse, TransportFailure, Url
from zcli_core.testing import MockRequest, MockTransport, MockTransportError, make_response

URL = "https://api.example/things?q=1"


@pytest.fixture
def z(isolated: Path) -> Any:
    with zCLI({"deployment": "Testing", "http": {"max_response_bytes": 1000}}) as made:
        yield made


# --- in a zCLI object ---


def test_install_serves_every_call_of_the_object(z: zCLI) -> None:
    """The client follows redirects and keeps the last failure as over any transport."""
    mock = MockTransport([make_response(302, headers={"Location": "/there"}), make_response(json={"a": 1})]).install(z)
    found = z.comm.http_get(URL)
    assert found is not None
    assert (found.json(), found.url, found.reason) == ({"a": 1}, "https://api.example/there", "OK")
    assert [str(request.url) for request in mock.requests] == [URL, "https://api.example/there"]
    MockTransport(TransportFailure("dns", "no such host")).install(z)
    assert mock.closed
    assert z.comm.http_get(URL) is None
    assert z.comm.http.last_failure is not None
    assert z.comm.http.last_failure.kind == "dns"


def test_install_replaces_a_transport_in_use(z: zCLI, httpbin: str) -> None:
    """Also after the object has sent a request over the wire; its Accept-Encoding is renewed."""
    assert z.comm.http_get(f"{httpbin}/get")
    mock = MockTransport(make_response(), content_codings=("x-own",)).install(z)
    assert z.comm.http_get(URL)
    assert mock.requests[0].headers["Accept-Encoding"] == "x-own"


def test_install_leaves_other_objects_alone(z: zCLI, isolated: Path) -> None:
    """Two zCLI objects in one process share nothing."""
    one, other = MockTransport(make_response(201)), MockTransport(make_response(202))
    with zCLI({"deployment": "Testing"}) as another:
        one.install(z)
        other.install(another)
        found = [z.comm.http_get(URL), another.comm.http_get(URL)]
    assert [response and response.status_code for response in found] == [201, 202]
    assert (one.closed, other.closed) == (False, True)


def test_install_after_close_raises(isolated: Path) -> None:
    """As every use of a closed object does."""
    with zCLI({"deployment": "Testing"}) as z:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        MockTransport(make_response()).install(z)


# --- responses ---


def test_handler_sees_the_request_and_decides(z: zCLI) -> None:
    """A function is called for every request."""

    def respond(request: MockRequest) -> RawResponse | TransportFailure:
        if request.method == "PUT":
            return TransportFailure("reset", "returned or raised, both will do")
        if request.url.target == "/gone":
            raise TransportFailure("refused", "nothing listens there")
        return make_response(json=request.json())

    MockTransport(respond).install(z)
    found = z.comm.http_post(URL, {"a": [1, None]})
    assert found is not None
    assert found.json() == {"a": [1, None]}
    for method, url, kind in (("PUT", URL, "reset"), ("GET", "https://api.example/gone", "refused")):
        assert z.comm.http_request(method, url) is None
        assert z.comm.http.last_failure is not None
        assert z.comm.http.last_failure.kind == kind


def test_one_outcome_serves_every_request(z: zCLI) -> None:
    """The outcome is a response, or a failure that is raised each time."""
    failure = TransportFailure("dns", "no such host")
    MockTransport(failure).install(z)
    for _ in range(2):
        assert z.comm.http_get(URL) is None
    assert failure.__traceback__ is None


def test_too_few_responses_end_the_test(z: zCLI) -> None:
    """A call that the test did not expect must not look like a failed one."""
    mock = MockTransport([make_response()]).install(z)
    assert z.comm.http_get(URL)
    with pytest.raises(
        MockTransportError, match=r"no response is left for DELETE https://api\.example/: the test gave 1"
    ):
        z.comm.http_delete("https://api.example/")
    assert len(mock.requests) == 2


def test_handler_error_ends_the_test(z: zCLI) -> None:
    """A failed assert in a handler must not become a call that returned None."""

    def respond(request: MockRequest) -> RawResponse:
        assert request.method == "POST", "expected a POST"
        return make_response()

    MockTransport(respond).install(z)
    with pytest.raises(MockTransportError, match=r"raised AssertionError for GET .*: expected a POST") as caught:
        z.comm.http_get(URL)
    assert isinstance(caught.value.__cause__, AssertionError)


def test_handler_without_response_ends_the_test(z: zCLI) -> None:
    """A forgotten return, for example."""
    MockTransport(lambda request: None).install(z)  # type: ignore[arg-type, return-value]
    with pytest.raises(MockTransportError, match=r"must be what make_response\(\) returns.*got NoneType"):
        z.comm.http_get(URL)


# --- requests ---


def test_requests_are_recorded_as_they_were_sent(z: zCLI) -> None:
    """Later changes of the request, such as a new signature for a retry, do not change the record."""
    mock = MockTransport(make_response()).install(z)
    z.comm.http_post(URL, io.BytesIO(b"from a file"), headers={"X-Mine": "1"}, timeout=20)
    z.comm.http_get(URL)
    first, second = mock.requests
    assert (first.method, first.url.target, first.body, first.max_bytes) == (
        "POST",
        "/things?q=1",
        b"from a file",
        1000,
    )
    assert first.headers["x-mine"] == "1"
    assert 0 < first.deadline - time.monotonic() <= 20
    assert (second.method, second.body) == ("GET", b"")


def send(mock: MockTransport, method: str = "GET", *, seconds: float = 10.0, max_bytes: int = 100) -> RawResponse:
    request = HttpRequest(method, Url("https", "api.example", 443, "/"), Headers())
    return mock.send(request, time.monotonic() + seconds, max_bytes)


def test_request_headers_are_a_copy() -> None:
    """The client may change its own headers later."""
    mock = MockTransport(make_response())
    request = HttpRequest("GET", Url("https", "api.example", 443, "/"), Headers([("A", "1")]))
    mock.send(request, time.monotonic() + 10, 100)
    request.headers["A"] = "2"
    assert mock.requests[0].headers["A"] == "1"


# --- the contract ---


def test_passed_deadline_is_a_timeout() -> None:
    """Nothing is received, as on the wire."""
    mock = MockTransport(make_response())
    with pytest.raises(TransportFailure, match="timeout"):
        send(mock, seconds=0)
    assert mock.requests == []


def test_slow_handler_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response after the deadline is a timeout."""
    now = time.monotonic()
    moments = iter([now, now + 11])
    mock = MockTransport(make_response())
    request = HttpRequest("GET", Url("https", "api.example", 443, "/"), Headers())
    monkeypatch.setattr(
        "zcli_core.testing.mock_transport.time", type("Clock", (), {"monotonic": lambda: next(moments)})
    )
    with pytest.raises(TransportFailure, match="timeout"):
        mock.send(request, now + 10, 100)
    assert len(mock.requests) == 1


def test_body_above_max_bytes_is_too_large() -> None:
    """The largest body allowed has max_bytes bytes."""
    assert send(MockTransport(make_response(200, bytes(100)))).body == bytes(100)
    with pytest.raises(TransportFailure, match="too_large"):
        send(MockTransport(make_response(200, bytes(101))))


def test_head_has_no_body() -> None:
    """RFC 9110, section 9.3.2, whatever the handler returns for every method."""
    assert send(MockTransport(make_response(200, "text")), "HEAD").body == b""


# --- make_response ---


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (make_response(), RawResponse(200, "OK", [], b"")),
        (make_response(404, b"\0"), RawResponse(404, "Not Found", [], b"\0")),
        (make_response(299), RawResponse(299, "", [], b"")),
        (make_response(200, reason="All Right"), RawResponse(200, "All Right", [], b"")),
        (
            make_response(200, "ü"),
            RawResponse(200, "OK", [("Content-Type", "text/plain; charset=utf-8")], "ü".encode()),
        ),
        (make_response(json=None), RawResponse(200, "OK", [("Content-Type", "application/json")], b"null")),
        (
            make_response(json=[], headers={"content-type": "application/problem+json"}),
            RawResponse(200, "OK", [("content-type", "application/problem+json")], b"[]"),
        ),
        (
            make_response(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
            RawResponse(200, "OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b""),
        ),
    ],
    ids=["default", "status and body", "no usual reason", "reason", "text", "json", "own type", "repeated header"],
)
def test_make_response_fills_in_what_is_usual(response: RawResponse, expected: RawResponse) -> None:
    """Reason phrase and Content-Type."""
    assert response == expected


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"status": 99}, "status must be an integer between 200 and 599, got 99"),
        ({"status": "200"}, "status must be an integer"),
        ({"status": True}, "status must be an integer"),
        ({"body": b"x", "json": 1}, "one body"),
        ({"json": {1, 2}}, "not JSON serializable"),
        ({"headers": {"X": "a\r\nb"}}, "control character"),
        ({"headers": {"X": 5}}, "must be str, got int"),
    ],
    ids=str,
)
def test_make_response_invalid_argument_raises(arguments: dict[str, Any], why: str) -> None:
    """Where it is made, not in the call that receives it."""
    with pytest.raises((TypeError, ValueError), match=why):
        make_response(**arguments)


def test_mock_transport_needs_no_pytest(isolated: Path) -> None:
    """A script may test itself with unittest, or with nothing."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from zCLI import zCLI\n"
        "from zcli_core.testing import MockTransport, make_response\n"
        "with zCLI({'deployment': 'Testing', 'logger': 'PROD'}) as z:\n"
        "    mock = MockTransport(make_response(json=[1])).install(z)\n"
        "    print(z.comm.http_get('http://host.example/').json(), mock.requests[0].method)\n"
        "print([name for name in sys.modules if name.startswith(('zcli_urllib3.', 'zcli_core.testing.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:2] == ["[1] GET", "['zcli_core.testing.mock_transport']"]
