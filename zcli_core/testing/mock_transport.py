"""An HTTP transport in memory, so that a script is tested without a network.

::

    from zCLI import zCLI
    from zcli_core.testing import MockTransport, make_response

    with zCLI({"deployment": "Testing"}) as z:
        mock = MockTransport(make_response(json={"celsius": 21})).install(z)
        assert z.comm.http_get("https://weather.example/vienna").json() == {"celsius": 21}
        assert mock.requests[0].url.target == "/vienna"

Everything above the wire is the real client: arguments, redirects, retries, cookies, hooks, ``last_failure`` and the
log. Neither this module nor a test that uses it needs pytest.
"""

from __future__ import annotations

import json as _json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from zcli_core.http.contract import HttpRequest, RawResponse, TransportFailure, check_header

if TYPE_CHECKING:
    from zcli_core.app import zCLI

#: What a request leads to: a response, or the failure that the transport raises.
Outcome = RawResponse | TransportFailure

_NOT_GIVEN: Any = object()


class MockTransportError(BaseException):
    """The test is wrong: the handler raised an error, returned no response, or too few responses were given.

    Not an Exception, because the client turns every Exception of a transport into a failed call that returns None. The
    test would then go on with None and hide the cause.
    """


class MockRequest(HttpRequest):
    """A request as the transport received it; later changes by the client do not reach it.

    - ``method``, ``url``, ``headers``: those of :class:`~zcli_core.http.contract.HttpRequest`; Host, which a transport
      adds, is not among the headers
    - ``body``: the whole body as bytes, also where the script gave a file or an iterable; ``b""`` without a body
    - ``deadline``: when the call times out, as a reading of :func:`time.monotonic`
    - ``max_bytes``: the largest decoded response body, in bytes
    """

    __slots__ = ("deadline", "max_bytes")

    body: bytes

    def __init__(self, request: HttpRequest, deadline: float, max_bytes: int) -> None:
        body = request.body
        read = b"" if body is None else body if isinstance(body, bytes) else b"".join(body)
        super().__init__(request.method, request.url, request.headers.copy(), read)
        self.connect_timeout, self.read_timeout = request.connect_timeout, request.read_timeout
        self.shows_certificate = request.shows_certificate
        self.deadline = deadline
        self.max_bytes = max_bytes

    def json(self) -> Any:
        """The body read as JSON. Raises ``json.JSONDecodeError`` if it is not JSON."""
        return _json.loads(self.body)


class MockTransport:
    """An :class:`~zcli_core.http.contract.HttpTransport` whose responses come from a test.

    It keeps the contract where that makes sense without a wire: it fails with ``timeout`` when the deadline has passed
    and with ``too_large`` for a body above ``max_bytes``, and a response to HEAD has no body.
    """

    def __init__(
        self,
        responses: Callable[[MockRequest], Outcome] | Outcome | Iterable[Outcome],
        *,
        content_codings: tuple[str, ...] = ("gzip", "deflate"),
    ) -> None:
        """Prepare the responses.

        Args:
            responses: a function that is called with each :class:`MockRequest` and returns or raises its outcome; or
                one outcome for every request; or outcomes in the order of the requests. An outcome is what
                :func:`make_response` returns, or a :class:`~zcli_core.http.contract.TransportFailure`.
            content_codings: the content codings that the client names in Accept-Encoding.

        Raises:
            TypeError: ``responses`` is none of these.
        """
        #: The requests received so far, oldest first.
        self.requests: list[MockRequest] = []
        #: Whether the client has closed the transport.
        self.closed = False
        self.content_codings = content_codings
        self._respond = _handler(responses)

    def install(self, z: zCLI) -> MockTransport:
        """Have all later HTTP requests of a ``zCLI`` object come here; return the transport itself.

        Nothing else of the object changes, and no other object.
        """
        z.comm.http.use_transport(self)
        return self

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Record the request and return its response, or raise its failure."""
        _check_deadline(deadline)
        received = MockRequest(request, deadline, max_bytes)
        self.requests.append(received)
        try:
            outcome = self._respond(received)
        except (TransportFailure, MockTransportError):
            raise
        except Exception as error:
            raise MockTransportError(
                f"the handler raised {type(error).__name__} for {received.method} {received.url}: {error}"
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
    """A response for :class:`MockTransport`, as ``make_response(404)`` or ``make_response(json={"a": 1})``.

    Args:
        status: the status code, from 200 to 599.
        body: the body; str is encoded as UTF-8.
        json: any value that JSON can hold, as the body instead of ``body``.
        headers: header fields, as a mapping or as pairs where a name occurs more than once. Content-Type is added for
            ``json`` and for a str, unless it is given.
        reason: the reason phrase; the usual one of the status if not given.

    Raises:
        TypeError, ValueError: an argument cannot be used.
    """
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"status must be an integer between 200 and 599, got {status!r}")
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in fields:
        check_header(name, value)
    content_type = None
    if json is not _NOT_GIVEN:
        if body:
            raise ValueError("a response has one body: give body or json, not both")
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
                f"no response left for {request.method} {request.url}: {given} were given"
            ) from None

    return next_outcome


def _check_deadline(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise TransportFailure("timeout", "the deadline passed")
