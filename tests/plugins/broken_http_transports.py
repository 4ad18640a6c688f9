"""The suite of HTTP transports with broken transports; test_http_contract.py runs it.

``MUST_FAIL`` of each class has the tests that must fail. No other test may fail.
"""

from __future__ import annotations

import math
import ssl
import time

import pytest
from zcli_urllib3.transport import Urllib3Transport

from zcli_core.http.contract import HttpRequest, RawResponse, TransportFailure
from zcli_core.plugins.contract import Context
from zcli_core.testing.http import base
from zcli_core.testing.http.connections import ConnectionsContract
from zcli_core.testing.http.deadlines import DeadlineContract
from zcli_core.testing.http.faults import FaultsContract
from zcli_core.testing.http.limits import LimitsContract
from zcli_core.testing.http.responses import ResponsesContract
from zcli_core.testing.http.sending import SendingContract
from zcli_core.testing.http.tls import TlsContract


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a short time only for calls that ignore their deadline."""
    monkeypatch.setattr(base, "GRACE", 0.5)


class Broken(Urllib3Transport):
    def __init__(self, context: Context) -> None:
        super().__init__(context.config.http)


class IgnoresMaxBytes(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        return super().send(request, min(deadline, time.monotonic() + 1), 2**62)


class TestIgnoresMaxBytes(LimitsContract):
    transport = IgnoresMaxBytes
    MUST_FAIL = frozenset(
        {
            "test_body_above_max_bytes_is_too_large",
            "test_body_with_limit_0_must_be_empty",
            "test_limit_holds_for_every_status",
            "test_length_above_max_bytes_is_refused_unread",
            "test_endless_body_is_too_large",
            "test_compression_bomb_is_not_inflated",
        }
    )


class DecodesFirst(Broken):
    """Checks ``max_bytes`` only after reading and decoding everything."""

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        raw = super().send(request, min(deadline, time.monotonic() + 1), max(max_bytes, 2**30))
        if len(raw.body) > max_bytes:
            raise TransportFailure("too_large", f"the body is larger than {max_bytes} bytes")
        return raw


class TestDecodesFirst(LimitsContract):
    transport = DecodesFirst
    MUST_FAIL = frozenset(
        {
            "test_length_above_max_bytes_is_refused_unread",
            "test_endless_body_is_too_large",
            "test_compression_bomb_is_not_inflated",
        }
    )


class IgnoresDeadline(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        return super().send(request, math.inf, max_bytes)


class TestIgnoresDeadline(DeadlineContract):
    transport = IgnoresDeadline
    # Nearly all tests would fail, but that would take too long.
    MUST_FAIL = frozenset(
        {
            "test_silent_server_times_out",
            "test_slow_body_of_the_caller_times_out",
            "test_silent_tls_handshake_times_out",
            "test_passed_deadline_fails_at_once",
        }
    )


class RetriesEverything(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        try:
            return super().send(request, deadline, max_bytes)
        except TransportFailure as failure:
            if failure.kind != "reset":
                raise
        return super().send(request, deadline, max_bytes)


class TestRetriesEverything(ConnectionsContract):
    transport = RetriesEverything
    MUST_FAIL = frozenset(
        {
            "test_unsafe_request_is_not_sent_again",
            "test_break_within_a_response_is_not_retried",
        }
    )


class VerifiesNoCertificate(Broken):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        contexts = self._tls.for_connection

        def for_connection(*, shows_certificate: bool = False) -> ssl.SSLContext:
            context = contexts(shows_certificate=shows_certificate)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context

        self._tls.for_connection = for_connection  # type: ignore[method-assign]


class TestVerifiesNoCertificate(TlsContract):
    transport = VerifiesNoCertificate
    MUST_FAIL = frozenset(
        {
            "test_invalid_certificate_is_refused",
            "test_common_name_is_not_compared",
            "test_only_system_authorities_are_trusted",
            "test_ca_file_replaces_the_system_authorities",
            "test_verified_connection_is_for_one_name",
        }
    )


class ShowsCertificateToAll(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        request.shows_certificate = True
        return super().send(request, deadline, max_bytes)


class TestShowsCertificateToAll(TlsContract):
    transport = ShowsCertificateToAll
    MUST_FAIL = frozenset({"test_client_certificate_needs_the_request"})


class FollowsRedirects(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        raw = super().send(request, deadline, max_bytes)
        target = dict(raw.headers).get("Location")
        if target is None or request.url.target == target:
            return raw
        url = request.url._replace(target=target)
        return super().send(HttpRequest("GET", url, request.headers), deadline, max_bytes)


class TestFollowsRedirects(ResponsesContract):
    transport = FollowsRedirects
    MUST_FAIL = frozenset({"test_redirects_are_returned"})


class AddsHeaders(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        if "user-agent" not in request.headers:
            request.headers["User-Agent"] = "broken/1.0"
        return super().send(request, deadline, max_bytes)


class TestAddsHeaders(SendingContract):
    transport = AddsHeaders
    MUST_FAIL = frozenset(
        {
            "test_no_other_header_is_added",
            "test_body_is_sent_with_every_method",
            "test_large_header_is_sent",
        }
    )


class ReturnsPartialBodies(Broken):
    """Returns partial bodies."""

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        try:
            return super().send(request, deadline, max_bytes)
        except TransportFailure as failure:
            if "before the end" in failure.message or "ends before" in failure.message:
                return RawResponse(200, "OK", [], b"half")
            raise


class TestReturnsPartialBodies(FaultsContract):
    transport = ReturnsPartialBodies
    MUST_FAIL = frozenset(
        {
            "test_body_that_ends_early_fails",
            "test_call_after_a_failure_is_unaffected",
            "test_invalid_content_coding_fails",
        }
    )


class ShowsSecrets(Broken):
    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        try:
            return super().send(request, deadline, max_bytes)
        except TransportFailure as failure:
            raise TransportFailure(failure.kind, f"{request.url}: {failure.message}") from None


class TestShowsSecrets(FaultsContract):
    transport = ShowsSecrets
    MUST_FAIL = frozenset(
        name
        for name, test in vars(FaultsContract).items()
        if name.startswith("test_") and "fails" in test.__code__.co_names
    )


class MixesResponses(Broken):
    """Returns the last response of any thread."""

    last: RawResponse | None = None

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        self.last = super().send(request, deadline, max_bytes)
        time.sleep(0.001)
        return self.last


class TestMixesResponses(ConnectionsContract):
    transport = MixesResponses
    MUST_FAIL = frozenset({"test_threads_do_not_wait_for_each_other", "test_every_thread_gets_its_own_responses"})
