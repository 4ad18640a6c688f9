"""An HTTP transport in memory, for tests of scripts without a network.

::

    from zCLI import zCLI
    from zcli_core.testing import MockTransport, make_response

    with zCLI({"deployment": "Testing"}) as z:
        mock = MockTransport(make_response(json={"celsius": 21})).install(z)
        assert z.comm.http_get("https://weather.example/vienna").json() == {"celsius": 21}
        assert mock.requests[0].url.target == "/vienna"

Only the transport is replaced. Arguments, redirects, retries, cookies, hooks, ``last_failure`` and the log are those of
the real client. Neither this module nor a test that uses it needs pytest.

To test how a script reacts to failures, give failures instead of responses::

    from zcli_core.http.contract import TransportFailure

    MockTransport([TransportFailure("refused", "the server is down"), make_response(503), make_response()])

To choose the response by the request, give a function::

    MockTransport(lambda request: make_response(404 if request.url.target == "/missing" else 200))
"""

from __future__ import annotations

import json as _json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from zcli_core.http.contract import HttpRequest, RawResponse, TransportFailure, check_header
from zcli_core.http.parts.bodies import BodySource

if TYPE_CHECKING:
    from zcli_core.app import zCLI

#: The outcome of a request: a response, or the failure that the transport raises.
Outcome = RawResponse | TransportFailure

_NOT_GIVEN: Any = object()


class MockTransportError(BaseException):
    """Raised for a mistake in the test: its function raised an error or returned no response, or no response is left.

    It is not an Exception, because the client turns every Exception of a transport into a failed call. The call would
    return None, and the test would not show the cause.
    """


class MockRequest(HttpRequest):
    """A request as the transport received it. Later changes by the client do not change it.

    Attributes:
        method, url, headers: Those of :class:`~zcli_core.http.contract.HttpRequest`. Headers have no Host, which real
            transports add.
        body: The whole body as bytes, also if the script gave a file or an iterable; ``b""`` without a body.
        deadline: When the call times out, as a reading of :func:`time.monotonic`.
        max_bytes: The largest decoded response body, in bytes.
    """

    __slots__ = ("deadline", "max_bytes")

    body: bytes

    def __init__(self, request: HttpRequest, deadline: float, max_bytes: int) -> None:
        body = request.body or b""
        read = body if isinstance(body, bytes) else b"".join(BodySource(request, body))
        super().__init__(request.method, request.url, request.headers.copy(), read)
        self.connect_timeout, self.read_timeout = request.connect_timeout, request.read_timeout
        self.shows_certificate = request.shows_certificate
        self.deadline = deadline
        self.max_bytes = max_bytes

    def json(self) -> Any:
        """Parse the body as JSON.

        Raises:
            json.JSONDecodeError: The body is not JSON.
        """
        return _json.loads(self.body)


class MockTransport:
    """An :class:`~zcli_core.http.contract.HttpTransport` whose responses come from a test.

    A request fails with ``timeout`` if its deadline has passed, and with ``too_large`` if the body is above
    ``max_bytes``. A response to HEAD has no body.

    Attributes:
        requests: The requests received so far, oldest first.
        closed: Whether the client has closed the transport.
    """

    def __init__(
        self,
        responses: Callable[[MockRequest], Outcome] | Outcome | Iterable[Outcome],
        *,
        content_codings: tuple[str, ...] = ("gzip", "deflate"),
    ) -> None:
        """Prepare the responses.

        Args:
            responses: A function that takes each :class:`MockRequest` and returns or raises its outcome; or one outcome
                for all requests; or an iterable of outcomes in the order of the requests. An outcome is the result of
                :func:`make_response`, or a :class:`~zcli_core.http.contract.TransportFailure`.
            content_codings: The content codings that the client sends in Accept-Encoding.

        Raises:
            TypeError: ``responses`` has another type.
        """
        self.requests: list[MockRequest] = []
        self.closed = False
        self.content_codings = content_codings
        self._respond = _handler(responses)

    def install(self, z: zCLI) -> MockTransport:
        """Send all later HTTP requests of a ``zCLI`` object to this transport; return the transport.

        Other ``zCLI`` objects are not affected.
        """
        z.comm.http.use_transport(self)
        return self

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Record a request, and return its response or raise its failure.

        Raises:
            TransportFailure: The outcome is a failure, the deadline has passed, or the body is too large.
            MockTransportError: The test has a mistake.
        """
        _check_deadline(deadline)
        received = MockRequest(request, deadline, max_bytes)
        self.requests.append(received)
        try:
            outcome = self._respond(received)
        except (TransportFailure, MockTransportError):
            raise
        except Exception as error:
            raise MockTransportError(
                f"the test's function raised {type(error).__name__} for {received.method} {received.url}: {error}"
            ) from error
        _check_deadline(deadline)
        if isinstance(outcome, TransportFailure):
            raise TransportFailure(outcome.kind, outcome.message)  # a new one, because it may be raised many times
        if not isinstance(outcome, RawResponse):
            raise MockTransportError(
                f"the response to {received.method} {received.url} must be what make_response() returns or a "
                f"TransportFailure, got {type(outcome).__name__}"
            )
        if received.method == "HEAD":
            return outcome._replace(body=b"")
        if len(outcome.body) > max_bytes:
            raise TransportFailure("too_large", f"the body is larger than {max_bytes} bytes")
        return outcome

    def close(self) -> None:
        """Set ``closed``."""
        self.closed = True


def make_response(
    status: int = 200,
    body: bytes | str = b"",
    *,
    json: Any = _NOT_GIVEN,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    reason: str | None = None,
) -> RawResponse:
    """Return a response for :class:`MockTransport`: ``make_response(404)``, ``make_response(json={"a": 1})``.

    Args:
        status: The status code, from 200 to 599.
        body: The body; str is encoded as UTF-8.
        json: Any value that JSON can hold, used instead of ``body``.
        headers: Header fields as a mapping, or as pairs if a name occurs more than once. Content-Type is added for
            ``json`` and for a str, unless it is given.
        reason: The reason phrase; by default the usual one for the status.

    Raises:
        TypeError, ValueError: An argument is invalid.
    """
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"status must be an integer between 200 and 599, got {status!r}")
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in fields:
        check_header(name, value)
    content_type = None
    if json is not _NOT_GIVEN:
        if body:
            raise ValueError("a response has only one body: give body or json, not both")
        body, content_type = _json.dumps(json), "application/json"
    elif isinstance(body, str):
        content_type = "text/plain; charset=utf-8"
    if content_type is not None and not any(name.lower() == "content-type" for name, _ in fields):
        fields.append(("Content-Type", content_type))
    if reason is None:
        try:
            reason = HTTPStatus(status).phrase
        except ValueError:  # a status without a usual phrase
            reason = ""
    return RawResponse(status, reason, fields, body.encode() if isinstance(body, str) else bytes(body))


def _handler(
    responses: Callable[[MockRequest], Outcome] | Outcome | Iterable[Outcome],
) -> Callable[[MockRequest], Outcome]:
    if callable(responses):
        return responses
    if isinstance(responses, (RawResponse, TransportFailure)):
        outcome: Outcome = responses
        return lambda request: outcome
    left = deque(responses)
    given = len(left)

    def next_outcome(request: MockRequest) -> Outcome:
        try:
            return left.popleft()
        except IndexError:
            raise MockTransportError(
                f"no response is left for {request.method} {request.url}: the test gave {given}"
            ) from None

    return next_outcome


def _check_deadline(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise TransportFailure("timeout", "the deadline passed")
